"""The table and the page of a review."""

from html.parser import HTMLParser
from pathlib import Path

from grapheme_to_phoneme.review.report import (
    COLUMNS,
    Difference,
    differences,
    write_page,
    write_table,
)
from grapheme_to_phoneme.review.scoring import Judgement

TOUGH = Judgement(
    "tough",
    (("T",), ("AW1",), (), (), ()),
    (("T",), ("AH1",), (), ("F",), ()),
    7.25,
)
#: The same phones, divided otherwise between two letters, and a difference elsewhere.
KICKS = Judgement(
    "kicks",
    (("K",), ("IH1",), ("K",), (), ("S",)),
    (("K",), ("IY1",), (), ("K",), ("S",)),
    1.0,
)
RIGHT = Judgement("a", (("AH0",),), (("AH0",),), 0.0)
FOREIGN = Judgement("<שלום>", (("x&y",), (), (), (), (), ()), (("ʃ",), (), (), (), (), ()), 3.0)


class Texts(HTMLParser):
    """Collects what a page says and which elements it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_differences() -> None:
    assert differences(TOUGH) == [
        Difference(1, 2, ("AW1",), ("AH1",)),
        Difference(3, 4, (), ("F",)),
    ]
    assert differences(KICKS) == [Difference(1, 4, ("IH1", "K"), ("IY1", "K"))]
    assert differences(RIGHT) == []


def test_phones_that_only_moved_are_no_difference() -> None:
    moved = Judgement("ck", (("K",), ()), ((), ("K",)), 0.5)
    assert differences(moved) == []


def test_table(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "review.tsv"
    write_table(path, [TOUGH, RIGHT])
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    assert rows == [
        list(COLUMNS),
        ["1", "7.25", "tough", "T AW1", "T AH1 F", "o: AW1 → AH1; g: _ → F"],
        ["2", "0.00", "a", "AH0", "AH0", ""],
    ]


def test_page_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    write_page(path, "my <lexicon> & more", [TOUGH, FOREIGN, KICKS, RIGHT], most=2)
    page = path.read_text("utf-8")
    parsed = Texts(page)
    assert not {"script", "link", "img", "iframe", "lexicon"} & set(parsed.tags)
    assert "http" not in page
    assert parsed.tags.count("tr") == 1 + 2
    text = "".join(parsed.texts)
    for said in ("my <lexicon> & more", "2 of 4 entries", "<", "שלום", "x&y"):
        assert said in text
    assert "kicks" not in text
    assert "<bdi>t<mark>o</mark>u<mark>g</mark>h</bdi>" in page
    assert "<bdi>T <mark>AW1</mark> <mark>_</mark></bdi>" in page
    assert "<bdi>T <mark>AH1</mark> <mark>F</mark></bdi>" in page


def test_entries_that_the_model_would_say_too_are_not_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    write_page(path, "mine", [TOUGH, RIGHT], most=10)
    assert Texts(path.read_text("utf-8")).tags.count("tr") == 1 + 1
