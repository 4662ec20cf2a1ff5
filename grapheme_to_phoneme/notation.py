r"""The notations of phones: ARPAbet, IPA and X-SAMPA, converted exactly or not at all.

A phone of one notation is one phone of another, so that alignments stay what they are. Every
conversion is undone before it is believed: what does not come back is refused.

Sources: CMUdict's phones with the usual IPA of American English, the stress mark directly before
the vowel; X-SAMPA as J. C. Wells published it (1995), with ``_`` for the tie bar where nothing
else is meant by it. IPA is in Unicode's form NFC; ``g`` is read as ``ɡ``.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from grapheme_to_phoneme.errors import UserError

ARPABET = "arpabet"
ARPABET_WITHOUT_STRESS = "arpabet-without-stress"
IPA = "ipa"
X_SAMPA = "x-sampa"
NOTATIONS = (ARPABET, ARPABET_WITHOUT_STRESS, IPA, X_SAMPA)

#: ARPAbet's stress digits in IPA.
STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}

ARPABET_CONSONANTS = {
    "B": "b",
    "CH": "t͡ʃ",
    "D": "d",
    "DH": "ð",
    "DX": "ɾ",
    "EL": "l̩",
    "EM": "m̩",
    "EN": "n̩",
    "F": "f",
    "G": "ɡ",
    "HH": "h",
    "JH": "d͡ʒ",
    "K": "k",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "ŋ",
    "P": "p",
    "Q": "ʔ",
    "R": "ɹ",
    "S": "s",
    "SH": "ʃ",
    "T": "t",
    "TH": "θ",
    "V": "v",
    "W": "w",
    "WH": "ʍ",
    "Y": "j",
    "Z": "z",
    "ZH": "ʒ",
}
ARPABET_VOWELS = {
    "AA": "ɑ",
    "AE": "æ",
    "AH": "ʌ",
    "AO": "ɔ",
    "AW": "aʊ",
    "AY": "aɪ",
    "EH": "ɛ",
    "ER": "ɝ",
    "EY": "eɪ",
    "IH": "ɪ",
    "IY": "i",
    "OW": "oʊ",
    "OY": "ɔɪ",
    "UH": "ʊ",
    "UW": "u",
}
#: CMUdict has no symbols of its own for the vowels that are never stressed.
ARPABET_REDUCED = {"AH0": "ə", "ER0": "ɚ"}
#: ARPAbet has, where stress is not written.
ARPABET_REDUCED_WITHOUT_STRESS = {"AX": "ə", "AXR": "ɚ", "IX": "ɨ", "UX": "ʉ"}

#: Where several say the same, the first is written.
X_SAMPA_SYMBOLS = (
    # Letters
    ("a", "a"),
    ("b", "b"),
    ("b_<", "ɓ"),
    ("c", "c"),
    ("d", "d"),
    ("d`", "ɖ"),
    ("d_<", "ɗ"),
    ("e", "e"),
    ("f", "f"),
    ("g", "ɡ"),
    ("g_<", "ɠ"),
    ("h", "h"),
    ("h\\", "ɦ"),
    ("i", "i"),
    ("j", "j"),
    ("j\\", "ʝ"),
    ("k", "k"),
    ("l", "l"),
    ("l`", "ɭ"),
    ("l\\", "ɺ"),
    ("m", "m"),
    ("n", "n"),
    ("n`", "ɳ"),
    ("o", "o"),
    ("p", "p"),
    ("p\\", "ɸ"),
    ("q", "q"),
    ("r", "r"),
    ("r`", "ɽ"),
    ("r\\", "ɹ"),
    ("r\\`", "ɻ"),
    ("s", "s"),
    ("s`", "ʂ"),
    ("s\\", "ɕ"),
    ("t", "t"),
    ("t`", "ʈ"),
    ("u", "u"),
    ("v", "v"),
    ("P", "ʋ"),
    ("v\\", "ʋ"),
    ("w", "w"),
    ("x", "x"),
    ("x\\", "ɧ"),
    ("y", "y"),
    ("z", "z"),
    ("z`", "ʐ"),
    ("z\\", "ʑ"),
    ("A", "ɑ"),
    ("B", "β"),
    ("B\\", "ʙ"),
    ("C", "ç"),
    ("D", "ð"),
    ("E", "ɛ"),
    ("F", "ɱ"),
    ("G", "ɣ"),
    ("G\\", "ɢ"),
    ("G\\_<", "ʛ"),
    ("H", "ɥ"),
    ("H\\", "ʜ"),
    ("I", "ɪ"),
    ("I\\", "ᵻ"),
    ("J", "ɲ"),
    ("J\\", "ɟ"),
    ("J\\_<", "ʄ"),
    ("K", "ɬ"),
    ("K\\", "ɮ"),
    ("L", "ʎ"),
    ("L\\", "ʟ"),
    ("M", "ɯ"),
    ("M\\", "ɰ"),
    ("N", "ŋ"),
    ("N\\", "ɴ"),
    ("O", "ɔ"),
    ("O\\", "ʘ"),
    ("Q", "ɒ"),
    ("R", "ʁ"),
    ("R\\", "ʀ"),
    ("S", "ʃ"),
    ("T", "θ"),
    ("U", "ʊ"),
    ("U\\", "ᵿ"),
    ("V", "ʌ"),
    ("W", "ʍ"),
    ("X", "χ"),
    ("X\\", "ħ"),
    ("Y", "ʏ"),
    ("Z", "ʒ"),
    ("@", "ə"),
    ("@\\", "ɘ"),
    ("@`", "ɚ"),
    ("{", "æ"),
    ("}", "ʉ"),
    ("1", "ɨ"),
    ("2", "ø"),
    ("3", "ɜ"),
    ("3\\", "ɞ"),
    ("3`", "ɝ"),
    ("4", "ɾ"),
    ("5", "ɫ"),
    ("6", "ɐ"),
    ("7", "ɤ"),
    ("8", "ɵ"),
    ("9", "œ"),
    ("&", "ɶ"),
    ("?", "ʔ"),
    ("?\\", "ʕ"),
    ("<\\", "ʢ"),
    (">\\", "ʡ"),
    ("!\\", "ǃ"),
    ("|\\", "ǀ"),
    ("|\\|\\", "ǁ"),
    ("=\\", "ǂ"),
    # What is written beside letters
    ('"', "ˈ"),
    ("%", "ˌ"),
    (":", "ː"),
    (":\\", "ˑ"),
    (".", "."),
    ("^", "ꜛ"),
    ("!", "ꜜ"),
    ("-\\", "‿"),
    ("`", "˞"),
    ("_", "\u0361"),
    # Diacritics
    ('_"', "\u0308"),
    ("_+", "\u031f"),
    ("_-", "\u0320"),
    ("_R", "\u030c"),
    ("_/", "\u030c"),
    ("_0", "\u0325"),
    ("=", "\u0329"),
    ("_=", "\u0329"),
    ("_>", "ʼ"),
    ("_?\\", "ˤ"),
    ("_F", "\u0302"),
    ("_\\", "\u0302"),
    ("_^", "\u032f"),
    ("_}", "\u031a"),
    ("~", "\u0303"),
    ("_~", "\u0303"),
    ("_A", "\u0318"),
    ("_a", "\u033a"),
    ("_B", "\u030f"),
    ("_B_L", "\u1dc5"),
    ("_c", "\u031c"),
    ("_d", "\u032a"),
    ("_e", "\u0334"),
    ("_G", "ˠ"),
    ("_H", "\u0301"),
    ("_H_T", "\u1dc4"),
    ("_h", "ʰ"),
    ("_j", "ʲ"),
    ("'", "ʲ"),
    ("_k", "\u0330"),
    ("_L", "\u0300"),
    ("_l", "ˡ"),
    ("_M", "\u0304"),
    ("_m", "\u033b"),
    ("_N", "\u033c"),
    ("_n", "ⁿ"),
    ("_O", "\u0339"),
    ("_o", "\u031e"),
    ("_q", "\u0319"),
    ("_R_F", "\u1dc8"),
    ("_r", "\u031d"),
    ("_T", "\u030b"),
    ("_t", "\u0324"),
    ("_v", "\u032c"),
    ("_w", "ʷ"),
    ("_X", "\u0306"),
    ("_x", "\u033d"),
)

#: Letters that Unicode gives a second code point which fonts draw alike.
SAME_LETTERS = {"g": "ɡ"}


class NotationError(UserError):
    """A phone that a notation does not have."""


def converter(source: str, target: str) -> Callable[[Iterable[str]], tuple[str, ...]]:
    """Return a function that converts the phones of a pronunciation.

    It raises :class:`NotationError` for a phone that is none of the source notation, or that
    the target notation has no exact symbol for.

    Args:
        source: one of ``NOTATIONS``.
        target: one of ``NOTATIONS``.

    Raises:
        UserError: if there is no such notation.
    """
    for name in (source, target):
        if name not in NOTATIONS:
            raise UserError(f"unknown notation '{name}': choose one of {', '.join(NOTATIONS)}")
    known: dict[str, str] = {}

    def convert(phones: Iterable[str]) -> tuple[str, ...]:
        converted = []
        for phone in phones:
            if phone not in known:
                known[phone] = convert_phone(phone, source, target)
            converted.append(known[phone])
        return tuple(converted)

    return convert


def convert_phone(phone: str, source: str, target: str) -> str:
    """Convert one phone.

    Raises:
        NotationError: as :func:`converter` says.
    """
    return _from_ipa(_to_ipa(phone, source), target)


def notation_of(name: str, phones: Iterable[str]) -> str:
    """Return which of the notations a model or lexicon uses.

    ``arpabet`` is what lexicons with and without stress digits call it; the phones tell.

    Args:
        name: what it says of itself.
        phones: its phones.

    Raises:
        UserError: if there is no such notation.
    """
    if name not in NOTATIONS:
        raise UserError(
            f"phones in the notation '{name}' cannot be converted: only those in "
            f"{', '.join(NOTATIONS)}"
        )
    if name == ARPABET and ARPABET_VOWELS.keys() & set(phones):
        return ARPABET_WITHOUT_STRESS
    return name


def _to_ipa(phone: str, source: str) -> str:
    if source == IPA:
        composed = unicodedata.normalize("NFC", phone)
        return "".join(SAME_LETTERS.get(character, character) for character in composed)
    if source == X_SAMPA:
        ipa = unicodedata.normalize("NFC", _respell(phone, _x_sampa_to_ipa(), phone, source))
        # `t_T` would be t with a tone: what was meant by it is not known.
        _from_ipa(ipa, source)
        return ipa
    ipa = _arpabet(source).get(phone)
    if ipa is None:
        raise NotationError(f"'{phone}' is no phone of {source}{_hint(phone, source)}")
    return ipa


def _from_ipa(ipa: str, target: str) -> str:
    if target == IPA:
        return ipa
    if target == X_SAMPA:
        decomposed = unicodedata.normalize("NFD", ipa)
        spelled = _respell(decomposed, _ipa_to_x_sampa(), ipa, IPA)
        if _read_back(spelled) != ipa:
            raise NotationError(
                f"x-sampa has nothing exact for '{ipa}': '{spelled}' would be something else"
            )
        return spelled
    for symbol, said in _arpabet(target).items():
        if said == ipa:
            return symbol
    raise NotationError(f"{target} has no phone for '{ipa}'")


def _read_back(x_sampa: str) -> str | None:
    try:
        return unicodedata.normalize("NFC", _respell(x_sampa, _x_sampa_to_ipa(), x_sampa, X_SAMPA))
    except NotationError:
        return None


def _hint(phone: str, source: str) -> str:
    if source == ARPABET and phone in ARPABET_VOWELS:
        return ": it has no stress digit, say arpabet-without-stress"
    if source == ARPABET_WITHOUT_STRESS and phone in _arpabet(ARPABET):
        return ": it has a stress digit, say arpabet"
    return ""


def _respell(text: str, symbols: Mapping[str, str], phone: str, notation: str) -> str:
    """Replace the symbols of a phone one after the other, the longest that fits first."""
    longest = max(map(len, symbols))
    parts = []
    position = 0
    while position < len(text):
        for length in range(longest, 0, -1):
            symbol = text[position : position + length]
            if symbol in symbols:
                parts.append(symbols[symbol])
                position += len(symbol)
                break
        else:
            shown = text[position]
            raise NotationError(
                f"'{phone}' has '{shown}' (U+{ord(shown):04X}), which cannot be converted from "
                f"{notation}"
            )
    return "".join(parts)


@cache
def _arpabet(notation: str) -> dict[str, str]:
    if notation == ARPABET_WITHOUT_STRESS:
        table = {**ARPABET_CONSONANTS, **ARPABET_VOWELS, **ARPABET_REDUCED_WITHOUT_STRESS}
    else:
        stressed = {
            vowel + digit: mark + ipa
            for vowel, ipa in ARPABET_VOWELS.items()
            for digit, mark in STRESS.items()
        }
        table = {**ARPABET_CONSONANTS, **stressed, **ARPABET_REDUCED}
    return {symbol: unicodedata.normalize("NFC", ipa) for symbol, ipa in table.items()}


@cache
def _x_sampa_to_ipa() -> dict[str, str]:
    return dict(X_SAMPA_SYMBOLS)


@cache
def _ipa_to_x_sampa() -> dict[str, str]:
    symbols = {}
    for x_sampa, ipa in X_SAMPA_SYMBOLS:
        symbols.setdefault(unicodedata.normalize("NFD", ipa), x_sampa)
    return symbols
