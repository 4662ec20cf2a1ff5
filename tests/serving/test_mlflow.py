"""Models go into a real MLflow registry and are answered by its real scoring server.

One server of each kind is shared. The second scoring server runs in an environment that has
what a registered model asks for, and not this project.
"""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pandas
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient

from grapheme_to_phoneme import Pronouncer, Pronunciation
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.constants import PACKAGE_NAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.packaging.mlflow_model import CARRIED, save_model
from grapheme_to_phoneme.packaging.model_address import fetched_model
from grapheme_to_phoneme.serving.ports import unused_port
from tests.conftest import G2P, REPOSITORY, TinyRun, g2p_environment, run_g2p
from tests.mlflow_server import Server, running_server
from tests.test_walls import HEAVY, imported_modules, modules_after

pytestmark = pytest.mark.timeout(1200)

REAL_WORDS = 5000
FUZZED_REQUESTS = 400
JSON = "application/json"
NAME = "grapheme-to-phoneme"
ALIAS = "champion"

#: What people and programs send, besides words.
ODDITIES = [
    "O\u2019Neil",
    "\uff07tis",
    "cafe\u0301",
    "CAFÉ",
    "na\u00efve",
    "\u0130stanbul",
    "\u0149",
    "co\u00adop",
    "\u200b",
    "a\u200db",
    "\ufeffword\u200b",
    " stone ",
    "two words",
    "tab\there",
    "line\nend\r\n",
    "\u2028x\u0085",
    "stone\0",
    "\0",
    "\u0301",
    "日本語",
    "\u202eabc",
    "שלום",
    "🏳️‍🌈",
    "\x1b[31m",
    "1234",
    "1e5",
    "None",
    "nan",
    "NA",
    "null",
    "true",
    "[a]",
    '{"word": "x"}',
    '"quoted"',
    "a,b",
    "\\",
    "ﬁsh",
    "a" * 300,
    "stone" * 200,
]


@dataclass
class ScoringServer:
    """A running scoring server.

    Attributes:
        port: where it listens.
        process: the process that was started.
        log: the file with all that it says.
    """

    port: int
    process: subprocess.Popen
    log: Path

    def post(
        self, body: bytes, content_type: str | None = JSON, timeout: float = 120
    ) -> tuple[int, bytes]:
        """Send a request to `/invocations` and return the status and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {} if content_type is None else {"Content-Type": content_type}
        try:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, words: list[str], form: str = "dataframe_split", **params) -> list[dict]:
        """Ask for words in one of MLflow's forms and return the predictions."""
        request = {form: FORMS[form](words), "params": params}
        status, answer = self.post(json.dumps(request).encode())
        assert status == 200, answer
        return json.loads(answer)["predictions"]

    def ping(self) -> int | None:
        """Return the status of its health, if it answers at all."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()


FORMS = {
    "dataframe_split": lambda words: {"columns": ["word"], "data": [[word] for word in words]},
    "dataframe_records": lambda words: [{"word": word} for word in words],
    "inputs": list,
    "instances": lambda words: [{"word": word} for word in words],
}


@contextmanager
def scoring_server(
    command: list[str | Path], port: int, folder: Path, **variables: str
) -> Iterator[ScoringServer]:
    """Start a scoring server, wait until it is up, and kill what is left of it at the end."""
    log = folder / f"scoring-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=g2p_environment(MLFLOW_DISABLE_TELEMETRY="true", **variables),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = ScoringServer(port, process, log)
    try:
        deadline = time.monotonic() + 300
        while server.ping() != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def serve(folder: Path, model: str | Path, *overrides: str):
    """Run `g2p serve mlflow`."""
    port = unused_port()
    command = [G2P, "serve", "mlflow", "--model", model, f"serve.port={port}", *overrides]
    return scoring_server(command, port, folder)


def expected_rows(answers: list[Pronunciation], with_alignment: bool) -> list[dict]:
    """Return what the server must say where the library says ``answers``."""

    def fields(choice) -> dict:
        found = {"phones": " ".join(choice.phones), "probability": choice.probability}
        if with_alignment:
            found["alignment"] = [
                {"letter": letter, "phones": " ".join(phones)}
                for letter, phones in choice.alignment
            ]
        return found

    return [
        {
            "word": answer.word,
            **fields(answer),
            "alternatives": [fields(choice) for choice in answer.alternatives],
            "unknown_characters": list(answer.unknown_characters),
            "source": answer.source,
        }
        for answer in answers
    ]


def check_equal(given: list[dict], expected: list[dict]) -> None:
    """Check that all is the same, probabilities to the last digit."""
    assert given == expected


@pytest.fixture(scope="module")
def pronouncer(tiny_run: TinyRun) -> Pronouncer:
    return Pronouncer(tiny_run.model, threads=1)


@pytest.fixture(scope="module")
def real_words(cmudict_path: Path) -> list[str]:
    """Words of the real lexicon, from its whole length."""
    words = sorted({entry.spelling for entry in read_lexicon(cmudict_path, "cmudict")})
    return words[:: len(words) // REAL_WORDS][:REAL_WORDS]


@pytest.fixture(scope="module")
def saved(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's model in MLflow's form, in a folder."""
    target = tmp_path_factory.mktemp("saved") / "model"
    save_model(tiny_run.model, target, compose_config([]).serve.scoring)
    return target


