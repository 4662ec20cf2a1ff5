"""Notations are converted exactly or not at all."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme import notation
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.notation import (
    ARPABET,
    ARPABET_WITHOUT_STRESS,
    IPA,
    NOTATIONS,
    X_SAMPA,
    NotationError,
    convert_phone,
    converter,
    notation_of,
)
from tests.conftest import TinyRun, run_g2p

#: Every character of the tables, and some that they do not have.
IPA_CHARACTERS = sorted({character for _, ipa in notation.X_SAMPA_SYMBOLS for character in ipa})
X_SAMPA_CHARACTERS = sorted(
    {character for text, _ in notation.X_SAMPA_SYMBOLS for character in text}
)


@pytest.mark.parametrize(
    ("phone", "source", "target", "expected"),
    [
        ("AH0", ARPABET, IPA, "ə"),
        ("AH1", ARPABET, IPA, "ˈʌ"),
        ("ER0", ARPABET, IPA, "ɚ"),
        ("ER2", ARPABET, IPA, "ˌɝ"),
        ("OW1", ARPABET, IPA, "ˈoʊ"),
        ("JH", ARPABET, IPA, "d͡ʒ"),
        ("AH", ARPABET_WITHOUT_STRESS, IPA, "ʌ"),
        ("AX", ARPABET_WITHOUT_STRESS, IPA, "ə"),
        ("EN", ARPABET, IPA, "n̩"),
        ("EY1", ARPABET, X_SAMPA, '"eI'),
        ("CH", ARPABET, X_SAMPA, "t_S"),
        ("tʃ", IPA, X_SAMPA, "tS"),
        ("ç", IPA, X_SAMPA, "C"),
        ("c\u0327", IPA, X_SAMPA, "C"),
        ("ã", IPA, X_SAMPA, "a~"),
        ("k̟̚", IPA, X_SAMPA, "k_+_}"),
        ("d͡ʑʷː", IPA, X_SAMPA, "d_z\\_w:"),
        ("ɓ", IPA, X_SAMPA, "b_<"),
        ("ǁ", IPA, X_SAMPA, "|\\|\\"),
        ("n'", X_SAMPA, IPA, "nʲ"),
        ("v\\", X_SAMPA, IPA, "ʋ"),
        ("r\\`", X_SAMPA, IPA, "ɻ"),
        ("_d", X_SAMPA, IPA, "\u032a"),
        ("g", IPA, IPA, "ɡ"),
        ("e\u0303", IPA, IPA, "ẽ"),
    ],
)
def test_known_symbols(phone: str, source: str, target: str, expected: str) -> None:
    assert convert_phone(phone, source, target) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("phone", "source", "target", "reason"),
    [
        ("ʌ", IPA, ARPABET, "arpabet has no phone for 'ʌ'"),
        ("y", IPA, ARPABET, "arpabet has no phone for 'y'"),
        ("ˈk", IPA, ARPABET, "has no phone"),
        ("AE", ARPABET, IPA, "it has no stress digit, say arpabet-without-stress"),
        ("AE1", ARPABET_WITHOUT_STRESS, IPA, "it has a stress digit, say arpabet"),
        ("XX", ARPABET, IPA, "'XX' is no phone of arpabet"),
        ("ae1", ARPABET, IPA, "no phone of arpabet"),
        # X-SAMPA has one sign for the tie bar and what else may follow a letter.
        (
            "ŋ͡m",
            IPA,
            X_SAMPA,
            "x-sampa has nothing exact for 'ŋ͡m': 'N_m' would be something else",
        ),
        ("ɛ͡ɹ", IPA, X_SAMPA, "nothing exact"),
        ("˧˥", IPA, X_SAMPA, "U+02E7"),
        ("k͈", IPA, X_SAMPA, "U+0348"),
        ("a b", IPA, X_SAMPA, "U+0020"),
        ("é\\", X_SAMPA, IPA, "cannot be converted from x-sampa"),
        ("$", X_SAMPA, IPA, "U+0024"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    phone: str, source: str, target: str, reason: str
) -> None:
    with pytest.raises(NotationError) as caught:
        convert_phone(phone, source, target)
    assert reason in str(caught.value)


@pytest.mark.parametrize("source", [ARPABET, ARPABET_WITHOUT_STRESS])
@pytest.mark.parametrize("target", [IPA, X_SAMPA])
def test_arpabet_comes_back(source: str, target: str) -> None:
    vowels = notation.ARPABET_VOWELS
    phones = [*notation.ARPABET_CONSONANTS]
    if source == ARPABET:
        phones += [vowel + digit for vowel in vowels for digit in notation.STRESS]
    else:
        phones += [*vowels, *notation.ARPABET_REDUCED_WITHOUT_STRESS]
    there = converter(source, target)(phones)
    assert len(set(there)) == len(phones)
    assert converter(target, source)(there) == tuple(phones)


def test_every_phone_of_cmudict_comes_back(cmudict_path) -> None:
    phones = sorted({phone for entry in read_lexicon(cmudict_path) for phone in entry.phones})
    assert len(phones) == 69
    for target in (IPA, X_SAMPA):
        assert list(converter(target, ARPABET)(converter(ARPABET, target)(phones))) == phones


@given(st.text(IPA_CHARACTERS + ["g", "ɘ", "˧"], min_size=1, max_size=6))
def test_ipa_comes_back_from_x_sampa_or_is_refused(phone: str) -> None:
    try:
        x_sampa = convert_phone(phone, IPA, X_SAMPA)
    except NotationError as error:
        assert "\n" not in str(error)
        return
    assert x_sampa.isascii() and not any(character.isspace() for character in x_sampa)
    assert convert_phone(x_sampa, X_SAMPA, IPA) == convert_phone(phone, IPA, IPA)


@given(st.text(X_SAMPA_CHARACTERS + ["$"], min_size=1, max_size=6))
def test_x_sampa_keeps_its_meaning_or_is_refused(phone: str) -> None:
    try:
        ipa = convert_phone(phone, X_SAMPA, IPA)
    except NotationError as error:
        assert "\n" not in str(error)
        return
    spelled = convert_phone(ipa, IPA, X_SAMPA)
    assert convert_phone(spelled, X_SAMPA, IPA) == ipa


def test_every_ipa_symbol_of_the_table_is_converted() -> None:
    for x_sampa, ipa in notation.X_SAMPA_SYMBOLS:
        composed = unicodedata.normalize("NFC", ipa)
        assert convert_phone(x_sampa, X_SAMPA, IPA) == composed
        spelled = convert_phone(ipa, IPA, X_SAMPA)
        assert convert_phone(spelled, X_SAMPA, IPA) == composed


def test_names() -> None:
    assert notation_of(ARPABET, ["K", "AE1"]) == ARPABET
    assert notation_of(ARPABET, ["K", "AE"]) == ARPABET_WITHOUT_STRESS
    assert notation_of(IPA, ["k"]) == IPA
    with pytest.raises(UserError, match="the notation 'unknown' cannot be converted"):
        notation_of("unknown", ["k"])
    with pytest.raises(UserError, match="unknown notation 'kirshenbaum'"):
        converter(IPA, "kirshenbaum")
    assert len(set(NOTATIONS)) == 4


def test_prediction_in_another_notation(tiny_run: TinyRun) -> None:
    words = ["stone", "rest", "telephone"]
    own = Pronouncer(tiny_run.model, threads=1)
    convert = converter(ARPABET_WITHOUT_STRESS, IPA)
    other = Pronouncer(
        tiny_run.model, threads=1, dictionary={"rest": [("R", "EH", "S", "T")]}, notation=IPA
    )
    for before, after in zip(
        own.pronounce(words, n_best=3, with_alignment=True),
        other.pronounce(words, n_best=3, with_alignment=True),
        strict=True,
    ):
        if after.source == "dictionary":
            assert after.phones == ("ɹ", "ɛ", "s", "t")
            continue
        assert after.phones == convert(before.phones)
        assert after.probability == before.probability
        assert after.alignment == tuple(
            (letter, convert(phones)) for letter, phones in before.alignment
        )
        assert [choice.phones for choice in after.alternatives] == [
            convert(choice.phones) for choice in before.alternatives
        ]
        assert all(
            sum((phones for _, phones in choice.alignment), ()) == choice.phones
            for choice in after.alternatives
        )


def test_prediction_refuses_before_any_word(tiny_run: TinyRun) -> None:
    with pytest.raises(NotationError, match="arpabet has no phone for"):
        # Without stress, AH may be either of two phones.
        Pronouncer(tiny_run.model, notation=ARPABET)
    with pytest.raises(NotationError, match="'TS' is no phone"):
        Pronouncer(tiny_run.model, dictionary={"tsar": [("TS", "AA", "R")]}, notation=IPA)


def test_the_flag(tiny_run: TinyRun) -> None:
    plain = run_g2p("infer", "--model", tiny_run.model, "stone", "rest")
    said = run_g2p("infer", "--model", tiny_run.model, "--notation", "x-sampa", "stone", "rest")
    assert (plain.returncode, said.returncode) == (0, 0)
    convert = converter(ARPABET_WITHOUT_STRESS, X_SAMPA)
    expected = []
    for line in plain.stdout.decode().splitlines():
        word, phones = line.split("\t")
        expected.append(f"{word}\t{' '.join(convert(phones.split()))}")
    assert said.stdout.decode().splitlines() == expected
    refused = run_g2p("infer", "--model", tiny_run.model, "--notation", "sampa", "stone")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"unknown notation 'sampa': choose one of arpabet" in refused.stderr
