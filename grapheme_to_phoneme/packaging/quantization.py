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
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN, Parts
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


def quantize(
    parts: Parts, network: Network, alphabets: Alphabets, spellings: Sequence[str]
) -> Parts:
    """Quantise the matrix products of a model's parts.

    Weights become 8-bit integers with a scale per column, activations with one per product;
    tables that are only looked up in become float16.

    Args:
        parts: the float32 parts.
        network: the network that they come from.
        alphabets: its alphabets.
        spellings: real words, to measure the ranges of the activations on.
    """
    letters = _letter_batches(alphabets, spellings)
    steps = [feeds for batch in letters for feeds in _step_feeds(network, batch)]
    preparation = [{"letters": batch.numpy()} for batch in letters]
    return Parts(
        _quantize(parts.preparation, preparation), _quantize(parts.step, steps), parts.state_size
    )


def _letter_batches(alphabets: Alphabets, spellings: Sequence[str]) -> list[torch.Tensor]:
    """Return letter ids, a batch for each length: padding has no range to measure."""
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
            "gates": gates[:, i : i + 1],
            "hidden": hidden[:, i : i + 1],
            "previous": previous,
            "state": state,
        }
        feeds.append({name: np.ascontiguousarray(value) for name, value in given.items()})
        log_probabilities, state = decoder.step(
            table, given["gates"], given["hidden"], previous, state
        )
        previous = log_probabilities.argmax(dim=-1) + START_ID + 1
    return feeds


def _quantize(part: ModelProto, batches: Iterable[Feeds]) -> ModelProto:
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save_model(part, source)
        quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            extra_options={
                # Attention multiplies activations by activations: too coarse, too little gain.
                "MatMulConstBOnly": True,
                # Sums and norms follow, in float32.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
        quantized = onnx.load_model(target)
    _quantize_tables(quantized.graph)
    _join_products(quantized.graph)
    _keep_floats(quantized.graph)
    return _halve_tables(quantized)


def _uses(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that take each tensor."""
    uses: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            uses[name].append(node)
    return uses


def _quantize_tables(graph: GraphProto) -> None:
    """Quantise the tables whose rows are quantised, in place of the rows."""
    uses = _uses(graph)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for gather in [node for node in graph.node if node.op_type == "Gather"]:
        table, (rows,) = tensors.get(gather.input[0]), gather.output
        if table is None or [node.op_type for node in uses[rows]] != ["QuantizeLinear"]:
            continue
        (quantize_rows,) = uses[rows]
        scale, zero_point = (
            numpy_helper.to_array(tensors[name]) for name in quantize_rows.input[1:]
        )
        values = np.rint(numpy_helper.to_array(table) / scale) + zero_point
        name = f"{table.name}_quantized"
        graph.initializer.append(
            numpy_helper.from_array(np.clip(values, 0, 255).astype(np.uint8), name)
        )
        gather.input[0], gather.output[0] = name, quantize_rows.output[0]
        graph.node.remove(quantize_rows)
    _drop_unused(graph)


def _join_products(graph: GraphProto) -> None:
    """Make each quantised product one operator with the bias that is added to it.

    ONNX Runtime makes such operators itself, but leaves the bias out. A product that is split
    becomes several, which give their parts without copying them.
    """
    uses = _uses(graph)
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        given = [makers.get(name) for name in node.input]
        if node.op_type != "MatMul" or any(
            maker is None or maker.op_type != "DequantizeLinear" for maker in given
        ):
            nodes.append(node)
            continue
        left, right = (maker.input for maker in given)
        inputs = [left[0], right[0], left[1], right[1], left[2], right[2]]
        outputs = node.output
        (following,) = uses[outputs[0]] if len(uses[outputs[0]]) == 1 else (None,)
        if following is not None and following.op_type == "Add":
            (bias,) = (name for name in following.input if name != outputs[0])
            if bias in constants:
                inputs.append(bias)
                outputs = following.output
        columns = [name for name in inputs if name in constants and name not in left]
        followers = uses[outputs[0]]
        if [user.op_type for user in followers] == ["Split"] and len(followers[0].input) == 1:
            outputs = followers[0].output
            for name in columns:
                values = numpy_helper.to_array(constants[name])
                for i, part in enumerate(np.split(values, len(outputs), axis=-1)):
                    graph.initializer.append(numpy_helper.from_array(part, f"{name}_{i}"))
        for i, output in enumerate(outputs):
            own = inputs
            if len(outputs) > 1:
                own = [f"{name}_{i}" if name in columns else name for name in inputs]
            nodes.append(
                helper.make_node("MatMulIntegerToFloat", own, [output], domain=CONTRIBUTED_DOMAIN)
            )
    written: set[str] = set()
    del graph.node[:]
    for node in nodes:
        # Without the sums and parts that a product gives already.
        if written.isdisjoint(node.output):
            graph.node.append(node)
            written.update(node.output)
    _drop_unused(graph)


def _keep_floats(graph: GraphProto) -> None:
    """Give what is no product the floats that were quantised, and not what came of them."""
    sources = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"
    }
    exact = {
        node.output[0]: sources[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in sources
    }
    outputs = {value.name for value in graph.output}
    names = {}
    for restored, source in exact.items():
        # An output keeps its name.
        names.update({source: restored} if restored in outputs else {restored: source})
    for node in list(graph.node):
        if node.op_type == "DequantizeLinear" and node.output[0] in exact:
            graph.node.remove(node)
            continue
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _drop_unused(graph: GraphProto) -> None:
    """Remove nodes and constants that nothing needs."""
    used = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            nodes.append(node)
            used.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)


def _halve_tables(part: ModelProto) -> ModelProto:
    """Keep the tables in float16 from which rows are taken, and the rows in float32."""
    uses = _uses(part.graph)
    casts: dict[str, NodeProto] = {}
    for table in part.graph.initializer:
        gathers = uses[table.name]
        is_looked_up = all(
            node.op_type == "Gather" and node.input[0] == table.name for node in gathers
        )
        if table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or not is_looked_up:
            continue
        halved = numpy_helper.to_array(table).astype(np.float16)
        table.CopyFrom(numpy_helper.from_array(halved, table.name))
        for gather in gathers:
            rows = gather.output[0]
            gather.output[0] = f"{rows}_float16"
            casts[gather.output[0]] = helper.make_node(
                "Cast", [gather.output[0]], [rows], to=TensorProto.FLOAT
            )
    nodes = []
    for node in part.graph.node:
        nodes.append(node)
        nodes.extend(casts[name] for name in node.output if name in casts)
    del part.graph.node[:]
    part.graph.node.extend(nodes)
    return part
