"""Writes a network in operators that compilers have, too, for whatever is not ONNX Runtime.

On a processor most of the time of a word alone goes into starting operators, so that the network
is exported with one operator for attention, of ONNX Runtime's own, and with a product of matrices
of integers for the hashes. Compilers such as TensorRT do not have them, and ONNX does not know
the types of what the former gives.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN, Parts


def in_standard_operators(parts: Parts) -> Parts:
    """Return a network's parts without operators that only ONNX Runtime has."""
    preparation = onnx.ModelProto()
    preparation.CopyFrom(parts.preparation)
    _spell_out_attention(preparation.graph)
    _spell_out_integer_products(preparation.graph)
    for entry in list(preparation.opset_import):
        if entry.domain == CONTRIBUTED_DOMAIN:
            preparation.opset_import.remove(entry)
    return Parts(preparation, parts.step, parts.state_size)


def _spell_out_attention(graph: GraphProto) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.domain != CONTRIBUTED_DOMAIN:
            nodes.append(node)
            continue
        heads, scale = (
            next(
                helper.get_attribute_value(found) for found in node.attribute if found.name == name
            )
            for name in ("num_heads", "scale")
        )
        constants = {
            f"{node.name}_apart": np.array([0, 0, heads, -1]),
            f"{node.name}_together": np.array([0, 0, -1]),
            f"{node.name}_scale": np.float32(scale),
        }
        nodes.extend(_attention(node, *constants))
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in constants.items()
        )
    del graph.node[:]
    graph.node.extend(nodes)


def _spell_out_integer_products(graph: GraphProto) -> None:
    matrices = {
        tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT64
    }
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in matrices:
            nodes.append(node)
            continue
        rows, matrix = node.input
        column, terms, axis = (f"{node.name}_{part}" for part in ("column", "terms", "axis"))
        nodes += [
            helper.make_node("Unsqueeze", [rows, f"{axis}_column"], [column]),
            helper.make_node("Mul", [column, matrix], [terms]),
            helper.make_node("ReduceSum", [terms, f"{axis}_sum"], node.output, keepdims=0),
        ]
        graph.initializer.extend(
            numpy_helper.from_array(np.array([place]), f"{axis}_{name}")
            for name, place in (("column", -1), ("sum", -2))
        )
    del graph.node[:]
    graph.node.extend(nodes)


def _attention(node: NodeProto, apart: str, together: str, scale: str) -> Iterator[NodeProto]:
    """Yield the operators of one attention (Vaswani et al., 2017).

    Args:
        node: the one operator.
        apart: the shape of letters whose heads are apart.
        together: the shape of letters whose heads are joined again.
        scale: what the products of queries and keys are multiplied by.
    """
    queries, keys, values, _, _, bias = node.input
    name = f"{node.name}_{{}}".format
    # (batch, letters, size) to (batch, heads, letters, head size), the keys' last two turned.
    for source, part, axes in (
        (queries, "queries", [0, 2, 1, 3]),
        (keys, "keys", [0, 2, 3, 1]),
        (values, "values", [0, 2, 1, 3]),
    ):
        yield helper.make_node("Reshape", [source, apart], [name(f"{part}_apart")])
        yield helper.make_node("Transpose", [name(f"{part}_apart")], [name(part)], perm=axes)
    yield helper.make_node("MatMul", [name("queries"), name("keys")], [name("products")])
    yield helper.make_node("Mul", [name("products"), scale], [name("scores")])
    yield helper.make_node("Add", [name("scores"), bias], [name("biased")])
    yield helper.make_node("Softmax", [name("biased")], [name("shares")], axis=-1)
    yield helper.make_node("MatMul", [name("shares"), name("values")], [name("attended")])
    yield helper.make_node(
        "Transpose", [name("attended")], [name("attended_letters")], perm=[0, 2, 1, 3]
    )
    yield helper.make_node("Reshape", [name("attended_letters"), together], node.output)
