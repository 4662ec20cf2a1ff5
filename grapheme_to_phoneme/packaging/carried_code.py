"""The code of this package that a model takes along to where the package is not installed."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from grapheme_to_phoneme.constants import PACKAGE_NAME

#: What prediction needs; what runs it inside a server comes on top.
PREDICTION_CODE = (
    "__init__.py",
    "constants.py",
    "errors.py",
    "normalization.py",
    "notation.py",
    "inference/*.py",
    "serving/__init__.py",
)


def copy_code(patterns: Iterable[str], folder: Path) -> Path:
    """Copy modules of this package into a folder, as a package of the same name.

    Args:
        patterns: the modules, relative to the package.
        folder: where the package goes.

    Returns:
        The copy's own folder.
    """
    source = Path(__file__).resolve().parents[1]
    target = folder / PACKAGE_NAME
    for pattern in patterns:
        for path in source.glob(pattern):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return target
