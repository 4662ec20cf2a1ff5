"""The model repository for Triton: what is in it, and that it is never changed, only added to."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from omegaconf import DictConfig
from tritonclient.grpc import model_config_pb2

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.packaging.triton_repository import export_repository, format_parameters
from grapheme_to_phoneme.serving import triton_protocol as protocol
from grapheme_to_phoneme.serving.triton_engine import docker_command, server_options
from tests.conftest import REPOSITORY, TinyRun, run_g2p

COMPOSE_FILE = REPOSITORY / "compose.yaml"


@pytest.fixture
def settings(tmp_path: Path) -> DictConfig:
    """The configuration ``serve``, with a repository of its own."""
    return compose_config(["serve=triton", f"serve.repository={tmp_path / 'repository'}"]).serve


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
    with pytest.raises(UserError, match="choose python or onnxruntime"):
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
        .replace("${G2P_STOP_TIMEOUT_S:-30}", "30")
        .replace("${G2P_SECRET:-nobody}", "secret")
        for option in service["command"]
    }
    assert flags <= said
    assert all("127.0.0.1" in port for port in service["ports"])
    assert service["volumes"][0]["read_only"]


def test_container_gets_the_settings(settings: DictConfig) -> None:
    command = docker_command(settings, "secret", 1234)
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    given = {name for name in command.environment if name.startswith("G2P_")}
    assert all("${" + name + ":-" in text for name in given)
    assert all(name in given for name in {part.split(":-")[0] for part in text.split("${")[1:]})
    assert command.environment["G2P_HTTP_PORT"] == "1234"


def test_compose_file_is_valid() -> None:
    has_compose = shutil.which("docker") is not None and (
        subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )
    if has_compose:
        subprocess.run(
            ["docker", "compose", "--file", COMPOSE_FILE, "config", "--quiet"], check=True
        )
    content = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    (service,) = content["services"].values()
    assert {"image", "command", "volumes", "ports", "healthcheck", "shm_size"} <= set(service)
    assert [port.rpartition(":")[2] for port in service["ports"]] == ["8000", "8001", "8002"]