@pytest.fixture(scope="module")
def bare_environment(
    saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Path]]:
    """A new environment with the model's own requirements alone; it is made on the side."""
    folder = tmp_path_factory.mktemp("environment") / "venv"

    def make() -> Path:
        python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        requirements = ["-r", saved / "requirements.txt"]
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
        return folder / "bin"

    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(make)


@pytest.fixture(scope="module")
def tracking_server(
    bare_environment: Future[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("tracking")) as server:
        yield server


@pytest.fixture(scope="module")
def trained(
    tiny_run: TinyRun, tracking_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> TinyRun:
    """A training whose end found a server: the finished run, resumed once more."""
    folder = tmp_path_factory.mktemp("resumed")
    run = shutil.copytree(tiny_run.directory, folder / "tiny")
    # What the export checks is others' to test.
    quick = ("export.parity_words=20", "export.latency_words=5")
    completed = run_g2p(
        "train", f"resume={run}", f"logger.tracking_uri={tracking_server.uri}", *quick, cwd=folder
    )
    assert completed.returncode == 0, completed.stderr.decode()
    return replace(tiny_run, folder=folder, directory=run, completed=completed)


@pytest.fixture(scope="module")
def server_settings(tracking_server: Server) -> list[str]:
    return [f"logger.tracking_uri={tracking_server.uri}"]


@pytest.fixture(scope="module")
def registered(
    tiny_run: TinyRun,
    trained: TinyRun,
    server_settings: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The address that `g2p register` gives a model file."""
    completed = run_g2p(
        "register",
        *server_settings,
        "--model",
        tiny_run.model,
        "--alias",
        ALIAS,
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    said = completed.stderr.decode()
    assert completed.returncode == 0, said
    assert said.splitlines()[-1] == f"try it: g2p serve mlflow --model models:/{NAME}/2"
    return f"models:/{NAME}/2"


@pytest.fixture(scope="module")
def server(
    registered: str, server_settings: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScoringServer]:
    """`g2p serve mlflow` on the registered model."""
    folder = tmp_path_factory.mktemp("serving")
    with serve(folder, f"models:/{NAME}@{ALIAS}", *server_settings) as running:
        yield running
        assert [path.name for path in folder.iterdir()] == [running.log.name]


# What is registered


def test_code_that_goes_along_is_whole() -> None:
    package = REPOSITORY / PACKAGE_NAME
    carried = {path for pattern in CARRIED for path in package.glob(pattern)}
    modules = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in carried
    }
    assert f"{PACKAGE_NAME}.inference.pronouncer" in modules
    for path in carried:
        for module in imported_modules(path.read_text(), ""):
            if module.startswith(f"{PACKAGE_NAME}."):
                assert {module, module.rpartition(".")[0]} & modules, path


def test_saved_model_is_complete(saved: Path) -> None:
    described = yaml.safe_load((saved / "MLmodel").read_text())
    signature = described["signature"]
    assert json.loads(signature["inputs"]) == [
        {"type": "string", "name": "word", "required": True}
    ]
    outputs = [column["name"] for column in json.loads(signature["outputs"])]
    assert outputs == [
        "word",
        "phones",
        "probability",
        "alternatives",
        "unknown_characters",
        "source",
        "alignment",
    ]
    params = {item["name"]: item["default"] for item in json.loads(signature["params"])}
    assert params == {"n_best": 1, "beam_size": None, "with_alignment": False}
    example = json.loads((saved / "serving_input_example.json").read_text())
    assert example["dataframe_split"]["columns"] == ["word"] and example["params"]["n_best"] == 2
    requirements = (saved / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", line) for line in requirements)
    assert {line.partition("==")[0] for line in requirements} == {
        "mlflow-skinny",
        "numpy",
        "onnxruntime",
        "pandas",
    }
    assert not [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pyc")]


def test_saved_model_answers_in_python(saved: Path, pronouncer: Pronouncer) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    words = ["stone", "O\u2019Neil"]
    given = model.predict(
        pandas.DataFrame({"word": words}),
        params={"n_best": 3, "beam_size": 9, "with_alignment": True},
    )
    answers = pronouncer.pronounce(words, n_best=3, beam_size=9, with_alignment=True)
    check_equal(given.to_dict(orient="records"), expected_rows(answers, with_alignment=True))


def test_training_registers_its_model(trained: TinyRun, tracking_server: Server) -> None:
    said = trained.completed.stderr.decode().splitlines()
    assert f"registered in MLflow as models:/{NAME}/1" in said
    client = MlflowClient(tracking_server.uri)
    version = client.get_model_version(NAME, "1")
    metadata = Pronouncer(trained.model).metadata
    assert version.tags["git_commit"] == metadata.git_commit
    assert float(version.tags["dev_wer"]) == metadata.scores["dev_wer"]
    assert version.description.startswith("# Model card: ")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "tiny" and run.info.status == "FINISHED"
    with fetched_model(f"runs:/{version.run_id}/model", logger_settings(tracking_server)) as path:
        names = {file.name for file in path.iterdir()}
        assert Pronouncer(path).metadata == metadata
    assert {"MODEL_CARD.md", "LICENSE", "SOURCE.md", "float32.onnx", "int8.onnx"} <= names


def test_training_without_a_server_registers_nothing(tiny_run: TinyRun) -> None:
    assert "registered" not in tiny_run.completed.stderr.decode()
    client = MlflowClient(f"sqlite:///{tiny_run.folder / 'mlflow.db'}")
    assert client.search_registered_models() == []


def test_registered_package(
    tiny_run: TinyRun, registered: str, server_settings: list[str], tmp_path: Path
) -> None:
    """A name of its own, from a package with its lexicon whose folder has a difficult name."""
    package = tmp_path / "packages" / "my #1 package, 100%"
    made = run_g2p(
        "package",
        "--run",
        "runs/tiny",
        f"package.output='{package}'",
        "package.lexicon=train",
        cwd=tiny_run.folder,
    )
    assert made.returncode == 0, made.stderr.decode()
    completed = run_g2p(
        "register",
        "--model",
        package,
        *server_settings,
        "logger.registered_model=other",
        cwd=tmp_path,
    )
    assert b"models:/other/1 is in MLflow" in completed.stderr, completed.stderr.decode()
    known = tiny_run.lexicon.train[0].spelling
    words = [known, "kubernetes"]
    options = ("--show-source", *words)
    shown = run_g2p(
        "infer", "--model", "models:/other/1", "--overrides", *server_settings, *options
    )
    assert shown.stdout == run_g2p("infer", "--model", package, *options).stdout
    lines = shown.stdout.decode().splitlines()
    assert [line.rpartition("\t")[2] for line in lines] == ["lexicon", "model"]
    mlflow.set_tracking_uri(server_settings[0].partition("=")[2])
    given = mlflow.pyfunc.load_model("models:/other/1").predict(pandas.DataFrame({"word": words}))
    answers = Pronouncer(package).pronounce(words)
    check_equal(given.to_dict(orient="records"), expected_rows(answers, with_alignment=False))


# Addresses


def logger_settings(tracking_server: Server):
    return compose_config([f"logger.tracking_uri={tracking_server.uri}"]).logger


@pytest.mark.parametrize("address", ["models:/{name}/2", "models:/{name}@{alias}"])
def test_infer_takes_an_address(
    tiny_run: TinyRun, registered: str, server_settings: list[str], address: str
) -> None:
    model = address.format(name=NAME, alias=ALIAS)
    words = ["stone", "kitten", "O\u2019Neil"]
    options = ("--n-best", "2", "--show-alignment")
    by_address = run_g2p(
        "infer", "--model", model, "--overrides", *server_settings, *options, *words
    )
    by_file = run_g2p("infer", "--model", tiny_run.model, *options, *words)
    assert by_address.stdout == by_file.stdout != b""
    assert (by_address.stderr, by_address.returncode) == (b"", 0)


def test_triton_takes_an_address(
    tiny_run: TinyRun, registered: str, server_settings: list[str], tmp_path: Path
) -> None:
    settings = [*server_settings, "serve.backend=python"]
    exported = run_g2p("export-triton", "--model", registered, *settings, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr.decode()
    package = tmp_path / ".triton" / "repository" / "g2p" / "1" / "package"
    assert (package / "model.onnx").read_bytes() == tiny_run.model.read_bytes()
    assert (package / "MODEL_CARD.md").is_file()


def test_address_of_a_file(trained: TinyRun, tracking_server: Server) -> None:
    run_id = MlflowClient(tracking_server.uri).get_model_version(NAME, "1").run_id
    with fetched_model(f"runs:/{run_id}/model.onnx", logger_settings(tracking_server)) as path:
        assert path.read_bytes() == trained.model.read_bytes()
    assert not path.exists()


@pytest.mark.parametrize(
    "address",
    [
        "models:/nothing/1",
        "models:/",
        f"models:/{NAME}/99",
        f"models:/{NAME}@no",
        "runs:/no/model",
    ],
)
def test_nothing_at_the_address(registered: str, tracking_server: Server, address: str) -> None:
    with pytest.raises(UserError, match="cannot fetch") as caught:
        with fetched_model(address, logger_settings(tracking_server)):
            pass
    assert "\n" not in str(caught.value) and address in str(caught.value)


def test_another_kind_of_model(registered: str, tracking_server: Server, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "import mlflow\n"
        "class Other(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: list[str], params=None) -> list[str]:\n"
        "        return model_input\n"
        "mlflow.models.set_model(Other())\n"
    )
    mlflow.set_tracking_uri(tracking_server.uri)
    logged = mlflow.pyfunc.log_model(
        name="other", python_model=str(script), pip_requirements=["numpy"]
    )
    with pytest.raises(UserError, match="none that `g2p register`"):
        with fetched_model(logged.model_uri, logger_settings(tracking_server)):
            pass


def test_changed_byte_in_the_store_is_refused(
    registered: str, tracking_server: Server, server_settings: list[str]
) -> None:
    source = MlflowClient(tracking_server.uri).get_model_version(NAME, "1").source
    (folder,) = (Path(tracking_server.store.removeprefix("sqlite:///")).parent).glob(
        f"artifacts/**/{source.rpartition('/')[2]}"
    )
    (path,) = folder.rglob("package/int8.onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    completed = run_g2p(
        "infer", "--model", f"models:/{NAME}/1", "--overrides", *server_settings, "stone"
    )
    assert completed.returncode == 2 and completed.stdout == b""
    assert b"int8.onnx is not what it was" in completed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "--model", "models:/some/1", "stone"),
        ("serve", "mlflow", "--model", "model.onnx"),
        ("register", "--model", "model.onnx"),
    ],
)
def test_without_the_extra(arguments: tuple[str, ...], tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['mlflow'] = None; sys.argv = ['g2p', *sys.argv[1:]];"
        "from grapheme_to_phoneme.commands import main; main()"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=g2p_environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 3
    assert completed.stderr == (
        "g2p: error: this command needs mlflow: pip install 'grapheme-to-phoneme[tracking]'\n"
    )


def test_serving_needs_no_torch(tiny_run: TinyRun) -> None:
    """Both stop right before MLflow would be loaded."""
    absent = f"http://127.0.0.1:{unused_port()}"
    model = ("--model", str(tiny_run.model))
    for arguments in (
        ("register", *model, f"logger.tracking_uri={absent}"),
        ("serve", "mlflow", *model, "serve.port=99999"),
    ):
        status, modules = modules_after(*arguments)
        assert status in (2, 3)
        assert PACKAGE_NAME in modules and not modules & HEAVY


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("infer", "--model", "models:/some/1", "stone"), 3, "no MLflow server answers at"),
        (("register", "--model", "{model}"), 3, "no MLflow server answers at"),
        (("register", "--model", "nothing.onnx"), 2, "there is no model file nothing.onnx"),
        (("register", "--model", "one", "--run", "other"), 2, "not both"),
        (("register", "--run", "nothing"), 2, "nothing is no training run"),
        (("serve",), 2, "say which server to run: g2p serve mlflow"),
        (("serve", "apache"), 2, "say which server to run: g2p serve mlflow"),
        (("serve", "mlflow", "--model", "nothing.onnx"), 2, "there is no model file nothing"),
        (("serve", "mlflow", "serve.port=many"), 2, "serve.port takes a whole number"),
        (("serve", "mlflow", "--model", "{model}", "serve.port=99999"), 2, "must be 1 to"),
    ],
)
def test_mistakes_are_told_in_a_line(
    tiny_run: TinyRun, arguments: tuple[str, ...], status: int, told: str, tmp_path: Path
) -> None:
    words = [word.format(model=tiny_run.model) for word in arguments]
    if arguments[0] != "serve":
        absent = f"logger.tracking_uri=http://127.0.0.1:{unused_port()}"
        words += ["--overrides", absent] if arguments[0] == "infer" else [absent]
    completed = run_g2p(*words, cwd=tmp_path)
    said = completed.stderr.decode()
    assert completed.returncode == status, said
    assert said.startswith("g2p: error: ") and told in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Answers


def test_answers_are_the_librarys(
    server: ScoringServer, pronouncer: Pronouncer, real_words: list[str]
) -> None:
    given = []
    sizes = [1, 7, 64, 1000]
    start = 0
    while start < len(real_words):
        batch = real_words[start : start + sizes[0]]
        given += server.ask(batch)
        start += len(batch)
        sizes = sizes[1:] + sizes[:1]
    assert len(given) == REAL_WORDS
    check_equal(given, expected_rows(pronouncer.pronounce(real_words), with_alignment=False))


@pytest.mark.parametrize("form", FORMS)
def test_oddities_in_every_form(server: ScoringServer, pronouncer: Pronouncer, form: str) -> None:
    params = {"n_best": 3, "with_alignment": True}
    expected = expected_rows(pronouncer.pronounce(ODDITIES, **params), with_alignment=True)
    check_equal(server.ask(ODDITIES, form, **params), expected)
    check_equal([row for word in ODDITIES for row in server.ask([word], form, **params)], expected)


def test_beam_of_ones_own(server: ScoringServer, pronouncer: Pronouncer) -> None:
    params = {"n_best": 2, "beam_size": 12}
    answers = pronouncer.pronounce(["stone", "kitten"], **params)
    check_equal(server.ask(["stone", "kitten"], **params), expected_rows(answers, False))


def test_tables(server: ScoringServer, pronouncer: Pronouncer) -> None:
    status, answer = server.post("word\nstone\nnaïve\n".encode(), "text/csv")
    assert status == 200
    answers = pronouncer.pronounce(["stone", "naïve"])
    check_equal(json.loads(answer)["predictions"], expected_rows(answers, False))


def test_request_in_the_readme(server: ScoringServer, pronouncer: Pronouncer) -> None:
    text = (REPOSITORY / "README.md").read_text()
    (command,) = re.findall(
        r"^curl \S*http://127\.0\.0\.1:5001/invocations(?:.*\\\n)*.*", text, re.M
    )
    words = shlex.split(command)
    content_type = words[words.index("--header") + 1].partition(": ")[2]
    body = words[words.index("--data") + 1]
    status, answer = server.post(body.encode(), content_type)
    assert status == 200
    request = json.loads(body)
    answers = pronouncer.pronounce(request["inputs"], **request["params"])
    check_equal(json.loads(answer)["predictions"], expected_rows(answers, False))


# Bad requests

LONG = "a" * 100_000


@pytest.mark.parametrize(
    ("body", "content_type", "status", "told"),
    [
        (b'{"dataframe_records": [{"wort": "a"}]}', JSON, 400, "word"),
        (b'{"dataframe_split": {"columns": ["wort"], "data": [["a"]]}}', JSON, 400, "word"),
        (b'{"dataframe_records": [{"word": 3}]}', JSON, 400, "word 0 is missing or no text"),
        (b'{"dataframe_records": [{"word": "a"}, {"word": 3.5}]}', JSON, 400, "word 1 is"),
        (b'{"dataframe_records": [{"word": "a"}, {"word": null}]}', JSON, 400, "word 1 is"),
        (b'{"dataframe_records": [{"word": "a"}, {}]}', JSON, 400, "word 1 is"),
        (b'{"dataframe_records": [{"word": ["a"]}]}', JSON, 400, "word 0 is"),
        (b'{"inputs": [3]}', JSON, 400, "word 0 is"),
        (b'{"inputs": ["a", true]}', JSON, 400, "word 1 is"),
        (b'{"inputs": "stone"}', JSON, 400, "inputs must be words"),
        (b'{"inputs": {"wort": ["stone"]}}', JSON, 400, "inputs must be words"),
        (b'{"instances": [{"word": 3}]}', JSON, 400, "word 0 is"),
        (b'{"instances": [{"wort": "a"}]}', JSON, 400, "word 0 is"),
        (b'{"dataframe_records": []}', JSON, 400, "word"),
        (b'{"dataframe_split": {"columns": ["word"], "data": []}}', JSON, 400, "no words"),
        (b'{"inputs": []}', JSON, 400, "no words"),
        (b"word\n", "text/csv", 400, "no words"),
        (b'{"inputs": ["stone", ""]}', JSON, 400, "word 1 is empty"),
        (b'{"inputs": [" \\n"]}', JSON, 400, "word 0 is empty"),
        (json.dumps({"inputs": [LONG]}).encode(), JSON, 400, "100000 characters, more than 1024"),
        (json.dumps({"inputs": ["a"] * 10_001}).encode(), JSON, 400, "10001 words are more"),
        (b'{"inputs": ["' + b"a" * 9_000_000 + b'"]}', JSON, 413, "8388608 bytes"),
        (b'{"inputs": ["\xff\xfe"]}', JSON, 400, "UnicodeDecodeError"),
        (b"word\n\xff\n", "text/csv", 400, "UTF-8"),
        (b'{"inputs": ["\\ud800"]}', JSON, 400, "surrogate"),
        (b'{"inputs": ["a"], "params": {"n_best": 0}}', JSON, 400, "n_best must be from 1 to 16"),
        (b'{"inputs": ["a"], "params": {"n_best": 1e9}}', JSON, 400, "n_best"),
        (b'{"inputs": ["a"], "params": {"n_best": "2"}}', JSON, 400, "n_best"),
        (b'{"inputs": ["a"], "params": {"beam_size": 65}}', JSON, 400, "beam_size must be"),
        (b'{"inputs": ["a"], "params": {"n_best": 3, "beam_size": 2}}', JSON, 400, "at least"),
        (b'{"inputs": ["a"], "params": {"nbest": 2}}', JSON, 400, "unknown keys: nbest"),
        (b'{"inputs": ["a"], "parameters": {}}', JSON, 400, "unknown keys: parameters"),
        (b'{"inputs": ["a"], "params": [1]}', JSON, 400, ""),
        (b'{"inputs": ["a"], "instances": ["a"]}', JSON, 400, "one of"),
        (b"{}", JSON, 400, "one of"),
        (b"[]", JSON, 400, "must be an object"),
        (b"", JSON, 400, "cannot be read"),
        (b"word", JSON, 400, "cannot be read"),
        (b"[" * 100_000, JSON, 400, "RecursionError"),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", JSON, 400, ""),
        (b'{"inputs": [' + b"1" * 10_000 + b"]}", JSON, 400, "cannot be read"),
        (b'{"inputs": ["a"]}', None, 415, "Content-Type"),
        (b'{"inputs": ["a"]}', "text/plain", 415, ""),
        (b'{"inputs": ["a"]}', "application/json; charset=latin-1", 415, "UTF-8"),
        (b"nothing", "application/vnd.apache.parquet", 400, "Parquet"),
    ],
)
def test_bad_requests_are_refused(
    server: ScoringServer,
    pronouncer: Pronouncer,
    body: bytes,
    content_type: str | None,
    status: int,
    told: str,
) -> None:
    given, answer = server.post(body, content_type)
    assert given == status, answer
    assert told in answer.decode()
    check_equal(server.ask(["stone"]), expected_rows(pronouncer.pronounce(["stone"]), False))


def test_other_methods_and_paths(server: ScoringServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for method, path, status in (("GET", "/invocations", 405), ("POST", "/nothing", 404)):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(st.sampled_from(["word", "columns", "data", "index", "x"]), children),
    max_leaves=8,
)
REQUESTS = st.dictionaries(
    st.sampled_from([*FORMS, "params", "messages", "word"]), VALUES, min_size=1, max_size=2
)
BODIES = st.binary(max_size=60) | REQUESTS.map(lambda request: json.dumps(request).encode())
CONTENT_TYPES = st.sampled_from([JSON] * 6 + ["text/csv", "application/vnd.apache.parquet", ""])


@settings(max_examples=FUZZED_REQUESTS)
@given(body=BODIES, content_type=CONTENT_TYPES)
def test_nothing_that_is_sent_is_a_servers_error(
    server: ScoringServer, body: bytes, content_type: str
) -> None:
    status, answer = server.post(body, content_type)
    assert status == 200 or 400 <= status < 500, answer


def test_good_request_after_all_that(server: ScoringServer, pronouncer: Pronouncer) -> None:
    check_equal(server.ask(["stone"]), expected_rows(pronouncer.pronounce(["stone"]), False))
    assert "Traceback" not in server.log.read_text()


# Operation


def descendants(process: int) -> list[int]:
    """Return the living processes below one, children first."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def test_stop_answers_what_is_in_flight(
    tiny_run: TinyRun, pronouncer: Pronouncer, real_words: list[str], tmp_path: Path
) -> None:
    """A model file, three requests at once at most, and SIGTERM while two are being answered."""
    words = real_words[:2000]
    options = {"n_best": 8, "beam_size": 16}
    body = json.dumps({"inputs": words, "params": options}).encode()
    expected = expected_rows(pronouncer.pronounce(words, **options), with_alignment=False)
    with serve(tmp_path, tiny_run.model, "serve.concurrent_requests=3") as running:
        taken = run_g2p("serve", "mlflow", "--model", tiny_run.model, f"serve.port={running.port}")
        assert taken.returncode == 2 and b"cannot listen on 127.0.0.1" in taken.stderr
        children = descendants(running.process.pid)
        assert children

        def insist() -> tuple[int, bytes]:
            """Ask until it is not the questions below that take the last place."""
            while (answer := running.post(body))[0] == 503:
                time.sleep(0.02)
            return answer

        with ThreadPoolExecutor(2) as executor:
            answers = [executor.submit(insist) for _ in range(2)]
            # While both are in flight there is never a place for a third, however often it asks.
            refused = 0
            while refused < 5:
                refused = refused + 1 if running.ping() == 503 else 0
                assert not any(future.done() for future in answers)
                time.sleep(0.01)
            running.process.send_signal(signal.SIGTERM)
            for future in answers:
                status, answer = future.result()
                assert status == 200, answer
                check_equal(json.loads(answer)["predictions"], expected)
        assert running.process.wait(timeout=60) == 0
        assert not [child for child in children if Path(f"/proc/{child}/exe").exists()]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), timeout=5)


