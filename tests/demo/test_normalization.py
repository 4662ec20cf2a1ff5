"""The page's own normalisation of spellings is the one that the model was trained with."""

import json
import sys
import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from grapheme_to_phoneme.normalization import CASES, UNICODE_FORMS, Normalization

#: Takes and gives JSON: a text comes and goes much faster than a hundred thousand of them.
PROGRAM = """
async (json) => {
  const { Normalization } = await import("./normalization.js");
  const { normalizations, spellings } = JSON.parse(json);
  const rows = normalizations.map((values) => {
    const normalization = new Normalization(values);
    return spellings.map((spelling) => normalization.apply(spelling));
  });
  return JSON.stringify(rows);
}
"""

#: Letters that change their form or their neighbours': final sigma, dotted i, ligatures, marks.
TRICKY = (
    "aI\u0130\u0131ΣσςßŉᾳǅﬁＡ\u0301\u0307\u0345\u2019\u02bc\uff07'\u00ad\u200b\ufeff\x1c \u3000-."
)

#: The browser is another process: many strings are sent at a time.
LISTS = st.lists(st.text(st.sampled_from(TRICKY), max_size=8), min_size=50, max_size=50)


def normalize(
    scripts: Page, normalizations: list[Normalization], spellings: list[str]
) -> list[list[str]]:
    """Return what the browser makes of the spellings, a list for each normalisation."""
    values = [normalization.to_dict() for normalization in normalizations]
    request = json.dumps({"normalizations": values, "spellings": spellings})
    return json.loads(scripts.evaluate(PROGRAM, request))


def check(scripts: Page, normalizations: list[Normalization], spellings: list[str]) -> None:
    """Check that browser and Python agree on every spelling."""
    rows = normalize(scripts, normalizations, spellings)
    for normalization, row in zip(normalizations, rows, strict=True):
        different = [
            (normalization, ascii(spelling), ascii(found))
            for spelling, found in zip(spellings, row, strict=True)
            # A browser may know newer capitals of old letters.
            if normalization.apply(spelling) != found
            and not any(unicodedata.category(sign) == "Cn" for sign in found)
        ]
        assert different == []


@pytest.mark.parametrize("case", CASES)
def test_every_character_is_normalised_alike(scripts: Page, case: str) -> None:
    characters = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        # Unassigned and private characters and halves of pairs have no case and no form.
        if unicodedata.category(chr(code)) not in {"Cn", "Co", "Cs"}
    ]
    assert len(characters) > 140_000
    spellings = [f"x{character}'A" for character in characters]
    normalizations = [Normalization(case=case), Normalization(case=case, unicode_form="keep")]
    check(scripts, normalizations, spellings)
    check(scripts, normalizations, characters)


@given(spellings=LISTS)
def test_tricky_spellings_are_normalised_alike(scripts: Page, spellings: list[str]) -> None:
    forms = (*UNICODE_FORMS, "keep")
    normalizations = [
        Normalization(case=case, unicode_form=form) for case, form in product(CASES, forms)
    ]
    check(scripts, normalizations, spellings)


@pytest.mark.parametrize("unify", [True, False])
@pytest.mark.parametrize("drop", [True, False])
def test_switches_are_kept(scripts: Page, unify: bool, drop: bool) -> None:
    normalization = Normalization(unify_apostrophes=unify, drop_invisible=drop)
    check(scripts, [normalization], ["Don\u2019t", "so\u00adft\ufeff", "\u200b", "\u02b9A\u2060"])


def test_scripts_are_really_compared(scripts: Page) -> None:
    assert normalize(scripts, [Normalization(), Normalization(case="upper")], ["Aß"]) == [
        ["aß"],
        ["ASS"],
    ]
