"""The model repository for Triton: what is in it, and that it is never changed, only added to."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import yaml
from google.protobuf import text_format
from omegaconf import DictConfig
from tritonclient.grpc import model_config_pb2

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import CoreAlphabets
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.packaging.engine_description import EngineDescription
from grapheme_to_phoneme.packaging.onnx_export import open_session
from grapheme_to_phoneme.packaging.triton_repository import (
    export_repository,
    find_plan,
    format_parameters,
)
from grapheme_to_phoneme.serving import triton_protocol as protocol
from grapheme_to_phoneme.serving.triton_engine import (
    Command,
    choose_backend,
    docker_command,
    server_options,
)
from tests.conftest import REPOSITORY, TinyRun, run_g2p
from tests.engines import BEAM_SIZE, PROFILE

COMPOSE_FILE = REPOSITORY / "compose.yaml"
GPU_COMPOSE_FILE = REPOSITORY / "compose.gpu.yaml"


@pytest.fixture
def settings(tmp_path: Path) -> DictConfig:
    """The configuration ``serve``, with a repository of its own."""
    overrides = [f"paths.root={REPOSITORY}", f"serve.repository={tmp_path / 'repository'}"]
    return compose_config(["serve=triton", *overrides]).serve


def read_config(folder: Path) -> model_config_pb2.ModelConfig:
    """Read a model's configuration as Triton does."""
    text = (folder / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def versions(folder: Path) -> list[str]:
    """Return the versions of a model."""
    return sorted(path.name for path in folder.iterdir() if path.name.isdecimal())


def model_of(repository: Path, version: int) -> Path:
    """Return the model file of a version."""
    return repository / "g2p" / str(version) / "package" / "model.onnx"


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_configuration(tiny_run: TinyRun, settings: DictConfig, backend: str) -> None:
    settings.instances = 3
    repository = export_repository(tiny_run.model, settings, backend)
    config = read_config(repository.path / "g2p")
    assert (config.name, config.backend, config.max_batch_size) == ("g2p", "python", 1024)
    (word,) = config.input
    assert (word.name, list(word.dims)) == ("WORD", [1])
    assert word.data_type == model_config_pb2.TYPE_STRING
    assert [output.name for output in config.output] == [
        "PHONES",
        "PROBABILITY",
        "ALIGNMENT",
        "SOURCE",
        "UNKNOWN",
    ]
    assert config.instance_group[0].count == 3
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (512, 2_000_000)
    assert config.version_policy.latest.num_versions == 1
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    metadata = ModelMetadata.from_properties(parameters, "config.pbtxt")
    assert metadata == Pronouncer(tiny_run.model).metadata
    limits = protocol.Limits.from_text(parameters[protocol.LIMITS_PARAMETER])
    assert limits == protocol.Limits(**settings.limits)


def test_graph_of_the_container(tiny_run: TinyRun, settings: DictConfig) -> None:
    repository = export_repository(tiny_run.model, settings, "onnxruntime")
    assert repository.models == ("g2p_graph", "g2p")
    config = read_config(repository.path / "g2p_graph")
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 0)
    session = Pronouncer(tiny_run.model)._session
    assert {tensor.name for tensor in config.input} == {
        tensor.name for tensor in session.get_inputs()
    }
    assert {tensor.name for tensor in config.output} == {
        tensor.name for tensor in session.get_outputs()
    }
    # What asks the graph has no model file of its own, and what is asked is warmed up.
    assert not list((repository.path / "g2p").rglob("model.onnx"))
    assert not read_config(repository.path / "g2p").model_warmup
    for warm_up in config.model_warmup:
        for value in warm_up.inputs.values():
            assert (repository.path / "g2p_graph" / "warmup" / value.input_data_file).is_file()


def test_engine_of_the_container(stand_in_engine: Path, settings: DictConfig) -> None:
    model = stand_in_engine.parents[1] / "model.onnx"
    plan = find_plan(model, settings)
    repository = export_repository(model, settings, "tensorrt", plan)
    assert repository.models == ("g2p_engine", "g2p")
    config = read_config(repository.path / "g2p_engine")
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", PROFILE.largest[0])
    file = repository.path / "g2p_engine" / "1" / config.default_model_filename
    assert file.read_bytes() == stand_in_engine.read_bytes()
    (group,) = config.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    # The tensors are the core network's, but for the dimension of the batch, which Triton adds.
    session = open_session(stand_in_engine.with_suffix(".onnx"))
    types = {
        "tensor(int64)": model_config_pb2.TYPE_INT64,
        "tensor(float)": model_config_pb2.TYPE_FP32,
    }
    for said, tensors in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in said} == {
            tensor.name: (
                types[tensor.type],
                [size if isinstance(size, int) else -1 for size in tensor.shape[1:]],
            )
            for tensor in tensors
        }
    (warm_up,) = config.model_warmup
    assert (warm_up.batch_size, *warm_up.inputs["letters"].dims) == PROFILE.typical
    # What asks it knows its alphabets, its shapes and what it cannot be asked for.
    asking = read_config(repository.path / "g2p")
    assert not list((repository.path / "g2p").rglob("model.onnx")) and not asking.model_warmup
    parameters = {name: value.string_value for name, value in asking.parameters.items()}
    alphabets = CoreAlphabets.from_properties(parameters, "config.pbtxt")
    properties = session.get_modelmeta().custom_metadata_map
    assert alphabets == CoreAlphabets.from_properties(properties, "core")
    search = protocol.Search.from_text(parameters[protocol.SEARCH_PARAMETER])
    assert (search.graph, search.profile["largest"]) == ("g2p_engine", list(PROFILE.largest))
    limits = protocol.Limits.from_text(parameters[protocol.LIMITS_PARAMETER])
    assert (limits.most_n_best, limits.most_beam_size) == (BEAM_SIZE, BEAM_SIZE)
    # Nothing new for the same engine; a new version of both for another backend.
    assert not export_repository(model, settings, "tensorrt", plan).is_new
    assert export_repository(model, settings, "onnxruntime").version == 2


