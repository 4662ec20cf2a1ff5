"""A spelling has one normal form, however it was typed."""

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grapheme_to_phoneme.constants import APOSTROPHES, INVISIBLE_CHARACTERS
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.normalization import CASES, UNICODE_FORMS, Normalization, symbols_of

NORMALIZATIONS = st.builds(
    Normalization,
    case=st.sampled_from(CASES),
    unicode_form=st.sampled_from((*UNICODE_FORMS, "keep")),
    unify_apostrophes=st.booleans(),
    drop_invisible=st.booleans(),
)

# Text of any kind, with what normalisation treats specially more often than chance has it.
SPECIAL = st.sampled_from([*APOSTROPHES, *INVISIBLE_CHARACTERS, *"İıßŉΣςẞǅ\u0307\u0374\u2033 "])
SPELLINGS = st.lists(st.characters() | SPECIAL, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("case", "expected"), [("lower", "o'neil"), ("upper", "O'NEIL"), ("keep", "O'Neil")]
)
def test_case(case: str, expected: str) -> None:
    assert Normalization(case=case).apply("O'Neil") == expected


def test_composed_and_decomposed_spellings_are_one_word() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert Normalization().apply(decomposed) == Normalization().apply(composed) == composed
    assert Normalization(unicode_form="NFD").apply(composed) == decomposed
    kept = Normalization(unicode_form="keep")
    assert (kept.apply(composed), kept.apply(decomposed)) == (composed, decomposed)


def test_compatibility_forms_are_joined_only_when_asked() -> None:
    assert Normalization().apply("ﬁn") == "ﬁn"
    assert Normalization(unicode_form="NFKC").apply("ﬁn") == "fin"


@pytest.mark.parametrize("apostrophe", APOSTROPHES)
def test_curly_apostrophes_become_straight(apostrophe: str) -> None:
    assert Normalization().apply(f"don{apostrophe}t") == "don't"
    kept = Normalization(unify_apostrophes=False)
    assert kept.apply(f"don{apostrophe}t") == f"don{apostrophe}t"


@pytest.mark.parametrize("character", INVISIBLE_CHARACTERS)
def test_invisible_characters_are_dropped(character: str) -> None:
    assert Normalization().apply(f"{character}co{character}op{character}") == "coop"
    kept = Normalization(drop_invisible=False)
    assert kept.apply(f"co{character}op") == f"co{character}op"


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
def test_joiners_carry_meaning_and_stay(joiner: str) -> None:
    word = f"क्{joiner}ष"
    assert Normalization().apply(word) == word


def test_turkish_dotted_capital() -> None:
    # Python's lower() gives two characters, i and a combining dot, and NFC keeps them apart.
    assert Normalization().apply("İSTANBUL") == "i\u0307stanbul"
    assert Normalization(case="keep").apply("İSTANBUL") == "İSTANBUL"
    assert Normalization().apply("ılık") == "ılık"


def test_case_sees_letters_that_decomposition_hid() -> None:
    assert Normalization().apply("E\u0301COLE") == "école"


def test_white_space_around_a_word_goes() -> None:
    assert Normalization().apply(" \t word\r\n") == "word"
    assert Normalization().apply("\ufeff word\u200b ") == "word"
    assert Normalization().apply("New York") == "new york"


@given(NORMALIZATIONS, SPELLINGS)
@example(Normalization(), "a\u0374")
@example(Normalization(case="upper"), "ŉ")
@example(Normalization(unicode_form="NFKC"), "5\u2033")
def test_normal_form_of_a_normal_form_is_itself(
    normalization: Normalization, spelling: str
) -> None:
    once = normalization.apply(spelling)
    assert normalization.apply(once) == once


@given(SPELLINGS)
def test_normal_form_is_one(spelling: str) -> None:
    normalized = Normalization().apply(spelling)
    assert unicodedata.is_normalized("NFC", normalized)
    assert normalized == normalized.strip()
    assert not set(normalized) & set(APOSTROPHES + INVISIBLE_CHARACTERS)


@given(st.text())
def test_equivalent_spellings_are_one_word(spelling: str) -> None:
    normalization = Normalization()
    assert normalization.apply(unicodedata.normalize("NFD", spelling)) == normalization.apply(
        unicodedata.normalize("NFC", spelling)
    )


@given(NORMALIZATIONS)
def test_travels_through_plain_values(normalization: Normalization) -> None:
    assert Normalization.from_dict(normalization.to_dict()) == normalization


@pytest.mark.parametrize(
    ("values", "named"),
    [({"case": "title"}, "lower, upper, keep"), ({"unicode_form": "NFX"}, "NFC, NFD, NFKC, NFKD")],
)
def test_unknown_values_are_refused(values: dict[str, str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Normalization(**values)


# Symbols, where phones are read


def test_symbols_become_one_character_each() -> None:
    normalization = Normalization(symbols=("AY1", "K", "N"))
    coded = normalization.apply(" N  AY1\tK ")
    assert len(coded) == 3
    assert [normalization.symbol_of(character) for character in coded] == ["N", "AY1", "K"]


def test_normal_form_of_symbols_stays() -> None:
    normalization = Normalization(symbols=("AY1", "K"))
    coded = normalization.apply("K AY1")
    assert normalization.apply(coded) == coded


def test_unknown_symbols_stay() -> None:
    normalization = Normalization(symbols=("K",))
    assert normalization.apply("K XX").endswith("XX")
    assert normalization.symbol_of("X") == "X"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_either_form_of_a_symbol(form: str) -> None:
    phone = unicodedata.normalize(form, "ɛ̃")
    normalization = Normalization(symbols=symbols_of([phone, "ç", "ç"]))
    assert len(normalization.symbols) == 2
    codes = {normalization.apply(unicodedata.normalize(other, "ɛ̃ ç")) for other in ("NFC", "NFD")}
    assert len(codes) == 1 and len(codes.pop()) == 2


def test_symbols_travel_in_metadata() -> None:
    for normalization in (Normalization(symbols=("A", "B")), Normalization(case="keep")):
        values = json.loads(json.dumps(normalization.to_dict()))
        assert Normalization.from_dict(values) == normalization
    assert "symbols" not in Normalization().to_dict()


def test_too_many_symbols() -> None:
    with pytest.raises(UserError, match="different phones are too many"):
        symbols_of(f"phone{number}" for number in range(7000))
