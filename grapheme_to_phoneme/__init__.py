"""Predicts how a word is pronounced from how it is spelled."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grapheme_to_phoneme.inference.pronouncer import Alternative, Pronouncer, Pronunciation

__all__ = ["Alternative", "Pronouncer", "Pronunciation"]


def __getattr__(name: str) -> Any:
    """Import what users need at first use: a bare import of the package stays instant."""
    if name in __all__:
        from grapheme_to_phoneme.inference import pronouncer

        return getattr(pronouncer, name)
    if name == "__version__":
        from contextlib import suppress
        from importlib.metadata import PackageNotFoundError, version

        from grapheme_to_phoneme.constants import DISTRIBUTION_NAME

        # The copy that a server's model brings along is not installed, and has none.
        with suppress(PackageNotFoundError):
            return version(DISTRIBUTION_NAME)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
