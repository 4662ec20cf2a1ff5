"""The data's storage: the one module that knows DVC.

Nothing here fails for want of DVC, of a repository or of a remote: a fresh clone has an
empty remote, and a user of the installed package has none of them. Every function says what
it could not do in a :class:`StorageOutcome`, and its caller goes on without.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo

LOGGER = logging.getLogger(__name__)

#: Set by DVC for the commands of a pipeline's stages.
STAGE_VARIABLE = "DVC_STAGE"

#: A file's or a folder's hash in the .dvc file beside it.
RECORDED_MD5 = re.compile(r"^- md5: ([0-9a-f]{32}(?:\.dir)?)$", re.MULTILINE)

DVC_LOGGERS = ("dvc", "dvc_data", "dvc_objects")

TELEMETRY_OFF = {"analytics": False, "check_update": False}


class StorageOutcome(NamedTuple):
    """Whether the storage did what it was asked for, and in one line why not."""

    done: bool
    reason: str = ""


def pull(paths: Sequence[Path], storage: DictConfig) -> StorageOutcome:
    """Fetch files from the DVC remote, replacing what lies in their place.

    Args:
        paths: files or folders of one repository that DVC tracks.
        storage: the configuration's ``storage`` group.

    Raises:
        UserError: if the storage's configuration is incomplete.
    """
    if not storage.pull:
        return StorageOutcome(False, "fetching is switched off by storage.pull")

    def fetch(repo: "Repo", targets: list[str]) -> None:
        repo.pull(targets=targets, force=True)

    outcome = _with_repository(paths, storage, fetch)
    missing = [path for path in paths if not path.exists()]
    if outcome.done and missing:
        return StorageOutcome(False, f"the remote does not hold {missing[0]}")
    return outcome


def keep(paths: Sequence[Path], storage: DictConfig, add_new: bool = False) -> StorageOutcome:
    """Put files under DVC and push them to the remote, so that :func:`pull` finds them.

    Args:
        paths: existing files of one repository.
        storage: the configuration's ``storage`` group.
        add_new: whether files that DVC does not track yet are added; otherwise they are an
            outcome that is not done.

    Raises:
        UserError: if the storage's configuration is incomplete.
    """
    if not storage.push:
        return StorageOutcome(False, "keeping is switched off by storage.push")

    def commit_and_push(repo: "Repo", targets: list[str]) -> None:
        from dvc.exceptions import OutputNotFoundError

        tracked_by = set()
        for target in targets:
            try:
                outputs = repo.find_outs_by_path(target)
            except OutputNotFoundError:
                if not add_new:
                    raise
                repo.add(target)
            else:
                tracked_by.update(output.stage.addressing for output in outputs)
        for stage in sorted(tracked_by):
            repo.commit(stage, force=True)
        repo.push(targets=targets)

    return _with_repository(paths, storage, commit_and_push)


def recorded_md5(path: Path) -> str | None:
    """Return the MD5 that DVC recorded for a file or folder tracked by itself, or None.

    It stands in the ``.dvc`` file beside it; DVC need not be installed. A folder's ends in
    ``.dir``.
    """
    try:
        record = path.with_name(f"{path.name}.dvc").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = RECORDED_MD5.search(record)
    return found[1] if found else None


def _with_repository(
    paths: Sequence[Path],
    storage: DictConfig,
    action: Callable[["Repo", list[str]], None],
) -> StorageOutcome:
    settings = _repository_settings(storage)
    if STAGE_VARIABLE in os.environ:
        return StorageOutcome(False, "DVC runs this command as a stage and keeps its files itself")
    # DVC compares real paths; the files themselves may be links into its cache.
    targets = [path.parent.resolve() / path.name for path in paths]
    root = _find_repository(targets[0])
    if root is None:
        return StorageOutcome(False, f"{paths[0].parent.absolute()} is in no DVC repository")
    if find_spec("dvc") is None:
        return StorageOutcome(False, "DVC is not installed (the extra 'data' brings it)")

    from dvc.exceptions import CheckoutError, DvcException
    from dvc.repo import Repo

    try:
        # DVC refuses to commit a pipeline's stage from a folder outside of the repository.
        with _quiet_dvc(), chdir(root), Repo(str(root), config=settings) as repo:
            action(repo, [str(target) for target in targets])
    except CheckoutError:
        return StorageOutcome(False, "the remote does not hold it, as is normal on a fresh clone")
    except DvcException as error:
        return StorageOutcome(False, _first_line(error))
    except Exception as error:
        # The clients of S3, Google Drive and the others raise errors of their own, without
        # a common class. None of them is a reason to stop: the data has other sources.
        LOGGER.debug("DVC failed", exc_info=True)
        return StorageOutcome(False, f"{type(error).__name__}: {_first_line(error)}")
    return StorageOutcome(True)


def _repository_settings(storage: DictConfig) -> dict[str, Any]:
    """Return what DVC's configuration files do not say, in DVC's own terms."""
    if storage.remote is None:
        return {"core": TELEMETRY_OFF}
    missing = sorted(OmegaConf.missing_keys(storage))
    if missing:
        raise UserError(
            f"storage={storage.name} needs an address: give it with "
            f"{missing[0]}={storage.example_url}"
        )
    remote = OmegaConf.to_container(storage.remote, resolve=True)
    return {
        "core": {**TELEMETRY_OFF, "remote": storage.name},
        "remote": {
            storage.name: {key: value for key, value in remote.items() if value is not None}
        },
    }


def _find_repository(path: Path) -> Path | None:
    # Without a look into DVC itself, whose import takes longer than a prediction.
    return next((parent for parent in path.parents if (parent / ".dvc").is_dir()), None)


@contextmanager
def _quiet_dvc() -> Iterator[None]:
    """Keep DVC's own warnings and bars from the terminal: the outcome says what counts."""
    levels = {name: logging.getLogger(name).level for name in DVC_LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(":") if lines else type(error).__name__
