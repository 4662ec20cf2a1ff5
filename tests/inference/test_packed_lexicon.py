"""A packed lexicon gives back what was put in, and is not mistaken for another file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.packed_lexicon import PackedLexicon, write_packed_lexicon


def pronunciations() -> st.SearchStrategy[list[tuple[str, ...]]]:
    # Phones have no white space: lexicons separate them by it.
    phones = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=3)
    return st.lists(st.lists(phones, min_size=1).map(tuple), min_size=1, max_size=3)


@given(st.dictionaries(st.text(min_size=1), pronunciations(), max_size=20), st.text(min_size=1))
def test_gives_back_what_was_put_in(lexicon: dict, other: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lexicon with space.sqlite"
        write_packed_lexicon(path, lexicon)
        found = PackedLexicon(path).find([*lexicon, other])
    expected = {spelling: tuple(several) for spelling, several in lexicon.items()}
    assert found == expected


def test_half_a_surrogate_pair_is_just_unknown(tmp_path: Path) -> None:
    write_packed_lexicon(tmp_path / "one.sqlite", {"a": [("A",)]})
    assert PackedLexicon(tmp_path / "one.sqlite").find(["\ud800", "a"]) == {"a": (("A",),)}


def test_several_threads_at_once(tmp_path: Path) -> None:
    lexicon = {str(number): [(f"P{number}",)] for number in range(2000)}
    write_packed_lexicon(tmp_path / "one.sqlite", lexicon)
    packed = PackedLexicon(tmp_path / "one.sqlite")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(packed.find, [lexicon] * 16))
    assert all(len(answer) == 2000 and answer["7"] == (("P7",),) for answer in answers)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but longer than a header" * 9])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.sqlite").write_bytes(content)
    with pytest.raises(UserError, match="no packed lexicon|cannot be read"):
        PackedLexicon(tmp_path / "other.sqlite")
