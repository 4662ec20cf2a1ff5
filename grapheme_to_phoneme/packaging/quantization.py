"""Eight-bit weights and activations, for a smaller and faster model file.

ONNX Runtime's static quantisation: the ranges of the activations are measured on real words
before, and are constants in the file. Measured anew for every batch, they would let the words
of a batch change each other's answers.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from grapheme_to_phoneme.packaging.integer_recurrence import spell_out_recurrences
from grapheme_to_phoneme.packaging.onnx_export import Parts
from grapheme_to_phoneme.packaging.quantized_graph import tidy
from grapheme_to_phoneme.packaging.rounding import column_scales
from grapheme_to_phoneme.training.alphabets import START_ID, Alphabets
from grapheme_to_phoneme.training.network import Network

Feeds = dict[str, NDArray]


class _Reader(CalibrationDataReader):
    """Gives ONNX Runtime one batch of inputs after the other."""

    def __init__(self, batches: Iterable[Feeds]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Feeds | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


def quantize(parts: Parts, network: Network, batches: Sequence[torch.Tensor]) -> Parts:
    """Quantise the matrix products of a model's parts.

    Weights become 8-bit integers with a scale per column (:func:`column_scales`), activations
    with one per product. So do large tables that are only looked up in; small ones become
    float16.

    Args:
        parts: the float32 parts.
        network: the network that they come from.
        batches: real words, to measure the ranges of the activations on: see
            :func:`letter_batches`.
    """
    steps = [feeds for batch in batches for feeds in _step_feeds(network, batch)]
    preparation = [{"letters": batch.numpy()} for batch in batches]
    return Parts(
        _quantize(parts.preparation, preparation), _quantize(parts.step, steps), parts.state_size
    )


def letter_batches(alphabets: Alphabets, spellings: Sequence[str]) -> list[torch.Tensor]:
    """Return letter ids, (batch, letters), a batch for each length: padding has no range."""
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    for spelling in spellings:
        ids = alphabets.encode(spelling)
        by_length[len(ids)].append(ids)
    return [torch.tensor(group) for length, group in by_length.items() if length]


@torch.no_grad()
def _step_feeds(network: Network, letters: torch.Tensor) -> list[Feeds]:
    """Return what the decoder's step is given while greedy search runs over ``letters``."""
    decoder = network.decoder
    gates, hidden = decoder.prepare(network.encoder(letters))
    table = decoder.history_table()
    state = gates.new_zeros(len(letters), 1, decoder.state_size)
    previous = letters.new_full((len(letters), 1), START_ID)
    feeds = []
    for i in range(letters.shape[1]):
        given = {
            "gates": gates[i],
            "hidden": hidden[i],
            "previous": previous,
            "state": state,
        }
        feeds.append({name: np.ascontiguousarray(value) for name, value in given.items()})
        log_probabilities, state = decoder.step(
            table, given["gates"], given["hidden"], previous, state
        )
        previous = log_probabilities.argmax(dim=-1) + START_ID + 1
    return feeds


def _products_of_counts(graph: GraphProto) -> list[str]:
    """Return the names of the products that sum up what was true or counted, and must be exact."""
    counts = {node.output[0] for node in graph.node if node.op_type == "Cast"}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and not counts.isdisjoint(node.input)
    ]


def _weight_settings(graph: GraphProto, exact: Sequence[str]) -> dict[str, list[dict]]:
    """Return what ONNX Runtime takes in place of the scales that it would choose itself.

    Args:
        graph: the graph.
        exact: the names of the products that are not quantised.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    settings = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name not in exact and node.input[1] in constants:
            weights = numpy_helper.to_array(constants[node.input[1]])
            settings[node.input[1]] = [
                {"axis": 1, "scale": scale, "zero_point": 0} for scale in column_scales(weights)
            ]
    return settings


def _quantize(part: ModelProto, batches: Iterable[Feeds]) -> ModelProto:
    part = onnx.ModelProto.FromString(part.SerializeToString())
    spell_out_recurrences(part.graph)
    exact = _products_of_counts(part.graph)
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save_model(part, source)
        quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=exact,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            extra_options={
                # Sums and norms follow, in float32.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "TensorQuantOverrides": _weight_settings(part.graph, exact),
            },
        )
        quantized = onnx.load_model(target)
    tidy(quantized.graph)
    return quantized
