"""The whole network: letters and the chunks said so far in, the next chunk out.

The encoder looks at the whole spelling at once: every letter is described by its embedding
and by embeddings of the hashed letter n-grams around it (as in Bojanowski et al., 2017,
"Enriching Word Vectors with Subword Information"), refined by gated convolutions. The decoder
walks over the letters and gives each one a chunk of zero or more phones, knowing the chunks
before it through a recurrent state (Cho et al., 2014). The steps are aligned with the letters
(Yao and Zweig, 2015, "Sequence-to-Sequence Neural Net Models for Grapheme-to-Phoneme
Conversion"), so there is no attention to learn, no end symbol, and all hypotheses of a beam
have the same length.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID

#: Multipliers and modulus of the n-gram hash: a polynomial over ids in 64-bit integers.
HASH_BASE = 1_000_003
HASH_LETTER_FACTOR = 7_919
HASH_FINAL_FACTOR = 48_271
HASH_MODULUS = 2_147_483_647


@dataclass(frozen=True)
class NetworkDimensions:
    """Everything that is needed to rebuild a network from its weights.

    Attributes:
        letters: letter ids, padding included.
        chunks: chunk ids, the start symbol included.
        encoder_size: channels of the encoder (d below).
        encoder_layers: number of convolution blocks.
        kernel_size: letters that a convolution sees, an odd number.
        expansion: width of a block's gated layer, as a multiple of ``encoder_size``.
        ngram_windows: first and last letter of each n-gram, relative to the letter it
            describes; empty for no n-gram embeddings.
        ngram_buckets: rows of the n-gram embedding table.
        ngram_size: width of that table.
        history_size: width of an embedded chunk.
        decoder_size: width of the recurrent state (s below).
        output_size: width of the layer before the output.
        dropout: probability of dropping an activation.
        ngram_dropout: probability of dropping an n-gram embedding.
        history_dropout: probability of hiding a previous chunk from the decoder.
    """

    letters: int
    chunks: int
    encoder_size: int
    encoder_layers: int
    kernel_size: int
    expansion: int
    ngram_windows: tuple[tuple[int, int], ...]
    ngram_buckets: int
    ngram_size: int
    history_size: int
    decoder_size: int
    output_size: int
    dropout: float
    ngram_dropout: float
    history_dropout: float

    def to_dict(self) -> dict:
        """Return plain values, fit for a checkpoint that loads without arbitrary code."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "NetworkDimensions":
        """Rebuild the dimensions from :meth:`to_dict`'s values."""
        windows = tuple((first, last) for first, last in values["ngram_windows"])
        return cls(**{**values, "ngram_windows": windows})


class NgramEmbedding(nn.Module):
    """Sums the embeddings of the hashed letter n-grams around every letter."""

    def __init__(
        self, windows: Sequence[tuple[int, int]], buckets: int, size: int, dropout: float
    ) -> None:
        super().__init__()
        self.windows = list(windows)
        self.buckets = buckets
        self.dropout = dropout
        self.reach = max(max(-first, last) for first, last in windows)
        self.table = nn.Embedding(buckets, size)
        nn.init.normal_(self.table.weight, std=size**-0.5 / len(self.windows))

    def hashes(self, letters: Tensor) -> Tensor:
        """Return the bucket of every n-gram: (batch, letters) to (batch, letters, windows)."""
        length = letters.shape[1]
        # The first id past the alphabet would do as well as padding for the outside of a
        # word; padding itself makes a word's buckets independent of the batch around it.
        padded = functional.pad(letters, (self.reach, self.reach), value=PADDING_ID)
        buckets = []
        for number, (first, last) in enumerate(self.windows, start=1):
            code = torch.full_like(letters, number)
            for offset in range(first, last + 1):
                start = self.reach + offset
                neighbour = padded[:, start : start + length]
                code = (code * HASH_BASE + neighbour * HASH_LETTER_FACTOR) % HASH_MODULUS
            buckets.append(code * HASH_FINAL_FACTOR % HASH_MODULUS % self.buckets)
        return torch.stack(buckets, dim=-1)

    def forward(self, letters: Tensor) -> Tensor:
        """Return the sums: (batch, letters) to (batch, letters, size)."""
        embedded = self.table(self.hashes(letters))  # (batch, letters, windows, size)
        if self.training and self.dropout:
            kept = torch.rand(embedded.shape[:-1], device=embedded.device) >= self.dropout
            embedded = embedded * (kept / (1.0 - self.dropout)).unsqueeze(-1)
        return embedded.sum(dim=-2)


