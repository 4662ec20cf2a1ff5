"""Spelling normalisation, the same for training and for inference."""

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

from grapheme_to_phoneme.constants import APOSTROPHES, INVISIBLE_CHARACTERS
from grapheme_to_phoneme.errors import UserError

CASES = ("lower", "upper", "keep")
UNICODE_FORMS = ("NFC", "NFD", "NFKC", "NFKD")

#: The characters that stand for symbols: a private use area, which no word has.
FIRST_CODE, LAST_CODE = 0xE000, 0xF8FF


@dataclass(frozen=True)
class Normalization:
    """How a spelling is brought into the form that the model was trained on.

    Attributes:
        case: ``lower``, ``upper`` or ``keep``.
        unicode_form: a Unicode normalisation form (UAX #15), or ``keep``.
        unify_apostrophes: whether curly and modifier apostrophes become U+0027.
        drop_invisible: whether soft hyphens, zero-width spaces, word joiners and byte
            order marks are dropped. Zero-width joiners carry meaning in some scripts
            and stay.
        symbols: the phones that are read instead of letters, where a model spells; what it is
            given is then divided at white space, every symbol becomes the one character that
            stands for it, and nothing else is changed.

    Raises:
        UserError: if ``case`` or ``unicode_form`` is none of the above.
    """

    case: str = "lower"
    unicode_form: str = "NFC"
    unify_apostrophes: bool = True
    drop_invisible: bool = True
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.case not in CASES:
            raise UserError(f"unknown case '{self.case}': choose one of {', '.join(CASES)}")
        if self.unicode_form not in (*UNICODE_FORMS, "keep"):
            raise UserError(
                f"unknown Unicode form '{self.unicode_form}': "
                f"choose one of {', '.join(UNICODE_FORMS)} or keep"
            )

    @cached_property
    def _replacements(self) -> dict[int, str]:
        replacements = {}
        if self.unify_apostrophes:
            replacements.update(dict.fromkeys(map(ord, APOSTROPHES), "'"))
        if self.drop_invisible:
            replacements.update(dict.fromkeys(map(ord, INVISIBLE_CHARACTERS), ""))
        return replacements

    @cached_property
    def _codes(self) -> dict[str, str]:
        return {symbol: chr(FIRST_CODE + index) for index, symbol in enumerate(self.symbols)}

    @cached_property
    def _symbols_by_code(self) -> dict[str, str]:
        return {code: symbol for symbol, code in self._codes.items()}

    def symbol_of(self, letter: str) -> str:
        """Return the symbol that a character of a normal form stands for: mostly itself."""
        return self._symbols_by_code.get(letter, letter)

    def apply(self, spelling: str) -> str:
        """Return ``spelling`` without surrounding white space, in normal form."""
        if self.symbols:
            read = unicodedata.normalize("NFD", spelling).split()
            return "".join(self._codes.get(symbol, symbol) for symbol in read)
        normalized = spelling.strip()
        if normalized.isascii():
            # ASCII has one form and holds nothing to replace: most words take this path.
            return self._change_case(normalized)
        normalized = normalized.translate(self._replacements)
        # Changing the case can take a string out of its normal form (U+0130 does), so the
        # form is applied last; applying it first as well lets the case see whole letters.
        normalized = self._change_case(self._compose(normalized))
        # Normal forms and capitals can hold apostrophes that were none before (U+0374, U+0149),
        # and dropped characters leave white space at the ends.
        return self._compose(normalized).translate(self._replacements).strip()

    def _change_case(self, text: str) -> str:
        if self.case == "lower":
            return text.lower()
        return text.upper() if self.case == "upper" else text

    def _compose(self, text: str) -> str:
        if self.unicode_form == "keep":
            return text
        return unicodedata.normalize(self.unicode_form, text)

    def to_dict(self) -> dict[str, str | bool | list[str]]:
        """Return plain values that :meth:`from_dict` accepts, for the model's metadata."""
        values = {**asdict(self), "symbols": list(self.symbols)}
        return values if self.symbols else {key: values[key] for key in values if key != "symbols"}

    @classmethod
    def from_dict(cls, values: dict[str, str | bool | list[str]]) -> "Normalization":
        """Rebuild a normalisation from :meth:`to_dict`'s values."""
        return cls(**{**values, "symbols": tuple(values.get("symbols", ()))})


def symbols_of(phones: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct phones in the form that :class:`Normalization` takes, sorted.

    Raises:
        UserError: if there are more than characters to stand for them.
    """
    symbols = sorted({unicodedata.normalize("NFD", phone) for phone in phones})
    if len(symbols) > LAST_CODE - FIRST_CODE + 1:
        raise UserError(
            f"{len(symbols):,} different phones are too many to be read: are the pronunciations "
            "divided into phones?"
        )
    return tuple(symbols)
