"""Eight-bit products come to the same on every processor."""

import numpy as np
import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN, IR_VERSION, OPSET
from grapheme_to_phoneme.packaging.rounding import column_scales
from tests.conftest import TinyRun
from tests.packaging.test_core import graphs_of

#: What two products of neighbours may come to in 16 bits.
LEAST_SUM, MOST_SUM = np.iinfo(np.int16).min, np.iinfo(np.int16).max
MOST_ACTIVATION = np.iinfo(np.uint8).max

WEIGHTS = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-8, 8, width=32),
)


def extreme_sums(weights: np.ndarray) -> tuple[int, int]:
    """Return the least and the largest sum of two neighbours' products with any activations."""
    rows, columns = weights.shape
    pairs = np.pad(weights.astype(int), ((0, rows % 2), (0, 0))).reshape(-1, 2, columns)
    least = MOST_ACTIVATION * pairs.clip(max=0).sum(axis=1).min()
    most = MOST_ACTIVATION * pairs.clip(min=0).sum(axis=1).max()
    return int(least), int(most)


def multiply(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ONNX Runtime's product of integers, with scales of one."""
    columns = weights.shape[1]
    constants = {
        "weights": weights,
        "step": np.float32(1),
        "scales": np.ones(columns, dtype=np.float32),
        "middle": np.uint8(0),
        "zeros": np.zeros(columns, dtype=np.int8),
    }
    node = helper.make_node(
        "MatMulIntegerToFloat",
        ["activations", "weights", "step", "scales", "middle", "zeros"],
        ["product"],
        domain=CONTRIBUTED_DOMAIN,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, activations.shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (product,) = session.run(None, {"activations": activations})
    return product


@given(WEIGHTS)
def test_neighbours_fit_sixteen_bits(weights: np.ndarray) -> None:
    scales = column_scales(weights)
    rounded = np.rint(weights / scales)
    least, most = extreme_sums(rounded)
    assert least >= LEAST_SUM
    assert most <= MOST_SUM
    # No more is given up than neighbours ask for: one of the two has half of the steps.
    largest = np.abs(rounded).max(axis=0)
    assert np.all((largest >= 63) | (np.abs(weights).max(axis=0) < 1e-30))


def test_products_are_exact_with_the_largest_activations() -> None:
    # Neighbours as large as each other: with a step for each of 127 they would not fit.
    weights = np.repeat(np.array([[1.0, -1.0, 0.5]]), 64, axis=0)
    small = np.rint(weights / column_scales(weights)).astype(np.int8)
    activations = np.full((3, 64), MOST_ACTIVATION, dtype=np.uint8)
    product = multiply(activations, small)
    assert product.tolist() == (activations.astype(int) @ small.astype(int)).tolist()


def test_exported_products_fit(tiny_run: TinyRun) -> None:
    graph = onnx.load(tiny_run.int8_model).graph
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
    }
    products = {
        name
        for part in graphs_of(graph)
        for node in part.node
        if node.op_type == "MatMulIntegerToFloat"
        for name in node.input[1:2]
        if name in weights
    }
    assert len(products) >= 10
    for name in products:
        least, most = extreme_sums(weights[name])
        assert LEAST_SUM <= least and most <= MOST_SUM, name
