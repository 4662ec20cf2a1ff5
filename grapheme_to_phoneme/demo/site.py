"""The files that make up the page, wherever they lie."""

import logging
import shutil
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import MODEL_FILENAME
from grapheme_to_phoneme.demo.runtime import RUNTIME_FILES, ensure_runtime
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.package import lexicon_file, model_file, notices
from grapheme_to_phoneme.inference.pronouncer import Pronouncer

LOGGER = logging.getLogger(__name__)

INDEX_NAME = "index.html"

#: What belongs to the page of what lies in its folder.
PAGE_SUFFIXES = frozenset({".css", ".html", ".js", ".svg"})

#: Where the page looks for ONNX Runtime.
RUNTIME_ADDRESS = "onnxruntime"


def web_directory() -> Path:
    """Return the folder of the page: the wheel's own, or the repository's.

    Raises:
        UserError: if neither is there, which means a broken installation.
    """
    package_directory = Path(__file__).resolve().parent.parent
    for candidate in (package_directory / "web", package_directory.parent / "web"):
        if (candidate / INDEX_NAME).is_file():
            return candidate
    raise UserError("the web/ folder is missing: install the package again")


def prepare_site(model: Path, settings: DictConfig) -> dict[str, Path]:
    """Return every file of the page that begins with a model, see :func:`site_files`.

    Args:
        model: the model file, or the folder of a package.
        settings: the configuration's group ``demo``; ONNX Runtime is obtained where it is missing.

    Raises:
        MissingDependencyError: as :func:`ensure_runtime` does.
        UserError: likewise, or if the page cannot show what the model answers.
    """
    # The browser would refuse it as well, but later.
    metadata = Pronouncer(model, threads=1).metadata
    metadata.require_pronunciations("demo")
    if metadata.languages:
        raise UserError("the page shows models of one language, and this one knows several")
    if lexicon_file(model) is not None:
        LOGGER.info("the page asks the model alone: the package's lexicon stays out")
    package = model if model.is_dir() else None
    return site_files(model_file(model), ensure_runtime(settings.runtime), package)


def site_files(model: Path, runtime: Path, package: Path | None = None) -> dict[str, Path]:
    """Return every file of the page by its address, relative to the page's own.

    Args:
        model: the model file that the page begins with.
        runtime: the folder of ONNX Runtime, see :func:`ensure_runtime`.
        package: the package that the model is of; its licences and notes come along.
    """
    page = sorted(web_directory().iterdir())
    files = {path.name: path for path in page if path.suffix in PAGE_SUFFIXES}
    files |= {f"{RUNTIME_ADDRESS}/{name}": runtime / name for name in RUNTIME_FILES}
    files[MODEL_FILENAME] = model
    if package is not None:
        files |= {path.name: path for path in notices(package)}
    return files


def write_site(files: dict[str, Path], target: Path) -> None:
    """Copy the page into a folder that any file server can serve.

    Args:
        files: see :func:`site_files`.
        target: a folder that does not exist yet.

    Raises:
        UserError: if the folder exists already or cannot be written.
    """
    if target.exists():
        raise UserError(f"{target} exists already: say --output DIR for another folder")
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for address, path in files.items():
            (partial / address).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / address)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error
    LOGGER.info("wrote the page into %s: any file server can serve it", target)