def test_old_engine_is_kept_where_it_can_be_loaded(
    stand_in_engine: Path, settings: DictConfig, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(stand_in_engine.parents[1], tmp_path / "run"))
    plan = run / "core" / "float32.plan"
    kept = []
    for gpu, content in (("one", b"1"), ("one", b"2"), ("other", b"3"), ("other", b"4")):
        plan.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        described = replace(EngineDescription.read(plan), gpu=gpu, plan_sha256=sha256)
        described.write(plan)
        path = export_repository(run / "model.onnx", settings, "tensorrt", plan).path
        kept.append(read_config(path / "g2p_engine").version_policy.latest.num_versions)
    assert kept == [1, 2, 1, 2]


def test_engine_of_another_model_is_refused(
    tiny_run: TinyRun, stand_in_engine: Path, settings: DictConfig, tmp_path: Path
) -> None:
    # The variants of a model share its engines.
    export_repository(tiny_run.int8_model, settings, "tensorrt", stand_in_engine)
    assert find_plan(tiny_run.model, settings) is None
    with pytest.raises(UserError, match="has no TensorRT engine in core/ beside it"):
        export_repository(tiny_run.model, settings, "tensorrt")
    model = onnx.load(tiny_run.float32_model)
    metadata = replace(Pronouncer(tiny_run.float32_model).metadata, git_commit="another")
    onnx.helper.set_model_props(model, metadata.to_properties())
    onnx.save_model(model, tmp_path / "other.onnx")
    settings.plan = str(stand_in_engine)
    assert find_plan(tmp_path / "other.onnx", settings) == stand_in_engine
    with pytest.raises(UserError, match="is the engine of another model"):
        export_repository(tmp_path / "other.onnx", settings, "tensorrt", stand_in_engine)
    with pytest.raises(UserError, match="there is no engine"):
        export_repository(tiny_run.model, settings, "tensorrt", tmp_path / "missing.plan")


def test_backend_is_chosen(settings: DictConfig) -> None:
    assert choose_backend(settings, "docker", has_plan=True) == "tensorrt"
    assert choose_backend(settings, "docker", has_plan=False) == "onnxruntime"
    assert choose_backend(settings, "wheel", has_plan=True) == "python"
    settings.backend = "onnxruntime"
    assert choose_backend(settings, "docker", has_plan=True) == "onnxruntime"
    settings.backend = "tensorrt"
    with pytest.raises(
        UserError, match="serve.engine=wheel runs serve.backend=python, not tensor"
    ):
        choose_backend(settings, "wheel", has_plan=True)


def test_letters_and_quotes_survive(tiny_run: TinyRun) -> None:
    letters = ('"', "\\", "é", "ı", "ʼ", "\u0301", "\n", "日", "😀", "{")
    metadata = replace(Pronouncer(tiny_run.model).metadata, letters=letters)
    text = format_parameters(metadata.to_properties())
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    read = {name: value.string_value for name, value in config.parameters.items()}
    assert ModelMetadata.from_properties(read, "config") == metadata


def test_same_model_is_no_new_version(tiny_run: TinyRun, settings: DictConfig) -> None:
    first = export_repository(tiny_run.model, settings, "python")
    again = export_repository(tiny_run.model, settings, "python")
    assert (first.version, first.is_new) == (1, True)
    assert (again.version, again.is_new) == (1, False)
    assert versions(first.path / "g2p") == ["1"]


def test_other_model_is_a_new_version(tiny_run: TinyRun, settings: DictConfig) -> None:
    first = export_repository(tiny_run.int8_model, settings, "python")
    content = model_of(first.path, 1).read_bytes()
    second = export_repository(tiny_run.float32_model, settings, "python")
    assert (second.version, versions(first.path / "g2p")) == (2, ["1", "2"])
    assert model_of(first.path, 1).read_bytes() == content
    # A number is never used twice, whatever became of a version.
    shutil.rmtree(first.path / "g2p" / "1")
    assert export_repository(tiny_run.int8_model, settings, "python").version == 3
    assert not list(first.path.parent.glob("*.partial"))


