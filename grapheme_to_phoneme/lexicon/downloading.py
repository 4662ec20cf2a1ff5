"""Obtaining the raw lexicon: from the DVC remote, its open source or a package registry."""

import hashlib
import logging
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.request import urlopen

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import storage
from grapheme_to_phoneme.lexicon.files import replacing, sha256_of

LOGGER = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16


class SourceFailed(Exception):
    """One place could not give the data; the next one is asked."""


def download_data(config: DictConfig) -> Path:
    """Return the raw lexicon's file, obtained from the first place that has it.

    The places are those of ``data.download.sources``. Bytes that do not have the recorded
    size and SHA-256 are never put in the file's place. What comes from outside is put under
    DVC where there is a DVC repository.

    Args:
        config: the whole configuration; ``data`` and ``storage`` are used.

    Raises:
        UserError: if no place has the file, with what each of them answered, or if the file
            given by ``data.raw_path`` is not the recorded one.
    """
    data = config.data
    if data.source != "download":
        raise UserError(
            f"data={data.name} has nothing to download: its files are the ones you name. "
            "Say data=cmudict for the lexicon that is obtained for you"
        )
    if data.raw_path is not None:
        return _check_given_file(Path(data.raw_path), data.sha256)

    target = Path(data.download_path)
    if _is_recorded(target, data.sha256):
        LOGGER.info("%s is there already", target)
        return target
    if target.is_file():
        LOGGER.warning("%s is not the recorded file (SHA-256 differs): replacing it", target)

    failures = []
    for source in data.download.sources:
        try:
            _fetch(source, config, target)
        except SourceFailed as failure:
            LOGGER.info("not from %s: %s", _describe(source, data.download), failure)
            failures.append(f"{source}: {failure}")
            continue
        LOGGER.info("obtained %s from %s", target, _describe(source, data.download))
        if source != "dvc":
            kept = storage.keep([target], config.storage, add_new=True)
            LOGGER.info(
                "%s %s",
                target,
                "is under DVC now" if kept.done else f"not put under DVC: {kept.reason}",
            )
        return target
    raise UserError(
        f"could not obtain {data.filename} anywhere ({'; '.join(failures)}). Try again with a "
        f"network, put the file of {data.download.url} at {target}, or name it with "
        "data.raw_path=FILE"
    )


def _check_given_file(path: Path, sha256: str | None) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}: check data.raw_path")
    if sha256 is not None and not _is_recorded(path, sha256):
        raise UserError(
            f"{path} is not the recorded file (its SHA-256 is {sha256_of(path)}, not {sha256}): "
            "give the recorded one, or say data.sha256=null data.split_sha256=null to use it"
        )
    return path


def _is_recorded(path: Path, sha256: str | None) -> bool:
    try:
        return path.is_file() and (sha256 is None or sha256_of(path) == sha256)
    except OSError:
        return False


def _describe(source: str, download: DictConfig) -> str:
    return {
        "dvc": "the DVC remote",
        "https": download.url,
        "package": f"the package {download.package.name} {download.package.version}",
    }[source]


def _fetch(source: str, config: DictConfig, target: Path) -> None:
    fetchers = {"dvc": _fetch_from_dvc, "https": _fetch_from_url, "package": _fetch_from_package}
    if source not in fetchers:
        raise UserError(
            f"unknown source '{source}' in data.download.sources: "
            f"choose among {', '.join(fetchers)}"
        )
    fetchers[source](config, target)


def _fetch_from_dvc(config: DictConfig, target: Path) -> None:
    outcome = storage.pull([target], config.storage)
    if not outcome.done:
        raise SourceFailed(outcome.reason)
    if not _is_recorded(target, config.data.sha256):
        target.unlink()
        raise SourceFailed("the remote holds another file than the recorded one")


def _fetch_from_url(config: DictConfig, target: Path) -> None:
    download = config.data.download
    deadline = time.monotonic() + download.total_timeout_s
    response = _open_url(download.url, download.connect_timeout_s, download.read_timeout_s)
    with response:
        _store(_read_response(response, deadline), target, config.data)


