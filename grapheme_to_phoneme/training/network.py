"""The whole network: letters and the chunks said so far in, the next chunk out.

The encoder looks at the whole spelling at once: every letter is described by its embedding
and by what a memory of the lexicon says of it, refined by gated convolutions, and by attention or
averages along the word. The decoder walks over the letters and gives each one a chunk of zero or
more phones, knowing the chunks before it through a state whose channels each remember by
themselves (Bradbury et al., 2017, "Quasi-Recurrent Neural Networks"): no product of the state with
a matrix stands between one letter and the next. The steps are aligned with the letters (Yao and
Zweig, 2015, "Sequence-to-Sequence Neural Net Models for Grapheme-to-Phoneme Conversion"), so there
is no alignment to learn, no end symbol, and all hypotheses of a beam have the same length.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID
from grapheme_to_phoneme.training.evidence import LEVELS, READ_CHUNKS, Window
from grapheme_to_phoneme.training.memory import MemoryTable, context_codes
from grapheme_to_phoneme.training.operators import Dropout, GatedAverages, ShiftedProducts

#: Added to the attention that padding gets; finite, since an empty word is all padding.
OUT_OF_SIGHT = -1e4

#: Of what a chunk has, this share is left to it whatever label smoothing may have added.
LEAST_LEFT = 0.01

#: A multiple of how many numbers a processor takes the logarithm of at once.
NUMBERS_AT_ONCE = 16

#: What the exported graph calls attention: an operator of ONNX Runtime's own.
ATTENTION_OPERATOR = "com.microsoft::MultiHeadAttention"

#: What it calls averages along a word, until the export spells them out.
AVERAGES_OPERATOR = "grapheme_to_phoneme::Averages"

#: What it calls a layer of LSTMs.
LSTM_OPERATOR = "ai.onnx::LSTM"

#: Embeddings of levels become about so much smaller than those of chunks; as large, they lose no
#: more than those in a table of 8 bits for both.
LEVELS_SCALE = 2.0

#: Standard deviation of the memory's embeddings at first.
INITIAL_EVIDENCE = 0.05


#: Shares of an average that a letter leaves at first: of the first channel and the last.
INITIALLY_KEPT = (0.27, 0.88)

#: The least that the numbers of a network may be.
LEAST_SIZES = {
    "encoder_size": 1,
    "encoder_layers": 0,
    "attention_heads": 0,
    "attention_reach": 0,
    "kernel_size": 1,
    "expansion": 1,
    "recurrent_layers": 0,
    "memory_slots": 0,
    "memory_size": 0,
    "history_size": 1,
    "decoder_size": 1,
    "output_size": 1,
    "members": 1,
}


@dataclass(frozen=True)
class NetworkDimensions:
    """Everything that is needed to rebuild a network from its weights.

    Attributes:
        letters: letter ids, padding included.
        chunks: chunk ids, the start symbol included.
        encoder_size: channels of the encoder (d below).
        encoder_layers: number of convolution blocks.
        attention_heads: heads of the attention block after each of them; 0 for none.
        attention_reach: distance in letters from which on the heads tell no more apart.
        kernel_size: letters that a convolution sees, an odd number.
        expansion: width of a block's gated layer, as a multiple of ``encoder_size``.
        memory_windows: first and last letter of each remembered context, relative to the
            letter it surrounds; empty for no memory.
        memory_slots: contexts that the memory holds at most.
        memory_size: width of a remembered chunk's embedding.
        history_size: width of an embedded chunk.
        decoder_size: width of the decoder's state (s below).
        output_size: width of the layer before the output.
        dropout: probability of dropping an activation.
        memory_dropout: probability of hiding a context from the network.
        history_dropout: probability of hiding a previous chunk from the decoder.
        recurrent_layers: number of recurrent layers after the convolution blocks.
        averages: whether the convolution blocks carry averages along the word.
        members: networks of these dimensions that answer together.
        companion: another network that answers together with them, and so on.
    """

    letters: int
    chunks: int
    encoder_size: int
    encoder_layers: int
    attention_heads: int
    attention_reach: int
    kernel_size: int
    expansion: int
    memory_windows: tuple[Window, ...]
    memory_slots: int
    memory_size: int
    history_size: int
    decoder_size: int
    output_size: int
    dropout: float
    memory_dropout: float
    history_dropout: float
    recurrent_layers: int = 0
    averages: bool = False
    members: int = 1
    companion: "NetworkDimensions | None" = None

    def __post_init__(self) -> None:
        """Refuse what makes no network, or one that cannot be exported when it is trained."""
        for name, least in LEAST_SIZES.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, not {getattr(self, name)}")
        for name in ("dropout", "memory_dropout", "history_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is from 0 to below 1, not {getattr(self, name)}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is an odd number, not {self.kernel_size}")
        if self.averages and self.expansion * self.encoder_size % 2:
            raise ValueError(
                "encoder_size times expansion is an even number with averages, which go in two "
                f"directions, not {self.expansion * self.encoder_size}"
            )
        has_attention = self.encoder_layers and self.attention_heads
        if has_attention and self.encoder_size % self.attention_heads:
            raise ValueError(
                f"encoder_size is a multiple of attention_heads, not {self.encoder_size} with "
                f"{self.attention_heads} heads"
            )
        if self.recurrent_layers and self.encoder_size < 2:
            raise ValueError("encoder_size is at least 2 with recurrent layers, one a direction")
        if self.memory_windows and self.memory_size < 1:
            raise ValueError("memory_size is at least 1 with memory_windows")
        for first, last in self.memory_windows:
            if not first <= 0 <= last:
                raise ValueError(
                    f"memory_windows lie around their letter, from 0 or less to 0 or more, not "
                    f"from {first} to {last}"
                )

    def of_members(self) -> list["NetworkDimensions"]:
        """Return the dimensions of every network that answers together, one after the other."""
        further = self.companion.of_members() if self.companion else []
        return [replace(self, members=1, companion=None)] * self.members + further

    @property
    def widest(self) -> int:
        """Channels of the widest layer.

        Gated ones have two parts, three where they average, recurrent cells four.
        """
        return max(
            max((2 + member.averages) * member.expansion, 4 * bool(member.recurrent_layers))
            * member.encoder_size
            for member in self.of_members()
        )

    def to_dict(self) -> dict:
        """Return plain values, fit for a checkpoint that loads without arbitrary code."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "NetworkDimensions":
        """Rebuild the dimensions from :meth:`to_dict`'s values."""
        windows = tuple((first, last) for first, last in values["memory_windows"])
        companion = values.get("companion")
        if companion:
            # It spells and says the same.
            alphabets = {name: values[name] for name in ("letters", "chunks")}
            companion = cls.from_dict({**companion, **alphabets})
        return cls(**{**values, "memory_windows": windows, "companion": companion})


