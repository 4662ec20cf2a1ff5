"""Dividing pronunciations that are written without spaces, ``tʃɛk``, into phones."""

import unicodedata
from collections.abc import Callable
from importlib.util import find_spec

from grapheme_to_phoneme.errors import MissingDependencyError
from grapheme_to_phoneme.lexicon.records import LineFault, quote

Segmenter = Callable[[str], tuple[str, ...]]


def ipa_segmenter() -> Segmenter:
    """Return a function that divides IPA into phones, as WikiPron's authors divide it.

    Length marks, diacritics, superscripts and tie bars stay with their letter, stress marks
    with the letter after them. A diphthong without a tie bar becomes two phones. The function
    raises :class:`LineFault` where the phones put together are not what it was given.

    Raises:
        MissingDependencyError: if the library ``segments`` is not installed.
    """
    if find_spec("segments") is None:
        raise MissingDependencyError(
            "dividing IPA into phones needs segments: pip install 'grapheme-to-phoneme[ipa]'"
        )
    from segments import Tokenizer

    tokenizer = Tokenizer()

    def divide(text: str) -> tuple[str, ...]:
        composed = unicodedata.normalize("NFC", text)
        try:
            divided = unicodedata.normalize("NFC", tokenizer(composed, ipa=True))
        except IndexError:
            # A tie bar with nothing after it.
            raise LineFault(f"{quote(text)} cannot be divided into phones") from None
        phones = tuple(divided.split())
        if "".join(phones) != composed:
            raise LineFault(f"{quote(text)} cannot be divided into phones")
        return phones

    return divide