def test_package_is_exported(
    tiny_run: TinyRun, package_with_lexicon: Path, settings: DictConfig
) -> None:
    backends = {"python": True, "onnxruntime": False}
    for version, (backend, has_model) in enumerate(backends.items(), 1):
        repository = export_repository(package_with_lexicon, settings, backend)
        folder = repository.path / "g2p" / str(version) / "package"
        names = {path.name for path in folder.iterdir()}
        # Its licences and its lexicon go along, and one of its models.
        assert {"LICENSE", "MODEL_CARD.md", "SOURCE.md", "lexicon.sqlite"} <= names
        assert ("model.onnx" in names) == has_model
        parameters = read_config(repository.path / "g2p").parameters
        text = parameters[protocol.SEARCH_PARAMETER].string_value
        assert protocol.Search.from_text(text).has_lexicon
    served = Pronouncer(model_of(repository.path, 1).parent)
    known = tiny_run.lexicon.train[0].spelling
    assert [answer.source for answer in served.pronounce([known, "zzzgh"])] == ["lexicon", "model"]


def test_changed_version_is_no_package(tiny_run: TinyRun, settings: DictConfig) -> None:
    path = model_of(export_repository(tiny_run.model, settings, "python").path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="not what it was"):
        Pronouncer(path.parent)


def test_bad_model_is_refused(settings: DictConfig, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(UserError, match="no ONNX model"):
        export_repository(broken, settings, "python")
    assert not Path(settings.repository).exists()
    with pytest.raises(UserError, match="choose python or onnxruntime or tensorrt"):
        export_repository(broken, settings, "tensorflow")


def test_command(tiny_run: TinyRun, tmp_path: Path) -> None:
    completed = run_g2p(
        "export-triton", "--model", tiny_run.model, "serve.backend=python", cwd=tmp_path
    )
    assert completed.returncode == 0
    assert versions(tmp_path / ".triton" / "repository" / "g2p") == ["1"]


# The container


def option_names(options: Sequence[str]) -> set[str]:
    return {option.partition("=")[0] for option in options if option.startswith("--")}


def test_container_is_started_as_the_wheel(settings: DictConfig) -> None:
    service = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"]["triton"]
    assert settings.docker.image in service["image"]
    assert service["command"][0] == "tritonserver"
    options = server_options(settings, ["g2p_graph", "g2p"], "secret", (1, 2, 3), "127.0.0.1")
    # What differs is where the ports and the repository are, which the container says otherwise.
    placed = {f"--{name}-port" for name in ("http", "grpc", "metrics")}
    placed |= {"--grpc-address", "--metrics-address"}
    assert option_names(options) - placed == option_names(service["command"]) - {
        "--model-repository"
    }
    flags = {option for option in options if option.partition("=")[0] not in placed}
    said = {
        option.replace("${G2P_MODEL:-g2p}", "g2p")
        .replace("${G2P_RUNNER:-graph}", "graph")
        .replace("${G2P_STOP_TIMEOUT_S:-30}", "30")
        .replace("${G2P_SECRET:?}", "secret")
        for option in service["command"]
    }
    assert flags <= said
    assert all("127.0.0.1" in port for port in service["ports"])
    assert service["volumes"][0]["read_only"]


def compose_files(command: Command) -> list[Path]:
    given = [argument.partition("--file=")[2] for argument in command.arguments]
    return [Path(name) for name in given if name]


def test_container_gets_the_settings(settings: DictConfig) -> None:
    command = docker_command(settings, ["g2p_graph", "g2p"], "secret", 1234)
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    given = {name for name in command.environment if name.startswith("G2P_")}
    assert all("${" + name + ":" in text for name in given)
    assert all(name in given for name in {part.split(":")[0] for part in text.split("${")[1:]})
    # A word that everybody could read here would open what is closed.
    assert "G2P_SECRET:-" not in text
    assert command.environment["G2P_HTTP_PORT"] == "1234"
    assert command.environment["G2P_RUNNER"] == "graph"
    assert compose_files(command) == [COMPOSE_FILE]


def test_container_gets_a_gpu_for_an_engine(settings: DictConfig) -> None:
    command = docker_command(settings, ["g2p_engine", "g2p"], "secret", 1234)
    assert command.environment["G2P_RUNNER"] == "engine"
    assert compose_files(command) == [COMPOSE_FILE, GPU_COMPOSE_FILE]
    services = yaml.safe_load(GPU_COMPOSE_FILE.read_text(encoding="utf-8"))["services"]
    (device,) = services["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_compose_file_is_valid() -> None:
    has_compose = shutil.which("docker") is not None and (
        subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )
    if has_compose:
        for files in ([COMPOSE_FILE], [COMPOSE_FILE, GPU_COMPOSE_FILE]):
            chosen = [f"--file={file}" for file in files]
            subprocess.run(["docker", "compose", *chosen, "config", "--quiet"], check=True)
    content = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    (service,) = content["services"].values()
    assert {"image", "command", "volumes", "ports", "healthcheck", "shm_size"} <= set(service)
    assert [port.rpartition(":")[2] for port in service["ports"]] == ["8000", "8001", "8002"]