class ContextMemory(nn.Module):
    """Describes every letter by what it became in other words, in contexts of several extents.

    A context's chunks are embedded, weighted by their shares, and summed over the contexts; so
    is the number of its words, which says how far to trust it.
    """

    def __init__(
        self, windows: Sequence[Window], chunks: int, size: int, output_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.windows = list(windows)
        self.dropout = dropout
        self.table = MemoryTable.empty()
        self.chunks = nn.Embedding(len(self.windows) * chunks, size)
        self.levels = nn.Embedding(len(self.windows) * LEVELS, size)
        self.gains = nn.Embedding(len(self.windows) * LEVELS, 1)
        self.projection = nn.Linear(size, output_size)
        nn.init.normal_(self.chunks.weight, std=INITIAL_EVIDENCE)
        nn.init.normal_(self.levels.weight, std=INITIAL_EVIDENCE)
        nn.init.ones_(self.gains.weight)

    @property
    def table(self) -> MemoryTable:
        """What the lexicon says."""
        return self._table

    @table.setter
    def table(self, table: MemoryTable) -> None:
        self._table = table
        self._evidence = table.evidence(self.windows)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the table: no parameter to average, no buffer to synchronise in each step."""
        return self.table.to_dict()

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take up the table of a checkpoint."""
        self.table = MemoryTable(**state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ContextMemory":
        """Move the table along with the weights."""
        self._table = self._table.map(fn)
        self._evidence = self._evidence.map(fn)
        return super()._apply(fn, recurse)

    def look_up(self, letters: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the table says of every letter in every context.

        Args:
            letters: letter ids, (batch, letters).
            own: the chunks that the letters give in the pronunciations of the same words,
                whose counts to leave out, (batch, letters, pronunciations); None for words
                that the table has not seen.

        Returns:
            As :meth:`Evidence.look_up`.
        """
        codes = context_codes(letters, self.windows)
        return (
            self._evidence.look_up(codes)
            if own is None
            else self._table.look_up_others(codes, own)
        )

    def forward(self, letters: Tensor, own: Tensor | None = None) -> Tensor:
        """Describe the letters: (batch, letters) to (letters, batch, output size).

        ``own`` is explained in :meth:`look_up`.
        """
        chunks, shares, levels = self.look_up(letters, own)
        numbers = torch.arange(len(self.windows), device=letters.device)
        levels = levels + numbers * LEVELS
        stride = self.chunks.num_embeddings // len(numbers)
        chunks = chunks + torch.cat((numbers * stride,) * READ_CHUNKS)
        trust = self.gains(levels).squeeze(-1)
        if torch.compiler.is_exporting():
            weights = shares * torch.cat((trust,) * READ_CHUNKS, dim=-1)
            return self.projection(self._joint_sum(chunks, weights, levels).transpose(0, 1))
        kept = torch.ones_like(trust)
        if self.training and self.dropout:
            kept = (torch.rand_like(kept) >= self.dropout) / (1.0 - self.dropout)
        weights = shares * torch.cat((trust * kept,) * READ_CHUNKS, dim=-1)
        said = weighted_sum(self.chunks, chunks, weights)
        said = said + weighted_sum(self.levels, levels, kept)
        return self.projection(said.transpose(0, 1))

    def _joint_sum(self, chunks: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
        """Return the sum of :meth:`forward` as one product, since ONNX has no weighted sums."""
        table = torch.cat((self.chunks.weight, self.levels.weight * LEVELS_SCALE))
        ids = torch.cat((chunks, levels + self.chunks.num_embeddings), dim=-1)
        weights = functional.pad(weights, (0, len(self.windows)), value=1.0 / LEVELS_SCALE)
        return (weights.unsqueeze(-2) @ functional.embedding(ids, table)).squeeze(-2)


def weighted_sum(embedding: nn.Embedding, ids: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums of embeddings.

    Args:
        embedding: the embeddings.
        ids: their ids, (batch, letters, summands).
        weights: their weights, alike.

    Returns:
        The sums, (batch, letters, size).
    """
    sums = functional.embedding_bag(
        ids.flatten(end_dim=1),
        embedding.weight,
        per_sample_weights=weights.flatten(end_dim=1).to(embedding.weight.dtype),
        mode="sum",
    )
    return sums.view(*ids.shape[:2], embedding.embedding_dim)


class ConvolutionBlock(nn.Module):
    """A depthwise convolution over letters and a gated layer, with a residual connection.

    A block that averages carries what it lets through along the word, in either direction, by the
    rule of quasi-recurrent networks (Bradbury et al., 2017): so it sees the whole word.
    """

    def __init__(
        self, size: int, kernel_size: int, expansion: int, averages: bool, dropout: float
    ) -> None:
        super().__init__()
        # One weight per neighbour and channel. Written out as shifted products it takes PyTorch
        # a third of the time of a grouped Conv1d on a CPU, and no transposition.
        self.taps = nn.Parameter(torch.randn(kernel_size, size) * kernel_size**-0.5)
        self.bias = nn.Parameter(torch.zeros(size))
        self.norm = nn.LayerNorm(size)
        self.averages = averages
        self.expand = nn.Linear(size, (3 if averages else 2) * expansion * size)
        if averages:
            shares = self.expand.bias.data[2 * expansion * size :]
            shares.copy_(torch.linspace(*INITIALLY_KEPT, len(shares) // 2).repeat(2).logit())
        self.contract = nn.Linear(expansion * size, size)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Refine ``states`` (letters, batch, d); ``mask`` (letters, batch, 1) is 0 at padding."""
        mixed = self._mix(states * mask)
        parts = self.expand(self.norm(mixed)).chunk(3 if self.averages else 2, dim=-1)
        values, gates = parts[:2]
        if self.averages:
            values = _averages(torch.sigmoid(parts[2]), values * mask.to(values.dtype))
        return states + self.dropout(self.contract(values * functional.silu(gates)))

    def _mix(self, states: Tensor) -> Tensor:
        """Convolve, (letters, batch, d) in and out."""
        kernel_size, size = self.taps.shape
        reach = kernel_size // 2
        if torch.compiler.is_exporting():
            # As an image of one line: ONNX Runtime has a fast operator for those alone.
            image = states.permute(1, 2, 0).unsqueeze(2)
            weight = self.taps.t().reshape(size, 1, 1, kernel_size)
            convolved = functional.conv2d(
                image, weight, self.bias, padding=(0, reach), groups=size
            )
            return convolved.squeeze(2).permute(2, 0, 1)
        return ShiftedProducts.apply(states, self.taps, self.bias)


def _averages(kept: Tensor, proposed: Tensor) -> Tensor:
    """Return what :class:`GatedAverages` gives, as one operator of a graph where one is made."""
    if not torch.compiler.is_exporting():
        return GatedAverages.apply(kept, proposed)
    added = proposed * (1.0 - kept)
    half = added.shape[-1] // 2
    kept_onward, kept_homeward = kept[..., :half], kept[..., half:]
    added_onward, added_homeward = added[..., :half], added[..., half:]
    onward, homeward = torch.onnx.ops.symbolic_multi_out(
        AVERAGES_OPERATOR,
        (kept_onward, added_onward, kept_homeward, added_homeward),
        dtypes=(added.dtype, added.dtype),
        shapes=(added_onward.shape, added_homeward.shape),
        version=1,
    )
    return torch.cat((onward, homeward), dim=-1)


class AttentionBlock(nn.Module):
    """Self-attention over all letters (Vaswani et al., 2017), with a residual connection.

    A learnt bias for every head and distance, as in T5 (Raffel et al., 2020), tells where a
    letter stands; distances beyond ``reach`` share one.
    """

    def __init__(self, size: int, heads: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.reach = reach
        self.norm = nn.LayerNorm(size)
        self.inward = nn.Linear(size, 3 * size)
        self.outward = nn.Linear(size, size)
        self.distances = nn.Embedding(2 * reach + 1, heads)
        nn.init.zeros_(self.distances.weight)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Refine ``states`` (letters, batch, d); ``mask`` (letters, batch, 1) is 0 at padding."""
        length, batch, size = states.shape
        by_word = self.norm(states).transpose(0, 1)
        queries, keys, values = self.inward(by_word).chunk(3, dim=-1)
        places = torch.arange(length, device=states.device)
        distances = (places - places.unsqueeze(-1)).clamp(-self.reach, self.reach) + self.reach
        bias = self.distances(distances).permute(2, 0, 1)  # (heads, letters, letters)
        bias = bias + OUT_OF_SIGHT * (1.0 - mask.permute(1, 2, 0).unsqueeze(1))
        scale = (size // self.heads) ** -0.5
        if torch.compiler.is_exporting():
            # One operator of ONNX Runtime, in place of twenty.
            joined = torch.onnx.ops.symbolic(
                ATTENTION_OPERATOR,
                (queries, keys, values, None, None, bias),
                {"num_heads": self.heads, "scale": scale},
                dtype=states.dtype,
                shape=by_word.shape,
                version=1,
            )
        else:
            queries, keys, values = (
                part.view(batch, length, self.heads, size // self.heads).transpose(1, 2)
                for part in (queries, keys, values)
            )
            scores = queries @ keys.transpose(-1, -2) * scale
            attended = functional.softmax(scores + bias, dim=-1).to(values.dtype) @ values
            joined = attended.transpose(1, 2).reshape(batch, length, size)
        return states + self.dropout(self.outward(joined).transpose(0, 1))


class RecurrentBlock(nn.Module):
    """Layers of LSTMs in either direction (Graves and Schmidhuber, 2005).

    Without residual connections, which brought nothing on few words.
    """

    def __init__(self, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        half = size // 2
        self.onward = nn.ModuleList(nn.LSTM(size, half) for _ in range(layers))
        self.homeward = nn.ModuleList(nn.LSTM(size, size - half) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Replace ``states`` (letters, batch, d); ``mask`` (letters, batch, 1) is 0 at padding."""
        length, _, size = states.shape
        places = torch.arange(length, device=states.device).view(-1, 1, 1)
        # A letter that is unknown, which looks like padding, does not end its word.
        lengths = (mask * (places + 1)).amax(dim=(0, 2)).long()  # (batch,)
        # Each word is turned round within its own length: padding comes last in both
        # directions, where it changes nothing before it.
        turned = (lengths.view(1, -1, 1) - 1 - places).clamp(min=0)
        for number, (onward, homeward) in enumerate(zip(self.onward, self.homeward, strict=True)):
            if number:
                states = self.dropout(states)
            if torch.compiler.is_exporting():
                there = _exported_lstm(onward, states, "forward", lengths)
                back = _exported_lstm(homeward, states, "reverse", lengths)
            else:
                there, _ = onward(states)
                back, _ = homeward(states.gather(0, turned.expand(-1, -1, size)))
                back = back.gather(0, turned.expand(-1, -1, back.shape[-1]))
            states = torch.cat((there, back), dim=-1)
        return states


def _exported_lstm(layer: nn.LSTM, states: Tensor, direction: str, lengths: Tensor) -> Tensor:
    """Return what a layer says of ``states`` (letters, batch, d) as one operator of a graph.

    The operator turns words round itself.
    """
    length, batch, _ = states.shape
    weights = [
        _output_gate_second(parameter).unsqueeze(0)
        for parameter in (layer.weight_ih_l0, layer.weight_hh_l0)
    ]
    biases = [_output_gate_second(bias) for bias in (layer.bias_ih_l0, layer.bias_hh_l0)]
    said = torch.onnx.ops.symbolic(
        LSTM_OPERATOR,
        (states, *weights, torch.cat(biases).unsqueeze(0), lengths.int()),
        {"hidden_size": layer.hidden_size, "direction": direction},
        dtype=states.dtype,
        shape=(length, 1, batch, layer.hidden_size),
    )
    return said.squeeze(1)


def _output_gate_second(weights: Tensor) -> Tensor:
    """Bring the gates in the order of ONNX: input, output, forget, cell."""
    size = len(weights) // 4
    return torch.cat((weights[:size], weights[3 * size :], weights[size : 3 * size]))


class Encoder(nn.Module):
    """Describes every letter by the whole spelling around it.

    Inside, the letters come first: what walks over them takes one row of a tensor after the other.
    """

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        size = dimensions.encoder_size
        self.letters = nn.Embedding(dimensions.letters, size)
        nn.init.normal_(self.letters.weight)
        self.memory = None
        if dimensions.memory_windows:
            self.memory = ContextMemory(
                dimensions.memory_windows,
                dimensions.chunks,
                dimensions.memory_size,
                size,
                dimensions.memory_dropout,
            )
        self.blocks = nn.ModuleList()
        for _ in range(dimensions.encoder_layers):
            self.blocks.append(
                ConvolutionBlock(
                    size,
                    dimensions.kernel_size,
                    dimensions.expansion,
                    dimensions.averages,
                    dimensions.dropout,
                )
            )
            if dimensions.attention_heads:
                self.blocks.append(
                    AttentionBlock(
                        size,
                        dimensions.attention_heads,
                        dimensions.attention_reach,
                        dimensions.dropout,
                    )
                )
        # Sums of residual connections need a norm; what comes out of an LSTM is bounded.
        self.norm: nn.Module = nn.LayerNorm(size)
        if dimensions.recurrent_layers:
            self.blocks.append(
                RecurrentBlock(size, dimensions.recurrent_layers, dimensions.dropout)
            )
            self.norm = nn.Identity()
        self.dropout = Dropout(dimensions.dropout)

    def forward(self, letters: Tensor, own: Tensor | None = None) -> Tensor:
        """Encode letter ids: (batch, letters) to (letters, batch, d).

        ``own`` is explained in :meth:`ContextMemory.look_up`.
        """
        by_letter = letters.t()
        mask = (by_letter != PADDING_ID).unsqueeze(-1).to(self.letters.weight.dtype)
        states = self.letters(by_letter)  # (letters, batch, d)
        if self.memory is not None:
            states = states + self.memory(letters, own)
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, mask)
        return self.dropout(self.norm(states))


def log_probabilities(logits: Tensor, smoothing: float, temperature: float) -> Tensor:
    """Return log-probabilities, without what label smoothing has added to them.

    A network that was trained with smoothed labels gives every chunk its part of what they
    spread, and no chunk ever the rest. Chunks stay in their order.

    Args:
        logits: (…, chunks).
        smoothing: how much probability is taken off all chunks together.
        temperature: what the logarithms of what is left are divided by, before they are
            normalised again.
    """
    if smoothing:
        probabilities = logits.softmax(dim=-1)
        left = probabilities - smoothing / logits.shape[-1]
        left = torch.maximum(left, probabilities * LEAST_LEFT)
        chunks = left.shape[-1]
        # In ONNX Runtime the logarithm of the last few numbers of an array rounds otherwise than
        # that of the rest, and which they are depends on the batch.
        left = functional.pad(left, (0, -chunks % NUMBERS_AT_ONCE), value=1.0)
        logits = left.log()[..., :chunks]
    if temperature != 1.0:
        logits = logits / temperature
    return functional.log_softmax(logits, dim=-1)


class Decoder(nn.Module):
    """Gives every letter a chunk, knowing the letter's encoding and the chunks before it."""

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        self.smoothing, self.temperature = 0.0, 1.0
        self.state_size = dimensions.decoder_size
        self.history_dropout = dimensions.history_dropout
        self.chunks = nn.Embedding(dimensions.chunks, dimensions.history_size)
        self.gates = nn.Linear(dimensions.encoder_size, 2 * dimensions.decoder_size)
        self.from_history = nn.Linear(
            dimensions.history_size, 2 * dimensions.decoder_size, bias=False
        )
        self.from_encoding = nn.Linear(dimensions.encoder_size, dimensions.output_size)
        self.from_state = nn.Linear(dimensions.decoder_size, dimensions.output_size, bias=False)
        self.output = nn.Linear(dimensions.output_size, dimensions.chunks)
        self.dropout = Dropout(dimensions.dropout)

    def forward(self, encoding: Tensor, chunks: Tensor) -> Tensor:
        """Return the logits of every chunk given the true chunks before it.

        Args:
            encoding: (letters, batch, d).
            chunks: the true chunk ids, (batch, letters).

        Returns:
            Logits, (batch, letters, chunks).
        """
        history = functional.pad(chunks.t()[:-1], (0, 0, 1, 0), value=START_ID)
        embedded = self.chunks(history)
        if self.training and self.history_dropout:
            kept = torch.rand(history.shape, device=history.device) >= self.history_dropout
            embedded = embedded * kept.unsqueeze(-1)
        kept, proposed = _opened(self.gates(encoding) + self.from_history(embedded))
        state = torch.zeros_like(proposed[0])
        states = []
        for kept_here, proposed_here in zip(kept, proposed, strict=True):
            state = torch.lerp(proposed_here, state, kept_here)
            states.append(state)
        said = self.from_state(self.dropout(torch.stack(states)))
        hidden = self.from_encoding(encoding) + said
        return self.output(self.dropout(functional.silu(hidden))).transpose(0, 1)

    def prepare(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`step` needs of the encoding, computed for all letters at once.

        Args:
            encoding: (letters, batch, d).

        Returns:
            The letters' part of the gates, (letters, batch, 1, 2 s), and of the hidden layer,
            (letters, batch, 1, output size): with an axis for hypotheses.
        """
        return self.preparation()(encoding)

    def preparation(self) -> "Preparation":
        """Return what :meth:`prepare` does as a module, of which the export makes a graph."""
        return Preparation(self.gates, self.from_encoding)

    def history_table(self) -> Tensor:
        """Return the previous chunk's part of the gates, one row per chunk: (chunks, 2 s)."""
        return self.from_history(self.chunks.weight)

    def step(
        self, table: Tensor, gates: Tensor, hidden: Tensor, previous: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance by one letter, exactly as :meth:`forward` does.

        Args:
            table: :meth:`history_table`'s result.
            gates: this letter's row of :meth:`prepare`'s first result, (batch, 1, 2 s).
            hidden: this letter's row of its second result, (batch, 1, output size).
            previous: chunk ids of the letter before, (batch, beam).
            state: the state, (batch, beam, s).

        Returns:
            Log-probabilities of the chunks, (batch, beam, chunks - 1): the start symbol, the
            first, is no answer. And the new state, (batch, beam, s).
        """
        kept, proposed = _opened(gates + functional.embedding(previous, table))
        advanced = proposed + kept * (state - proposed)
        logits = functional.linear(
            functional.silu(hidden + self.from_state(advanced)),
            self.output.weight[START_ID + 1 :],
            self.output.bias[START_ID + 1 :],
        )
        return log_probabilities(logits, self.smoothing, self.temperature), advanced


def _opened(gates: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much of the state is kept and what is proposed for the rest: (…, s) each."""
    kept, proposed = gates.chunk(2, dim=-1)
    return torch.sigmoid(kept), torch.tanh(proposed)


class Preparation(nn.Module):
    """What a decoder computes of the encoding for all letters at once."""

    def __init__(self, gates: nn.Module, hidden: nn.Module) -> None:
        super().__init__()
        self.gates = gates
        self.hidden = hidden

    def forward(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of :meth:`Decoder.prepare`."""
        return self.gates(encoding).unsqueeze(2), self.hidden(encoding).unsqueeze(2)


class SideBySide(nn.Module):
    """Layers of which each takes and gives its own share of the features."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.sizes = [layer.in_features for layer in layers]

    def forward(self, features: Tensor) -> Tensor:
        """Return the layers' results side by side, as the features are."""
        parts = features.split(self.sizes, dim=-1)
        return torch.cat(
            [layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=-1
        )


class JointEncoder(nn.Module):
    """The encoders of several networks, side by side."""

    def __init__(self, members: Sequence[NetworkDimensions]) -> None:
        super().__init__()
        self.members = nn.ModuleList(Encoder(member) for member in members)

    def forward(self, letters: Tensor, own: Tensor | None = None) -> Tensor:
        """Encode letter ids: (batch, letters) to (letters, batch, sum of the members' d)."""
        return torch.cat([member(letters, own) for member in self.members], dim=-1)


class JointDecoder(nn.Module):
    """The decoders of several networks, which agree on every chunk.

    At every letter the members' log-probabilities are averaged: the geometric mean of their
    opinions (Hinton, 2002, "Training Products of Experts by Minimizing Contrastive
    Divergence"). All of them go on from the chunk that is chosen then, so one search, with the
    interface of :class:`Decoder`, serves them all.

    Attributes:
        member_weights: how much each member's opinion counts; they sum to 1.
    """

    def __init__(self, members: Sequence[NetworkDimensions]) -> None:
        super().__init__()
        self.smoothing, self.temperature = 0.0, 1.0
        self.member_weights = [1.0 / len(members)] * len(members)
        self.members = nn.ModuleList(Decoder(member) for member in members)
        self.encoder_sizes = [member.encoder_size for member in members]
        self.output_sizes = [member.output_size for member in members]
        self.state_sizes = [member.decoder_size for member in members]
        self.gate_sizes = [2 * size for size in self.state_sizes]
        self.state_size = sum(self.state_sizes)

    def forward(self, encoding: Tensor, chunks: Tensor) -> Tensor:
        """Return every member's logits, as :meth:`Decoder.forward` does.

        Args:
            encoding: (letters, batch, sum of the members' d).
            chunks: the true chunk ids, (batch, letters).

        Returns:
            Logits, (members, batch, letters, chunks).
        """
        parts = encoding.split(self.encoder_sizes, dim=-1)
        return torch.stack(
            [member(part, chunks) for member, part in zip(self.members, parts, strict=True)]
        )

    def prepare(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`Decoder.prepare`'s results, those of the members side by side."""
        return self.preparation()(encoding)

    def preparation(self) -> Preparation:
        """Return what :meth:`prepare` does as a module, as :meth:`Decoder.preparation`."""
        prepared = [member.preparation() for member in self.members]
        return Preparation(
            SideBySide([part.gates for part in prepared]),
            SideBySide([part.hidden for part in prepared]),
        )

    def history_table(self) -> Tensor:
        """Return :meth:`Decoder.history_table`'s results side by side."""
        return torch.cat([member.history_table() for member in self.members], dim=-1)

    def step(
        self, table: Tensor, gates: Tensor, hidden: Tensor, previous: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance every member by one letter; see :meth:`Decoder.step`.

        All arguments and results but the log-probabilities hold the members' side by side.
        """
        inputs = zip(
            self.members,
            table.split(self.gate_sizes, dim=-1),
            gates.split(self.gate_sizes, dim=-1),
            hidden.split(self.output_sizes, dim=-1),
            state.split(self.state_sizes, dim=-1),
            strict=True,
        )
        answers, advanced = zip(
            *(
                member.step(own_table, own_gates, own_hidden, previous, own_state)
                for member, own_table, own_gates, own_hidden, own_state in inputs
            ),
            strict=True,
        )
        answer = log_probabilities(self.agree(answers), self.smoothing, self.temperature)
        return answer, torch.cat(advanced, dim=-1)

    def agree(self, opinions: Iterable[Tensor]) -> Tensor:
        """Return the weighted mean of the members' log-probabilities or logits, (…, chunks)."""
        return sum(
            weight * opinion for weight, opinion in zip(self.member_weights, opinions, strict=True)
        )


class Network(nn.Module):
    """Encoder and decoder, or several of either that answer together."""

    def __init__(self, dimensions: NetworkDimensions) -> None:
        super().__init__()
        self.dimensions = dimensions
        members = dimensions.of_members()
        self.is_joint = len(members) > 1
        self.encoder = JointEncoder(members) if self.is_joint else Encoder(dimensions)
        self.decoder = JointDecoder(members) if self.is_joint else Decoder(dimensions)

    @property
    def memories(self) -> list[ContextMemory]:
        """The memories of all members; none where the network has no windows."""
        return [module for module in self.modules() if isinstance(module, ContextMemory)]

    def forward(self, letters: Tensor, chunks: Tensor, own: Tensor | None = None) -> Tensor:
        """Return logits (batch, letters, chunks) for training.

        With several members they are (members, batch, letters, chunks).

        Args:
            letters: letter ids, 0 at padding, (batch, letters).
            chunks: the true chunk ids, (batch, letters).
            own: for words of the training part, the chunks of all their pronunciations,
                (batch, letters, pronunciations): see :meth:`ContextMemory.look_up`.
        """
        return self.decoder(self.encoder(letters, own), chunks)

    @torch.no_grad()
    def calibrate(self, temperature: float, smoothing: float = 0.0) -> None:
        """Let the search's probabilities be those of :func:`log_probabilities` from now on.

        Without ``smoothing`` the weights of the last layer take the temperature in, which costs
        nothing.
        """
        if smoothing:
            self.decoder.smoothing, self.decoder.temperature = smoothing, temperature
            return
        for module in self.modules():
            if isinstance(module, Decoder):
                module.output.weight /= temperature
                module.output.bias /= temperature

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
        return self.search_encoded(letters, self.encoder(letters), beam_size)

    @torch.no_grad()
    def search_encoded(
        self, letters: Tensor, encoding: Tensor, beam_size: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Do what :meth:`search` does, with the encoding of the letters, (letters, batch, d)."""
        batch, length = letters.shape
        gates, hidden = self.decoder.prepare(encoding)
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
                table, gates[i], hidden[i], previous, state
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
