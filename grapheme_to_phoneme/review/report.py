"""Writes a review as a table and as a page to read."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grapheme_to_phoneme.lexicon.files import replacing
from grapheme_to_phoneme.review.scoring import Judgement
from grapheme_to_phoneme.training.alignment import Chunk

TABLE_NAME = "review.tsv"
PAGE_NAME = "review.html"
COLUMNS = ("rank", "improbability", "word", "given", "proposed", "places")

#: Stands for no phone.
SILENT = "_"

#: A page of its own: no scripts, nothing from elsewhere.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Review of {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{
  font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto;
  max-width: 70rem;
  padding: 0 1rem;
}}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{
  border-bottom: 1px solid #8886;
  padding: 0.3rem 0.6rem;
  text-align: start;
  vertical-align: top;
}}
th {{ position: sticky; top: 0; background: Canvas; }}
td.number {{ text-align: end; font-variant-numeric: tabular-nums; }}
mark {{ background: #fd06; color: inherit; border-radius: 0.2em; padding: 0 0.1em; }}
</style>
</head>
<body>
<h1>Review of {title}</h1>
<p>{listed} of {total} entries, those first whose pronunciation a model of the other words finds
least probable. Improbability is in powers of ten: at 3, the proposal is a thousand times as
probable as what is given. A high one is no proof: names, loanwords and abbreviations are
improbable, too.</p>
<table>
<thead><tr><th scope="col">#</th><th scope="col">Improbability</th><th scope="col">Word</th>\
<th scope="col">Given</th><th scope="col">Proposed</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


@dataclass(frozen=True)
class Difference:
    """A place where the given pronunciation and the proposal say different phones.

    Attributes:
        start: the first letter of the place.
        stop: the letter after its last.
        given: the phones that are given there.
        proposed: the phones that are proposed there.
    """

    start: int
    stop: int
    given: Chunk
    proposed: Chunk


def differences(judgement: Judgement) -> list[Difference]:
    """Return the places where letters give other phones than proposed, from left to right.

    Neighbouring letters that differ are one place. Where they say the same phones after all,
    only divided otherwise among themselves, there is no difference.
    """
    places = []
    start = 0
    pairs = list(zip(judgement.given, judgement.proposed, strict=True))
    while start < len(pairs):
        stop = start
        while stop < len(pairs) and pairs[stop][0] != pairs[stop][1]:
            stop += 1
        given, proposed = (sum(chunks[start:stop], ()) for chunks in zip(*pairs, strict=True))
        if given != proposed:
            places.append(Difference(start, stop, given, proposed))
        start = stop + 1
    return places


def write_review(
    directory: Path, title: str, judgements: Sequence[Judgement], most: int
) -> tuple[Path, Path]:
    """Write a review as a table and as a page.

    Args:
        directory: the folder for the two.
        title: the lexicon's name.
        judgements: the entries, the least probable first.
        most: how many of them the page shows.

    Returns:
        The table and the page.

    Raises:
        UserError: if they cannot be written.
    """
    table, page = directory / TABLE_NAME, directory / PAGE_NAME
    write_table(table, judgements)
    write_page(page, title, judgements, most)
    return table, page


def write_table(path: Path, judgements: Sequence[Judgement]) -> None:
    """Write a line for each entry, tabs between the columns, names in the first line.

    Raises:
        UserError: if the file cannot be written.
    """
    with replacing(path) as stream:
        stream.write(("\t".join(COLUMNS) + "\n").encode())
        for rank, judgement in enumerate(judgements, start=1):
            places = "; ".join(
                f"{judgement.spelling[place.start : place.stop]}: "
                f"{_shown(place.given)} → {_shown(place.proposed)}"
                for place in differences(judgement)
            )
            columns = (
                str(rank),
                f"{judgement.log_ratio:.2f}",
                judgement.spelling,
                " ".join(judgement.given_phones),
                " ".join(judgement.proposed_phones),
                places,
            )
            stream.write(("\t".join(columns) + "\n").encode())


def write_page(path: Path, title: str, judgements: Sequence[Judgement], most: int) -> None:
    """Write the first entries as a page that any browser shows, without scripts.

    Args:
        path: the page.
        title: the lexicon's name.
        judgements: the entries, the least probable first.
        most: how many of them to show.

    Raises:
        UserError: if the file cannot be written.
    """
    shown = [judgement for judgement in judgements[:most] if judgement.log_ratio > 0]
    rows = "\n".join(_row(rank, judgement) for rank, judgement in enumerate(shown, start=1))
    page = PAGE.format(
        title=html.escape(title),
        listed=f"{len(shown):,}",
        total=f"{len(judgements):,}",
        rows=rows,
    )
    with replacing(path) as stream:
        stream.write(page.encode())


def _row(rank: int, judgement: Judgement) -> str:
    marked = {
        letter for place in differences(judgement) for letter in range(place.start, place.stop)
    }
    cells = (
        _marked(judgement.spelling, marked, ""),
        _marked([" ".join(chunk) for chunk in judgement.given], marked, " "),
        _marked([" ".join(chunk) for chunk in judgement.proposed], marked, " "),
    )
    # Right-to-left words stand as they are read, whatever the language of the page.
    return (
        f'<tr><td class="number">{rank}</td><td class="number">{judgement.log_ratio:.1f}</td>'
        + "".join(f"<td><bdi>{cell}</bdi></td>" for cell in cells)
        + "</tr>"
    )


def _marked(parts: Sequence[str], marked: set[int], separator: str) -> str:
    """Join parts, one for each letter, with neighbours that are marked in one mark."""
    pieces: list[tuple[bool, list[str]]] = []
    for i, part in enumerate(parts):
        if not pieces or pieces[-1][0] != (i in marked):
            pieces.append((i in marked, []))
        if part:
            pieces[-1][1].append(html.escape(part))
    shown = []
    for is_marked, texts in pieces:
        text = separator.join(texts)
        if is_marked:
            shown.append(f"<mark>{text or SILENT}</mark>")
        elif text:
            shown.append(text)
    return separator.join(shown)


def _shown(phones: Chunk) -> str:
    return " ".join(phones) or SILENT
