"""What runs Triton: the command for it, with Docker or with the server of a wheel."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import MissingDependencyError, UserError

ENGINES = ("docker", "wheel")

#: What may run the model in a server; the first one does where nothing else is asked for.
BACKENDS_OF_ENGINE = {"docker": ("onnxruntime", "tensorrt"), "wheel": ("python",)}

#: With another backend than Python, a second model runs the network: what its name ends with.
RUNNERS = {"onnxruntime": "graph", "tensorrt": "engine"}

#: That an answer of Docker's may take.
DOCKER_TIMEOUT_S = 10.0

#: Interfaces are closed by a header that nobody can know.
CLOSED_HEADER = "closed"


@dataclass(frozen=True)
class Command:
    """How to start a server in the foreground.

    Attributes:
        arguments: the program and its arguments.
        environment: its variables.
        has_stubs: whether the processes with the model are children of the server here.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str]
    has_stubs: bool


def choose_engine(settings: DictConfig) -> str:
    """Return what is to run the server: ``docker`` or ``wheel``.

    Args:
        settings: the configuration ``serve``.

    Raises:
        MissingDependencyError: if Docker is asked for and does not answer.
        UserError: if there is no such engine.
    """
    if settings.engine not in (*ENGINES, "auto"):
        raise UserError(f"unknown engine '{settings.engine}': choose docker, wheel or auto")
    if settings.engine == "wheel":
        return "wheel"
    obstacle = _docker_obstacle(settings)
    if obstacle is None:
        return "docker"
    if settings.engine == "docker":
        raise MissingDependencyError(f"{obstacle}: or use serve.engine=wheel")
    return "wheel"


def choose_backend(settings: DictConfig, engine: str, has_plan: bool) -> str:
    """Return what is to run the model in a server of that engine.

    Args:
        settings: the configuration ``serve``.
        engine: ``docker`` or ``wheel``.
        has_plan: whether there is a TensorRT engine of the model.

    Raises:
        UserError: if the engine has not the one that is asked for.
    """
    backends = BACKENDS_OF_ENGINE[engine]
    if settings.backend == "auto":
        return "tensorrt" if has_plan and "tensorrt" in backends else backends[0]
    if settings.backend not in backends:
        known = " or ".join(backends)
        raise UserError(
            f"serve.engine={engine} runs serve.backend={known}, not {settings.backend}"
        )
    return settings.backend


def server_options(
    settings: DictConfig,
    models: Sequence[str],
    secret: str,
    ports: tuple[int, int, int],
    host: str,
) -> list[str]:
    """Return the options of ``tritonserver`` that are the same for every engine.

    Args:
        settings: the configuration ``serve``.
        models: the models to load.
        secret: what opens the closed interfaces.
        ports: those of HTTP, gRPC and metrics.
        host: where gRPC and metrics listen.
    """
    http, grpc, metrics = ports
    closed = ",".join(settings.closed_interfaces)
    options = {
        # Versions are loaded when somebody says so, and stay where the new one cannot be loaded.
        "model-control-mode": "explicit",
        # A version that was refused leaves the server ready: the one before it is there.
        "strict-readiness": "false",
        "exit-timeout-secs": settings.stop_timeout_s,
        "allow-gpu-metrics": "false",
        "pinned-memory-pool-byte-size": 0,
        "log-format": "ISO8601",
        "http-port": http,
        "grpc-address": host,
        "grpc-port": grpc,
        "metrics-address": host,
        "metrics-port": metrics,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    arguments += [f"--load-model={name}" for name in models]
    if closed:
        arguments += [
            f"--http-restricted-api={closed}:{CLOSED_HEADER}={secret}",
            f"--grpc-restricted-protocol={closed}:{CLOSED_HEADER}={secret}",
        ]
    return arguments


def docker_command(
    settings: DictConfig, models: Sequence[str], secret: str, http_port: int
) -> Command:
    """Return the command that runs the official container, as ``compose.yaml`` describes it.

    Args:
        settings: the configuration ``serve``.
        models: the models to load, first the one that runs the network.
        secret: what opens the closed interfaces.
        http_port: where Triton's own HTTP interface is to be on this machine.
    """
    runner = models[0].removeprefix(f"{settings.name}_")
    files = [settings.docker.compose_file]
    if runner == RUNNERS["tensorrt"]:
        files.append(settings.docker.gpu_compose_file)
    variables = {
        **os.environ,
        "G2P_IMAGE": settings.docker.image,
        "G2P_REPOSITORY": str(Path(settings.repository).resolve()),
        "G2P_MODEL": settings.name,
        "G2P_RUNNER": runner,
        "G2P_HOST": settings.host,
        "G2P_HTTP_HOST": "127.0.0.1",
        "G2P_HTTP_PORT": str(http_port),
        "G2P_GRPC_PORT": str(settings.grpc_port),
        "G2P_METRICS_PORT": str(settings.metrics_port),
        "G2P_SECRET": secret,
        "G2P_STOP_TIMEOUT_S": str(settings.stop_timeout_s),
    }
    arguments = (
        # It runs in the model repository's folder.
        *("docker", "compose", *(f"--file={Path(file).resolve()}" for file in files), "up"),
        *("--no-log-prefix", "--no-color", "--force-recreate", "--abort-on-container-exit"),
    )
    return Command(arguments, variables, has_stubs=False)


def _docker_obstacle(settings: DictConfig) -> str | None:
    """Return what keeps Docker from running the server; nothing where nothing does."""
    if shutil.which("docker") is None:
        return "there is no docker"
    questions = {
        ("docker", "info"): "no Docker engine answers",
        ("docker", "compose", "version"): "Docker has no compose plugin",
    }
    for question, obstacle in questions.items():
        try:
            done = subprocess.run(question, capture_output=True, timeout=DOCKER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return obstacle
        if done.returncode:
            return obstacle
    if not Path(settings.docker.compose_file).is_file():
        return f"there is no {settings.docker.compose_file}, which the project's repository has"
    return None
