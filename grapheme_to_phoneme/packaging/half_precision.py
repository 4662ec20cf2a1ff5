"""Sixteen-bit floating point where it is safe, for GPUs: the precision is part of the graph.

The rules are those of PyTorch's autocast (Micikevicius et al., 2018, "Mixed Precision Training"):
matrix products take and give float16, norms, softmax and whatever is not known to be harmless
stay in float32, and the rest follows its inputs, the wider of them where they differ. So the
states that layers are added to, the recurrent state and the scores are float32, and so are sums
of what was counted: float16 holds no whole numbers above 2,048. A compiler that keeps to the types
of a graph, as TensorRT does with strongly typed networks, needs no more.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.onnx_export import Parts

#: Operators that compute in float16.
PRODUCTS = frozenset({"MatMul", "Gemm"})

#: Operators that lose nothing by computing in what they are given.
FOLLOWERS = frozenset(
    {
        "Add",
        "Concat",
        "Expand",
        "Gather",
        "GatherND",
        "Identity",
        "Mul",
        "Pad",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)

SUFFIXES = {TensorProto.FLOAT16: "_float16", TensorProto.FLOAT: "_float32"}


def halve(parts: Parts) -> Parts:
    """Return a model's parts with float16 inside; their inputs and outputs stay as they are."""
    return Parts(_halve(parts.preparation), _halve(parts.step), parts.state_size)


def _halve(part: ModelProto) -> ModelProto:
    model = onnx.shape_inference.infer_shapes(part, strict_mode=True)
    _Conversion(model.graph).run()
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


class _Conversion:
    """Rewrites one graph, whose nodes come in the order of their computation."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        values = (*graph.input, *graph.value_info, *graph.output)
        self._floats = {
            value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        # What the floating-point tensors of the new graph are, constants excepted.
        self._kinds = {
            value.name: TensorProto.FLOAT for value in graph.input if value.name in self._floats
        }
        self._counted: set[str] = set()
        self._nodes: list[NodeProto] = []
        self._converted: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        """Rewrite the graph in its place."""
        outputs = {value.name for value in self._graph.output}
        for node in self._graph.node:
            kind = self._kind_of(node)
            node.input[:] = [self._as(name, kind) for name in node.input]
            self._nodes.append(node)
            for i, name in enumerate(node.output):
                if name in self._floats and name not in self._constants:
                    self._kinds[name] = kind
                    if name in outputs and kind != TensorProto.FLOAT:
                        self._restore(node, i, kind)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = set(_inputs(self._nodes))
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.value_info[:]

    def _kind_of(self, node: NodeProto) -> int:
        if node.op_type == "Cast" and node.input[0] not in self._floats:
            self._counted.update(node.output)
        if node.op_type in PRODUCTS and self._counted.isdisjoint(node.input):
            return TensorProto.FLOAT16
        given = {self._kinds[name] for name in node.input if name in self._kinds}
        is_half = node.op_type in FOLLOWERS and given == {TensorProto.FLOAT16}
        return TensorProto.FLOAT16 if is_half else TensorProto.FLOAT

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a tensor in the precision ``kind``; all but floats as they are."""
        if self._kinds.get(name, TensorProto.FLOAT if name in self._constants else kind) == kind:
            return name
        if (name, kind) not in self._converted:
            converted = name + SUFFIXES[kind]
            self._converted[name, kind] = converted
            if name in self._constants:
                values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._graph.initializer.append(numpy_helper.from_array(values, converted))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [converted], to=kind))
        return self._converted[name, kind]

    def _restore(self, node: NodeProto, i: int, kind: int) -> None:
        """Give an output of the graph the precision that it had."""
        name = node.output[i]
        node.output[i] = name + SUFFIXES[kind]
        self._converted[name, kind] = node.output[i]
        self._kinds[name] = TensorProto.FLOAT
        self._nodes.append(
            helper.make_node("Cast", [node.output[i]], [name], to=TensorProto.FLOAT)
        )


def _inputs(nodes: Iterable[NodeProto]) -> Iterable[str]:
    for node in nodes:
        yield from node.input
