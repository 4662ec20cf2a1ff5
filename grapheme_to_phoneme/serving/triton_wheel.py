"""The Triton server of the package nvidia-pytriton, in an environment of its own.

The package has the server and its Python backend, needs no GPU, and runs on Linux x86-64 with
glibc 2.35 or later. Its Python processes crash with NumPy 2, which is why the environment is not
the project's own.
"""

import ctypes
import fcntl
import json
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from os import defpath, environ, pathsep
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import MissingDependencyError

LOGGER = logging.getLogger(__name__)

#: What the server's files are linked against.
OLDEST_GLIBC = (2, 35)

#: The server starts a Python of these versions, and NumPy 1 exists for them.
PYTHON_VERSIONS = ("3.11", "3.12")

#: Tells what an environment was made with.
STAMP_NAME = "environment.stamp"

BACKENDS_FOLDER = "backends"
DOCKER_ADVICE = "use Docker instead: g2p serve triton serve.engine=docker"

#: Variables that would send the server's Python to packages of another environment.
PYTHON_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")

#: Asks an interpreter what it is.
INTERPRETER_FACTS = """
import json, sys, sysconfig
names = ("LIBDIR", "INSTSONAME", "Py_ENABLE_SHARED")
print(json.dumps([sys.version_info[:2], [sysconfig.get_config_var(name) for name in names]]))
"""


@dataclass(frozen=True)
class WheelServer:
    """An installed server.

    Attributes:
        binary: its program.
        backends: the folder of its backends.
        environment: the variables to run it with.
    """

    binary: Path
    backends: Path
    environment: dict[str, str]


def prepare_wheel_server(settings: DictConfig) -> WheelServer:
    """Return the server, installed into its environment where it is not there yet.

    Args:
        settings: the configuration ``serve.wheel``.

    Raises:
        MissingDependencyError: if this machine cannot run it, or it cannot be installed.
    """
    _check_machine()
    python = settings.python or sys.executable
    python_version, library = _inspect(python)
    folder = Path(settings.environment).resolve()
    # The same ONNX Runtime gives the same answers as the library.
    packages = [settings.server, settings.numpy, f"onnxruntime=={version('onnxruntime')}"]
    with _lock(folder):
        if not _is_made(folder, packages, python_version):
            _make(folder, python, packages, python_version)
        backends = _link_backend(folder, python_version)
    variables = {name: text for name, text in environ.items() if name not in PYTHON_VARIABLES}
    # The first python3 on the path is what the server's Python processes take their packages from.
    variables["PATH"] = f"{folder / 'bin'}{pathsep}{variables.get('PATH', defpath)}"
    if library is not None:
        known = variables.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = pathsep.join(filter(None, (str(library), known)))
    binary = _server_files(folder, python_version) / "bin" / "tritonserver"
    return WheelServer(binary, backends, variables)


def _check_machine() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise MissingDependencyError(
            f"the Triton server of a wheel runs on Linux x86-64, not {system} {machine}: "
            + DOCKER_ADVICE
        )
    name, text = platform.libc_ver()
    numbers = tuple(int(part) for part in text.split(".")[:2]) if name == "glibc" else (0,)
    if numbers < OLDEST_GLIBC:
        raise MissingDependencyError(
            f"the Triton server of a wheel needs glibc {'.'.join(map(str, OLDEST_GLIBC))}, "
            f"here is {name or 'another C library'} {text}: " + DOCKER_ADVICE
        )


def _inspect(python: str) -> tuple[str, Path | None]:
    """Return an interpreter's version, and the folder of its shared library.

    The folder is ``None`` where the system finds the library by itself.
    """
    try:
        shown = subprocess.run(
            [python, "-c", INTERPRETER_FACTS], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingDependencyError(
            f"{python} is no Python: name one with serve.wheel.python=PATH"
        ) from error
    (major, minor), (folder, _, _) = json.loads(shown.stdout)
    python_version = f"{major}.{minor}"
    if python_version not in PYTHON_VERSIONS:
        raise MissingDependencyError(
            f"the Triton server of a wheel needs Python {' or '.join(PYTHON_VERSIONS)}, "
            f"{python} is {python_version}: name another with serve.wheel.python=PATH, "
            "or " + DOCKER_ADVICE
        )
    library = f"libpython{python_version}.so.1.0"
    if folder and (Path(folder) / library).is_file():
        return python_version, Path(folder)
    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise MissingDependencyError(
            f"the Triton server of a wheel needs {library}, which {python} comes without: on "
            f"Debian and Ubuntu install libpython{python_version}, or " + DOCKER_ADVICE
        ) from error
    return python_version, None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time make the environment."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamp(packages: Sequence[str], python_version: str) -> str:
    return "\n".join((python_version, *packages))


def _is_made(folder: Path, packages: Sequence[str], python_version: str) -> bool:
    stamp = folder / STAMP_NAME
    return (
        stamp.is_file()
        and stamp.read_text() == _stamp(packages, python_version)
        and (folder / "bin" / "python3").exists()
    )


def _make(folder: Path, python: str, packages: Sequence[str], python_version: str) -> None:
    LOGGER.info("making the server's environment %s, once: up to a minute", folder)
    shutil.rmtree(folder, ignore_errors=True)
    server, *libraries = packages
    pip = [str(folder / "bin" / "python3"), "-m", "pip", "--quiet", "install"]
    commands = [
        [python, "-m", "venv", str(folder)],
        # Of the server's own requirements, the server itself needs none.
        [*pip, "--no-deps", server],
        [*pip, *libraries],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise MissingDependencyError(
                f"the server's environment cannot be made, `{' '.join(command)}` fails: {reason}"
            )
    (folder / STAMP_NAME).write_text(_stamp(packages, python_version))


def _server_files(folder: Path, python_version: str) -> Path:
    packages = folder / "lib" / f"python{python_version}" / "site-packages"
    return packages / "pytriton" / "tritonserver"


def _link_backend(folder: Path, python_version: str) -> Path:
    """Put the Python backend and its program for this Python together; return its parent.

    They are links: copies do not find the libraries that lie beside the originals.
    """
    files = _server_files(folder, python_version)
    backend = folder / BACKENDS_FOLDER / "python"
    backend.mkdir(parents=True, exist_ok=True)
    stub = files / "python_backend_stubs" / python_version / "triton_python_backend_stub"
    for source in (*(files / "backends" / "python").iterdir(), stub):
        link = backend / source.name
        if source.is_file() and not link.exists():
            link.symlink_to(source)
    return backend.parent
