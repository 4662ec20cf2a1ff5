"""Loads what pronounces, from settings that can travel to other processes."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from grapheme_to_phoneme.inference.base import BasePronouncer


@dataclass(frozen=True)
class PronouncerSettings:
    """A model or a server, and what its answers are like.

    Attributes:
        model: the model file or the package's folder; None where a server is asked.
        server: the server's address; None where the model is loaded here.
        server_model: the model's name there.
        server_timeout_s: that an answer of it may take.
        dictionary: the user's own lexicon; None for none.
        use_lexicon: see :class:`Pronouncer`.
        notation: see :class:`Pronouncer`.
        language: see :class:`Pronouncer`.
        threads: see :class:`Pronouncer`.
        letters_per_batch: see :class:`Pronouncer`.
        longest_word: see :class:`Pronouncer`.
    """

    model: Path | None
    server: str | None = None
    server_model: str = "g2p"
    server_timeout_s: float = 60.0
    dictionary: Path | None = None
    use_lexicon: bool = True
    notation: str | None = None
    language: str | None = None
    threads: int = 0
    letters_per_batch: int = 0
    longest_word: int = 256


def load_pronouncer(settings: PronouncerSettings) -> BasePronouncer:
    """Load the model, or find the server, and the user's dictionary where there is one.

    Raises:
        UserError: as :class:`Pronouncer`, :class:`RemotePronouncer` and ``read_lexicon`` do.
    """
    pronouncer = _load_model(settings) if settings.server is None else _find_server(settings)
    if settings.language is None:
        # A model of several languages says so before anything is written.
        pronouncer.metadata.require_one_language("--language")
    if settings.dictionary is not None:
        from grapheme_to_phoneme.lexicon.entries import group_by_spelling
        from grapheme_to_phoneme.lexicon.reading import read_lexicon

        # The model file says how spellings are normalised, so it is read first.
        entries = read_lexicon(settings.dictionary, normalization=pronouncer.normalization)
        pronouncer.use_dictionary(group_by_spelling(entries))
    return pronouncer


@lru_cache(maxsize=1)
def loaded_pronouncer(settings: PronouncerSettings) -> BasePronouncer:
    """Load as :func:`load_pronouncer` does, once in a process."""
    return load_pronouncer(settings)


def _load_model(settings: PronouncerSettings) -> BasePronouncer:
    from grapheme_to_phoneme.inference.pronouncer import Pronouncer

    return Pronouncer(
        settings.model,
        settings.threads,
        settings.letters_per_batch,
        settings.longest_word,
        use_lexicon=settings.use_lexicon,
        notation=settings.notation,
        language=settings.language,
    )


def _find_server(settings: PronouncerSettings) -> BasePronouncer:
    from grapheme_to_phoneme.serving.triton_client import RemotePronouncer

    return RemotePronouncer(
        settings.server,
        settings.server_model,
        settings.server_timeout_s,
        settings.longest_word,
        use_lexicon=settings.use_lexicon,
        notation=settings.notation,
        language=settings.language,
    )
