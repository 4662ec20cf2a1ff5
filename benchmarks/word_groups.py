"""Sort the words of a lexicon by how frequent they are, and names from other words.

For `g2p evaluate … evaluate.groups=groups.tsv`, in an environment of its own:

    python -m venv build/word_groups
    build/word_groups/bin/pip install wordfreq==3.1.1 names==0.3.0
    build/word_groups/bin/python benchmarks/word_groups.py LEXICON.tsv >groups.tsv

Frequencies are wordfreq's for English. Names are those of the census of the United States of
1990 that the package names has; a word that it lists as a surname counts as a name even where it
is another word, too, unless that is among the more frequent words.
"""

import sys
from pathlib import Path

import names
from wordfreq import zipf_frequency

#: Least Zipf frequency (decimal logarithm of occurrences in a thousand million words) of a group.
FREQUENCIES = (
    (4.0, "10 in a million and more"),
    (3.0, "1 to 10 in a million"),
    (2.0, "0.1 to 1 in a million"),
    (0.01, "rarer"),
    (0.0, "never in wordfreq"),
)
NAMES_FILES = ("dist.all.last", "dist.female.first", "dist.male.first")


def main() -> None:
    """Write a line for each word and group: the word, a tab, the group."""
    folder = Path(names.__file__).parent
    listed = {line.split()[0].lower() for file in NAMES_FILES for line in (folder / file).open()}
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    groups: dict[str, list[str]] = {label: [] for _, label in FREQUENCIES}
    groups |= {"names": [], "no names": []}
    for word in dict.fromkeys(line.split("\t")[0] for line in lines):
        frequency = zipf_frequency(word, "en")
        groups[next(label for least, label in FREQUENCIES if frequency >= least)].append(word)
        is_name = word.removesuffix("'s") in listed and frequency < FREQUENCIES[1][0]
        groups["names" if is_name else "no names"].append(word)
    for group, words in groups.items():
        sys.stdout.writelines(f"{word}\t{group}\n" for word in words)


if __name__ == "__main__":
    main()