def test_killed_scoring_process_ends_the_command(tiny_run: TinyRun, tmp_path: Path) -> None:
    with serve(tmp_path, tiny_run.model) as running:
        os.kill(descendants(running.process.pid)[-1], signal.SIGKILL)
        assert running.process.wait(timeout=60) == 2
        assert running.ping() is None
        assert "g2p: error: the server ended by itself" in running.log.read_text()


def test_model_serves_where_the_project_is_not_installed(
    bare_environment: Future[Path],
    registered: str,
    tracking_server: Server,
    pronouncer: Pronouncer,
    tmp_path: Path,
) -> None:
    """MLflow's own command, in an environment with the model's requirements alone."""
    programs = bare_environment.result()
    installed = [programs / "python", "-c", f"import {PACKAGE_NAME}"]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    failed = subprocess.run(installed, cwd=tmp_path, env=outside, capture_output=True)
    assert b"ModuleNotFoundError" in failed.stderr
    port = unused_port()
    command = [programs / "mlflow", "models", "serve", "-m", registered, "-p", str(port)]
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "MLFLOW_TRACKING_URI": tracking_server.uri,
    }
    with scoring_server(
        [*command, "--env-manager", "local"], port, tmp_path, **variables
    ) as running:
        params = {"n_best": 2, "with_alignment": True}
        words = [*ODDITIES, "stone", "kitten"]
        expected = expected_rows(pronouncer.pronounce(words, **params), with_alignment=True)
        check_equal(running.ask(words, **params), expected)
        assert running.post(b'{"inputs": [3]}')[0] == 400
        assert running.post(b"[" * 100_000)[0] == 400
        assert running.post(b'{"inputs": ["a"]}', None)[0] == 415
