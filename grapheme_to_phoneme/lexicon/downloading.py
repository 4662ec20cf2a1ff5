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
from dataclasses import dataclass, replace
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.request import urlopen

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import storage
from grapheme_to_phoneme.lexicon.catalogues import find_shared_task, locate, shared_task_path
from grapheme_to_phoneme.lexicon.files import count_lines, md5_of, replacing, sha256_of

LOGGER = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16


class SourceFailed(Exception):
    """One place could not give the data; the next one is asked."""


@dataclass(frozen=True)
class WantedFile:
    """A file to obtain, and how its bytes are known to be the right ones.

    Attributes:
        target: where it goes.
        url: its open source.
        sha256: its SHA-256, or None where it is not recorded.
        size_bytes: its size, or None.
        lines: how many lines it has, or None.
    """

    target: Path
    url: str
    sha256: str | None = None
    size_bytes: int | None = None
    lines: int | None = None

    def fault(self, path: Path) -> str | None:
        """Return what tells a file from the wanted one, or None.

        Where no SHA-256 is recorded in the configuration, the hash counts that DVC recorded
        when the file was obtained for the first time.
        """
        if self.sha256 is not None:
            found = sha256_of(path)
            return None if found == self.sha256 else f"its SHA-256 is {found}, not {self.sha256}"
        if self.lines is not None:
            found_lines = count_lines(path)
            if found_lines != self.lines:
                return f"it has {found_lines:,} lines, not {self.lines:,}"
        recorded = storage.recorded_md5(self.target)
        if recorded is not None and md5_of(path) != recorded:
            return f"its MD5 is not the one in {self.target.name}.dvc, {recorded}"
        return None


def download_data(config: DictConfig) -> Path:
    """Return the raw lexicon's file, obtained from the first place that has it.

    The places are those of ``data.download.sources``. Bytes that do not have the recorded
    size and SHA-256 are never put in the file's place. What comes from outside is put under
    DVC where there is a DVC repository. Of data whose parts are files, all of them are obtained
    and their folder is returned.

    Args:
        config: the whole configuration; ``data`` and ``storage`` are used.

    Raises:
        UserError: if no place has the file, with what each of them answered, if the file
            given by ``data.raw_path`` is not the recorded one, or if ``data.language`` names
            no single lexicon.
    """
    locate(config)
    data = config.data
    if data.source == "parts":
        return obtain_parts(config)["train"].parent
    if data.source != "download":
        raise UserError(
            f"data={data.name} has nothing to download: its files are the ones you name. "
            "Say data=cmudict for the lexicon that is obtained for you"
        )
    wanted = WantedFile(
        Path(data.download_path),
        data.download.url,
        data.sha256,
        data.size_bytes,
        data.get("entries"),
    )
    if data.raw_path is not None:
        return _check_given_file(Path(data.raw_path), wanted, data)
    try:
        return _obtain(wanted, config)
    except SourceFailed as failure:
        raise UserError(
            f"could not obtain {data.filename} anywhere ({failure}). Try again with a "
            f"network, put the file of {data.download.url} at {wanted.target}, or name it with "
            "data.raw_path=FILE"
        ) from failure


def obtain_parts(config: DictConfig) -> dict[str, Path]:
    """Return the files of data whose parts are files: ``train``, ``dev`` and maybe ``test``.

    They come from ``data.root`` where it is given, else from the places of
    ``data.download.sources``. Where the test part is not to be had, the others do without it.

    Raises:
        UserError: as :func:`download_data` does.
    """
    locate(config)
    data = config.data
    lexicon = find_shared_task(data.code, data.size)
    paths = {}
    for part in ("train", "dev", "test"):
        filename = f"{data.code}_{part}.tsv"
        wanted = WantedFile(
            Path(data.download_path) / data.size / filename,
            f"{data.download.url}/{data.size}/{filename}",
            lexicon.sha256.get(part) if data.verify else None,
        )
        try:
            paths[part] = _obtain_part(wanted, part, config)
        except SourceFailed as failure:
            if part == "test":
                LOGGER.info("without a test part: no %s (%s)", filename, failure)
                continue
            raise UserError(
                f"could not obtain {filename} anywhere ({failure}). Try again with a network, put "
                f"the file of {wanted.url} at {wanted.target}, or name a folder that has it "
                "with data.root=DIR"
            ) from failure
    return paths


def _obtain_part(wanted: WantedFile, part: str, config: DictConfig) -> Path:
    data = config.data
    if data.root is None:
        return _obtain(wanted, config)
    path = shared_task_path(Path(data.root), data.code, data.size, part)
    if path is None:
        raise SourceFailed(f"data.root={data.root} has none")
    return _check_given_file(path, wanted, data)


