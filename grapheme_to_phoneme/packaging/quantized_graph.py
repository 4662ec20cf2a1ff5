"""Makes a quantised graph small and fast, without changing what it computes.

ONNX Runtime quantises a graph by pairs of operators around each product, of which it makes
integer products when it loads the graph. It leaves work behind that is done here once and for all.
"""

from collections import defaultdict

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN

#: Numbers in a table from which on it is worth 8 bits instead of 16, and 16 instead of 32: fewer
#: bytes cost an operator that restores the numbers.
LARGE_TABLE = 65_536
SMALL_TABLE = 1_024


def tidy(graph: GraphProto) -> None:
    """Rewrite a graph that ``quantize_static`` wrote, in its place.

    Args:
        graph: a graph with ``QuantizeLinear`` and ``DequantizeLinear`` around its products.
    """
    _quantize_tables(graph)
    _join_products(graph)
    _keep_floats(graph)
    _shrink_tables(graph)


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


def _shrink_tables(graph: GraphProto) -> None:
    """Keep the tables in a few bits from which rows are taken, and the rows in float32.

    Large ones get 8 bits, the others 16, but for the smallest.
    """
    uses = _uses(graph)
    restoring: dict[str, NodeProto] = {}
    for table in list(graph.initializer):
        gathers = uses[table.name]
        is_looked_up = all(
            node.op_type == "Gather" and node.input[0] == table.name for node in gathers
        )
        if table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or not is_looked_up:
            continue
        values = numpy_helper.to_array(table)
        if values.size < SMALL_TABLE:
            continue
        operator, settings, constants = "Cast", {"to": TensorProto.FLOAT}, []
        if values.size < LARGE_TABLE:
            small = values.astype(np.float16)
        else:
            # Zero must be one of the 256 values. A scale per column would take ten times as long.
            least, most = min(values.min(), 0.0), max(values.max(), 0.0)
            scale = np.float32(max((most - least) / 255, np.finfo(np.float32).tiny))
            zero_point = np.uint8(np.rint(-least / scale))
            small = np.clip(np.rint(values / scale) + zero_point, 0, 255).astype(np.uint8)
            operator, settings = "DequantizeLinear", {}
            constants = [
                numpy_helper.from_array(scale, f"{table.name}_scale"),
                numpy_helper.from_array(zero_point, f"{table.name}_zero_point"),
            ]
        graph.initializer.extend(constants)
        table.CopyFrom(numpy_helper.from_array(small, table.name))
        for gather in gathers:
            rows = gather.output[0]
            gather.output[0] = f"{rows}_small"
            inputs = [gather.output[0], *(constant.name for constant in constants)]
            restoring[gather.output[0]] = helper.make_node(operator, inputs, [rows], **settings)
    nodes = []
    for node in graph.node:
        nodes.append(node)
        nodes.extend(restoring[name] for name in node.output if name in restoring)
    del graph.node[:]
    graph.node.extend(nodes)
