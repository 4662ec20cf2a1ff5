"""Settings arrive as they were written, or are refused with one line."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from grapheme_to_phoneme.configuration import compose_config, quoted

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