def _obtain(wanted: WantedFile, config: DictConfig) -> Path:
    """Return the wanted file, from the first of the configured places that has it.

    Raises:
        SourceFailed: with what each place answered.
    """
    target, download = wanted.target, config.data.download
    if _is_wanted(wanted):
        LOGGER.info("%s is there already", target)
        return target
    if target.is_file():
        LOGGER.warning("%s is not the recorded file: replacing it", target)

    failures = []
    for source in download.sources:
        try:
            _fetch(source, wanted, config)
        except SourceFailed as failure:
            LOGGER.info("not from %s: %s", _describe(source, wanted, download), failure)
            failures.append(f"{source}: {failure}")
            continue
        LOGGER.info("obtained %s from %s", target, _describe(source, wanted, download))
        if source != "dvc":
            kept = storage.keep([target], config.storage, add_new=True)
            LOGGER.info(
                "%s %s",
                target,
                "is under DVC now" if kept.done else f"not put under DVC: {kept.reason}",
            )
        return target
    raise SourceFailed("; ".join(failures))


def _check_given_file(path: Path, wanted: WantedFile, data: DictConfig) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}: check data.raw_path")
    # What DVC recorded of the file that was downloaded says nothing of the user's own.
    fault = replace(wanted, target=path).fault(path)
    if fault is not None:
        release = (
            "data.sha256=null data.split_sha256=null"
            if data.get("catalogue") is None
            else "data.verify=false"
        )
        raise UserError(
            f"{path} is not the recorded file ({fault}): give the recorded one, or say {release} "
            "to use it"
        )
    return path


def _is_wanted(wanted: WantedFile) -> bool:
    try:
        return wanted.target.is_file() and wanted.fault(wanted.target) is None
    except OSError:
        return False


def _describe(source: str, wanted: WantedFile, download: DictConfig) -> str:
    if source == "package":
        return f"the package {download.package.name} {download.package.version}"
    return {"dvc": "the DVC remote", "https": wanted.url}[source]


def _fetch(source: str, wanted: WantedFile, config: DictConfig) -> None:
    fetchers = {"dvc": _fetch_from_dvc, "https": _fetch_from_url}
    if "package" in config.data.download:
        fetchers["package"] = _fetch_from_package
    if source not in fetchers:
        raise UserError(
            f"unknown source '{source}' in data.download.sources: "
            f"choose among {', '.join(fetchers)}"
        )
    fetchers[source](wanted, config)


def _fetch_from_dvc(wanted: WantedFile, config: DictConfig) -> None:
    outcome = storage.pull([wanted.target], config.storage)
    if not outcome.done:
        raise SourceFailed(outcome.reason)
    if not _is_wanted(wanted):
        wanted.target.unlink()
        raise SourceFailed("the remote holds another file than the recorded one")


def _fetch_from_url(wanted: WantedFile, config: DictConfig) -> None:
    download = config.data.download
    deadline = time.monotonic() + download.total_timeout_s
    response = _open_url(wanted.url, download.connect_timeout_s, download.read_timeout_s)
    with response:
        _store(_read_response(response, deadline, download.most_bytes), wanted)


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


def _read_response(response: BinaryIO, deadline: float, most_bytes: int) -> Iterator[bytes]:
    size = 0
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
        size += len(chunk)
        if size > most_bytes:
            raise SourceFailed(f"more than {most_bytes:,} bytes came")
        yield chunk


def _fetch_from_package(wanted: WantedFile, config: DictConfig) -> None:
    package = config.data.download.package
    with tempfile.TemporaryDirectory() as folder:
        archive_path = _download_wheel(package, Path(folder))
        try:
            # The package's code has a licence of its own (GPL): it is neither run nor
            # unpacked, only the data file is read.
            with zipfile.ZipFile(archive_path) as archive, archive.open(package.member) as member:
                _store(iter(lambda: member.read(CHUNK_BYTES), b""), wanted)
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


def _store(chunks: Iterator[bytes], wanted: WantedFile) -> None:
    """Write ``chunks`` to the target if, all told, they are the wanted file."""
    from tqdm import tqdm

    size = 0
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    lines = 0
    with replacing(wanted.target) as stream:
        # disable=None: a bar on a terminal, nothing in a log file.
        with tqdm(
            desc=wanted.target.name,
            total=wanted.size_bytes,
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as progress:
            for chunk in chunks:
                size += len(chunk)
                lines += chunk.count(b"\n")
                if wanted.size_bytes is not None and size > wanted.size_bytes:
                    raise SourceFailed(f"more than the recorded {wanted.size_bytes:,} bytes came")
                for digest in digests.values():
                    digest.update(chunk)
                stream.write(chunk)
                progress.update(len(chunk))
        if wanted.size_bytes is not None and size < wanted.size_bytes:
            raise SourceFailed(f"only {size:,} of {wanted.size_bytes:,} bytes came")
        if wanted.sha256 is not None:
            if digests["sha256"].hexdigest() != wanted.sha256:
                raise SourceFailed("what came is not the recorded file (SHA-256 differs)")
            return
        if wanted.lines not in (None, lines):
            raise SourceFailed(f"{lines:,} lines came, not the recorded {wanted.lines:,}")
        if storage.recorded_md5(wanted.target) not in (None, digests["md5"].hexdigest()):
            raise SourceFailed("what came is not the file that DVC recorded (MD5 differs)")
