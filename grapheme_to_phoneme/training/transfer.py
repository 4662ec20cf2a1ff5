"""Starts a training from the weights of another: of other languages, or of another lexicon.

Most letters and phones of a small lexicon occur in other languages, too, where they are often
said alike (Peters, Dehdari and van Genabith, 2017, "Massively Multilingual Neural
Grapheme-to-Phoneme Conversion").
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from grapheme_to_phoneme.training.lightning_module import PronunciationModule
from grapheme_to_phoneme.training.network import ContextMemory, Decoder, Encoder, Network

#: What the first row of every table stands for: padding, or the start.
FIRST_ROW = None


@torch.no_grad()
def transfer(source: PronunciationModule, target: PronunciationModule) -> tuple[int, int]:
    """Give a new network the weights of a trained one, which differs in its alphabets alone.

    What both spell or say is known by its name, a language's tag by the language; the rest of
    the target's letters and chunks stay as they are, untrained.

    Args:
        source: the trained one.
        target: the new one, changed in place.

    Returns:
        How many of the target's letters and chunks the source knows.
    """
    letters = _Shared(_letters(source), _letters(target))
    chunks = _Shared(source.alphabets.chunks, target.alphabets.chunks)
    shared = {
        **dict.fromkeys(_names(target.network, Encoder, "letters.weight"), letters),
        **dict.fromkeys(_names(target.network, ContextMemory, "chunks.weight"), chunks),
        **dict.fromkeys(
            _names(target.network, Decoder, "chunks.weight", "output.weight", "output.bias"),
            chunks,
        ),
    }
    trained = dict(source.network.named_parameters())
    for name, parameter in target.network.named_parameters():
        if name in shared:
            shared[name].copy(trained[name], parameter)
        else:
            parameter.copy_(trained[name])
    return letters.known, chunks.known


class _Shared:
    """Which rows of two tables stand for the same.

    Args:
        source: what the rows of one stand for, after the first.
        target: what those of the other stand for.
    """

    def __init__(self, source: Sequence[Hashable], target: Sequence[Hashable]) -> None:
        rows = {key: row for row, key in enumerate((FIRST_ROW, *source))}
        pairs = [(row, rows[key]) for row, key in enumerate((FIRST_ROW, *target)) if key in rows]
        self._target_rows, self._source_rows = map(list, zip(*pairs, strict=True))
        self._target_size, self._source_size = len(target) + 1, len(source) + 1

    @property
    def known(self) -> int:
        """Rows that both have, but for the first."""
        return len(self._target_rows) - 1

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy the shared rows: (tables * rows, …), where a memory has a table a window."""
        theirs = source.view(-1, self._source_size, *source.shape[1:])
        ours = target.view(-1, self._target_size, *target.shape[1:])
        ours[:, self._target_rows] = theirs[:, self._source_rows]


def _letters(module: PronunciationModule) -> list[Hashable]:
    """Return the letters, and codes in place of the tags of languages."""
    codes = {language["tag"]: language["code"] for language in module.facts["languages"]}
    return [
        ("code", codes[letter]) if letter in codes else letter
        for letter in module.alphabets.letters
    ]


def _names(network: Network, kind: type, *parameters: str) -> list[str]:
    """Return the full names of the parameters of all modules of a kind."""
    return [
        f"{name}.{parameter}"
        for name, module in network.named_modules()
        if isinstance(module, kind)
        for parameter in parameters
    ]