class ConvolutionBlock(nn.Module):
    """A depthwise convolution over letters and a gated layer, with a residual connection."""

    def __init__(self, size: int, kernel_size: int, expansion: int, dropout: float) -> None:
        super().__init__()
        # One weight per neighbour and channel. Written out as shifted products it takes a
        # third of the time of a grouped Conv1d on a CPU, and no transposition.
        self.taps = nn.Parameter(torch.randn(kernel_size, size) * kernel_size**-0.5)
        self.bias = nn.Parameter(torch.zeros(size))
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, 2 * expansion * size)
        self.contract = nn.Linear(expansion * size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Refine ``states`` (batch, letters, d); ``mask`` (batch, letters, 1) is 0 at padding."""
        length = states.shape[1]
        reach = len(self.taps) // 2
        padded = functional.pad(states * mask, (0, 0, reach, reach))
        mixed = self.bias
        for i, tap in enumerate(self.taps):
            mixed = mixed + padded[:, i : i + length] * tap
        values, gates = self.expand(self.norm(mixed)).chunk(2, dim=-1)
        return states + self.dropout(self.contract(values * functional.silu(gates)))


class Encoder(nn.Module):
    """Describes every letter by the whole spelling around it."""

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        size = dimensions.encoder_size
        self.letters = nn.Embedding(dimensions.letters, size)
        nn.init.normal_(self.letters.weight)
        self.ngrams = None
        if dimensions.ngram_windows:
            self.ngrams = NgramEmbedding(
                dimensions.ngram_windows,
                dimensions.ngram_buckets,
                dimensions.ngram_size,
                dimensions.ngram_dropout,
            )
            self.ngram_projection = nn.Linear(dimensions.ngram_size, size)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(
                size, dimensions.kernel_size, dimensions.expansion, dimensions.dropout
            )
            for _ in range(dimensions.encoder_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dimensions.dropout)

    def forward(self, letters: Tensor) -> Tensor:
        """Encode letter ids: (batch, letters) to (batch, letters, d)."""
        mask = (letters != PADDING_ID).unsqueeze(-1).to(self.letters.weight.dtype)
        states = self.letters(letters)  # (batch, letters, d)
        if self.ngrams is not None:
            states = states + self.ngram_projection(self.ngrams(letters))
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, mask)
        return self.dropout(self.norm(states))


class Decoder(nn.Module):
    """Gives every letter a chunk, knowing the letter's encoding and the chunks before it."""

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        self.state_size = dimensions.decoder_size
        self.history_dropout = dimensions.history_dropout
        self.chunks = nn.Embedding(dimensions.chunks, dimensions.history_size)
        self.recurrence = nn.GRU(
            dimensions.encoder_size + dimensions.history_size,
            dimensions.decoder_size,
            batch_first=True,
        )
        self.from_encoding = nn.Linear(dimensions.encoder_size, dimensions.output_size)
        self.from_state = nn.Linear(dimensions.decoder_size, dimensions.output_size, bias=False)
        self.output = nn.Linear(dimensions.output_size, dimensions.chunks)
        self.dropout = nn.Dropout(dimensions.dropout)

    def forward(self, encoding: Tensor, chunks: Tensor) -> Tensor:
        """Return the logits of every chunk given the true chunks before it.

        Args:
            encoding: (batch, letters, d).
            chunks: the true chunk ids, (batch, letters).

        Returns:
            Logits, (batch, letters, chunks).
        """
        history = functional.pad(chunks[:, :-1], (1, 0), value=START_ID)
        embedded = self.chunks(history)
        if self.training and self.history_dropout:
            kept = torch.rand(history.shape, device=history.device) >= self.history_dropout
            embedded = embedded * kept.unsqueeze(-1)
        states, _ = self.recurrence(torch.cat((encoding, embedded), dim=-1))
        hidden = self.from_encoding(encoding) + self.from_state(self.dropout(states))
        return self.output(self.dropout(functional.silu(hidden)))

    def prepare(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`step` needs of the encoding, computed for all letters at once.

        Args:
            encoding: (batch, letters, d).

        Returns:
            The letters' part of the recurrence, (batch, letters, 3 s), and of the hidden
            layer, (batch, letters, output size).
        """
        size = encoding.shape[-1]
        weight = self.recurrence.weight_ih_l0[:, :size]
        gates = functional.linear(encoding, weight, self.recurrence.bias_ih_l0)
        return gates, self.from_encoding(encoding)

    def history_table(self) -> Tensor:
        """Return the previous chunk's part of the recurrence, one row per chunk: (chunks, 3 s)."""
        weight = self.recurrence.weight_ih_l0[:, -self.chunks.embedding_dim :]
        return functional.linear(self.chunks.weight, weight)

    def step(
        self, table: Tensor, gates: Tensor, hidden: Tensor, previous: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance by one letter, exactly as the recurrence of :meth:`forward` does.

        Args:
            table: :meth:`history_table`'s result.
            gates: this letter's slice of :meth:`prepare`'s first result, (batch, 1, 3 s).
            hidden: this letter's slice of its second result, (batch, 1, output size).
            previous: chunk ids of the letter before, (batch, beam).
            state: the recurrent state, (batch, beam, s).

        Returns:
            Log-probabilities of the chunks, (batch, beam, chunks - 1): the start symbol, the
            first, is no answer. And the new state, (batch, beam, s).
        """
        from_inputs = gates + functional.embedding(previous, table)
        from_state = functional.linear(
            state, self.recurrence.weight_hh_l0, self.recurrence.bias_hh_l0
        )
        input_reset, input_update, input_new = from_inputs.chunk(3, dim=-1)
        state_reset, state_update, state_new = from_state.chunk(3, dim=-1)
        reset = torch.sigmoid(input_reset + state_reset)
        update = torch.sigmoid(input_update + state_update)
        proposed = torch.tanh(input_new + reset * state_new)
        advanced = proposed + update * (state - proposed)
        logits = self.output(functional.silu(hidden + self.from_state(advanced)))
        return functional.log_softmax(logits[..., START_ID + 1 :], dim=-1), advanced


class Network(nn.Module):
    """Encoder and decoder."""

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.encoder = Encoder(dimensions)
        self.decoder = Decoder(dimensions)

    def forward(self, letters: Tensor, chunks: Tensor) -> Tensor:
        """Return logits (batch, letters, chunks) for training.

        Args:
            letters: letter ids, 0 at padding, (batch, letters).
            chunks: the true chunk ids, (batch, letters).
        """
        return self.decoder(self.encoder(letters), chunks)

    def weights_per_letter(self) -> int:
        """Return how many weights take part in the arithmetic of a letter: all but tables."""
        tables = sum(
            module.weight.numel() for module in self.modules() if isinstance(module, nn.Embedding)
        )
        return sum(parameter.numel() for parameter in self.parameters()) - tables

    @torch.no_grad()
    def search(self, letters: Tensor, beam_size: int = 1) -> tuple[Tensor, Tensor]:
        """Find the most probable chunk sequences by beam search.

        The exported graph does the same; this is its reference.

        Args:
            letters: letter ids, 0 at padding, (batch, letters).
            beam_size: number of hypotheses kept; 1 is greedy search.

        Returns:
            Chunk ids, 0 at padding, (batch, beam, letters), best first, and their log
            probabilities, (batch, beam).
        """
        batch, length = letters.shape
        gates, hidden = self.decoder.prepare(self.encoder(letters))
        table = self.decoder.history_table()
        state = gates.new_zeros(batch, beam_size, self.decoder.state_size)
        previous = letters.new_full((batch, beam_size), START_ID)
        # One live hypothesis at first: the others would only repeat it.
        scores = gates.new_full((batch, beam_size), float("-inf"))
        scores[:, 0] = 0.0
        path = letters.new_zeros(batch, beam_size, 0)
        unmoved = torch.arange(beam_size, device=letters.device)
        for i in range(length):
            log_probabilities, advanced = self.decoder.step(
                table, gates[:, i : i + 1], hidden[:, i : i + 1], previous, state
            )
            totals = scores.unsqueeze(-1) + log_probabilities  # (batch, beam, chunks - 1)
            best, found = totals.flatten(start_dim=1).topk(beam_size, dim=-1)
            inside = (letters[:, i] != PADDING_ID).unsqueeze(-1)
            source = torch.where(inside, found // totals.shape[-1], unmoved)
            previous = torch.where(inside, found % totals.shape[-1] + 1, START_ID)
            scores = torch.where(inside, best, scores)
            moved = advanced.gather(1, source.unsqueeze(-1).expand_as(advanced))
            state = torch.where(inside.unsqueeze(-1), moved, state)
            path = path.gather(1, source.unsqueeze(-1).expand(-1, -1, i))
            path = torch.cat((path, previous.unsqueeze(-1)), dim=-1)
        return path, scores
