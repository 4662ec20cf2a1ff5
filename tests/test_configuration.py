"""Settings arrive as they were written, or are refused with one line."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from grapheme_to_phoneme.configuration import (
    INFER,
    INFER_KINDS,
    compose_config,
    config_directory,
    quoted,
)
from grapheme_to_phoneme.errors import UserError

ROOT = "prediction"

#: What Hydra or OmegaConf reads something into, beside letters.
SPECIAL = st.text(st.sampled_from("\\\\'\"$${}{[],=:#~ %a5é\n"), min_size=1, max_size=12)


@settings(max_examples=50)
@given(SPECIAL)
@example("b\\c.txt")
@example("\\\\server\\words")
@example("words\\")
@example("\\'")
@example("it's")
@example("${foo}.txt")
@example("\\${foo}\\\\${paths.root}'")
@example("\\\n")
@example("null")
@example("5")
def test_quoted_text_stays_as_it_is(text: str) -> None:
    config = compose_config([], ROOT, [f"infer.input={quoted(text)}"])
    assert config.infer.input == text


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("infer.n_best=null", "infer.n_best takes a whole number, such as 1, not null"),
        ("infer.output=null", "infer.output takes a text, such as -, not null"),
        ("infer.beam_size=abc", "infer.beam_size takes a whole number, not abc"),
        ("infer.beam_size=1.5", "infer.beam_size takes a whole number, not 1.5"),
        ("infer.model=5", "infer.model takes a text, not 5"),
        ("infer.input=5", "infer.input takes a text, not 5"),
        ("infer.language=5", "infer.language takes a text, not 5"),
        ("infer.server=[a]", "infer.server takes a text, not"),
        ("infer.threads=abc", "infer.threads takes a whole number, such as 0, not abc"),
    ],
)
def test_other_kinds_of_values_are_refused(override: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config([override], ROOT)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "override", ["infer.beam_size=null", "infer.model=null", "infer.beam_size=3", "infer.input=a"]
)
def test_values_that_take_the_place_of_null(override: str) -> None:
    compose_config([override], ROOT)


def test_kinds_of_all_that_is_null_by_default_are_known() -> None:
    defaults = OmegaConf.load(config_directory() / "infer" / "default.yaml")
    nulls = {f"{INFER}{name}" for name, value in defaults.items() if value is None}
    assert nulls == set(INFER_KINDS)