def _open_url(url: str, connect_timeout: float, read_timeout: float) -> BinaryIO:
    """Return the opened response, or fail within ``connect_timeout`` seconds.

    Neither looking up a name nor trying a host's addresses one after the other heeds a
    socket's time-out, and on a closed network both are slow: so they run in a thread that
    is left behind when it does not answer in time.
    """
    answers: queue.SimpleQueue[BinaryIO | Exception] = queue.SimpleQueue()

    def open_it() -> None:
        try:
            answers.put(urlopen(url, timeout=read_timeout))
        except (OSError, HTTPException, ValueError) as error:
            answers.put(error)

    threading.Thread(target=open_it, daemon=True).start()
    try:
        answer = answers.get(timeout=connect_timeout)
    except queue.Empty:
        raise SourceFailed(f"no answer within {connect_timeout:g} seconds") from None
    if isinstance(answer, Exception):
        reason = str(answer.reason if type(answer) is URLError else answer)
        # What is no HTTP comes back as it was sent, line ends included.
        raise SourceFailed(f"not reachable ({' '.join(reason.split())})") from answer
    return answer


def _read_response(response: BinaryIO, deadline: float) -> Iterator[bytes]:
    while True:
        if time.monotonic() > deadline:
            raise SourceFailed("too slow")
        try:
            # read1 returns what has come, so that a trickle cannot hold up the deadline.
            chunk = response.read1(CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            raise SourceFailed(f"the connection broke off ({error})") from error
        if not chunk:
            return
        yield chunk


def _fetch_from_package(config: DictConfig, target: Path) -> None:
    package = config.data.download.package
    with tempfile.TemporaryDirectory() as folder:
        archive_path = _download_wheel(package, Path(folder))
        try:
            # The package's code has a licence of its own (GPL): it is neither run nor
            # unpacked, only the data file is read.
            with zipfile.ZipFile(archive_path) as archive, archive.open(package.member) as member:
                _store(iter(lambda: member.read(CHUNK_BYTES), b""), target, config.data)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise SourceFailed(
                f"{archive_path.name} does not hold {package.member} whole"
            ) from error


def _download_wheel(package: DictConfig, folder: Path) -> Path:
    command = [
        *_find_pip(),
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        # A source distribution's build script would be run; a wheel is only stored.
        "--only-binary=:all:",
        f"--retries={package.retries}",
        f"--timeout={package.timeout_s}",
        f"--dest={folder}",
        f"{package.name}=={package.version}",
    ]
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=package.total_timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(
            f"pip did not end within {package.total_timeout_s:g} seconds"
        ) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise SourceFailed(f"pip could not get it ({lines[-1].strip()})") from error
    except OSError as error:
        raise SourceFailed(f"pip does not start ({error})") from error
    wheel_path = next(folder.glob("*.whl"), None)
    if wheel_path is None:
        raise SourceFailed("pip brought no wheel")
    return wheel_path


def _find_pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    # uv makes environments without pip. Any pip does: the wheel fits every Python.
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise SourceFailed("this environment has no pip (python -m ensurepip brings it)")
    return [found]


def _store(chunks: Iterator[bytes], target: Path, data: DictConfig) -> None:
    """Write ``chunks`` to ``target`` if, all told, they are the recorded file."""
    from tqdm import tqdm

    size = 0
    digest = hashlib.sha256()
    with replacing(target) as stream:
        # disable=None: a bar on a terminal, nothing in a log file.
        with tqdm(
            desc=data.filename,
            total=data.size_bytes,
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as progress:
            for chunk in chunks:
                size += len(chunk)
                if data.size_bytes is not None and size > data.size_bytes:
                    raise SourceFailed(f"more than the recorded {data.size_bytes:,} bytes came")
                digest.update(chunk)
                stream.write(chunk)
                progress.update(len(chunk))
        if data.size_bytes is not None and size < data.size_bytes:
            raise SourceFailed(f"only {size:,} of {data.size_bytes:,} bytes came")
        if data.sha256 not in (None, digest.hexdigest()):
            raise SourceFailed("what came is not the recorded file (SHA-256 differs)")
