"""Settings arrive as they were written, or are refused with one line."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from grapheme_to_phoneme.configuration import (
    NUMBERS_OR_NULL,
    SEVERAL_OR_NULL,
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


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["evaluate.beam_size=abc"], "evaluate.beam_size takes a whole number, not abc"),
        (["evaluate.lexicon=[a,b]"], "evaluate.lexicon takes a text, not"),
        (["evaluate.groups=5"], "evaluate.groups takes a text, not 5"),
        (["start_run=true"], "start_run takes a text, not True"),
        (["data=lexicon", "data.train_path=5"], "data.train_path takes a text, not 5"),
        (["alignment.max_phones_per_letter=a"], "alignment.max_phones_per_letter takes a whole"),
        (["convert.language={a: 1}"], "convert.language takes a text, not {'a': 1}"),
    ],
)
def test_other_kinds_in_place_of_null_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_config(overrides)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "overrides",
    [
        ["evaluate.beam_size=4", "start_run=runs/one"],
        ["evaluate.beam_size=null", "start_run=null"],
        ["model=together", "model.companion.companion={members: 1}"],
        ["data=multilingual", "data.lexicons={tok: tok.tsv}", "data.unicode_forms={kor: NFD}"],
        ["+data.of_my_own=5", "+mine.alone=5", "+trainer.lightning.limit_train_batches=5"],
        ["multirun=slurm", "multirun.settings.partition=5"],
    ],
)
def test_right_kinds_in_place_of_null_are_taken(overrides: list[str]) -> None:
    compose_config(overrides)


def test_keys_whose_null_stands_for_no_text_are_null_by_default() -> None:
    nulls = set()
    for path in config_directory().glob("*/*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(path))
        nulls |= {f"{path.parent.name}.{name}" for name in values if values[name] is None}
    assert NUMBERS_OR_NULL | SEVERAL_OR_NULL <= nulls
