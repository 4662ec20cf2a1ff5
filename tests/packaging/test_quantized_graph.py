"""What is done to a quantised graph changes its form, not what it says."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN, IR_VERSION, OPSET
from grapheme_to_phoneme.packaging.quantized_graph import LARGE_TABLE, SMALL_TABLE, tidy


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def make_graph(
    nodes: Sequence[NodeProto], constants: dict[str, np.ndarray], outputs: Sequence[str], kind: int
) -> GraphProto:
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("given", kind, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )


def run(graph: GraphProto, given: np.ndarray) -> list[np.ndarray]:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"given": given})


def product(
    columns: int,
    following: Sequence[NodeProto],
    outputs: Sequence[str],
    generator: np.random.Generator,
) -> GraphProto:
    """A quantised product as ONNX Runtime's quantisation leaves it, and what follows it."""
    nodes = [
        helper.make_node("QuantizeLinear", ["given", "step", "middle"], ["small"]),
        helper.make_node("DequantizeLinear", ["small", "step", "middle"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["right"], axis=1),
        helper.make_node("MatMul", ["rounded", "right"], ["multiplied"]),
        *following,
    ]
    constants = {
        "step": np.float32(0.02),
        "middle": np.uint8(128),
        # Of seven bits: a processor without VNNI adds two products in 16 bits, and larger ones
        # would end at the largest number there.
        "weight": generator.integers(-63, 64, (16, columns)).astype(np.int8),
        "scale": generator.uniform(0.001, 0.01, columns).astype(np.float32),
        "zero": np.zeros(columns, dtype=np.int8),
        "bias": generator.normal(size=columns).astype(np.float32),
    }
    return make_graph(nodes, constants, outputs, TensorProto.FLOAT)


ADD = helper.make_node("Add", ["multiplied", "bias"], ["sum"])
TURNED_ADD = helper.make_node("Add", ["bias", "multiplied"], ["sum"])
SPLIT = helper.make_node("Split", ["sum"], ["left", "middle_part"], axis=2, num_outputs=2)
RESIDUAL = helper.make_node("Add", ["multiplied", "rounded"], ["sum"])


@pytest.mark.parametrize(
    ("columns", "following", "outputs", "operators"),
    [
        (8, [ADD], ["sum"], {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}),
        (8, [TURNED_ADD], ["sum"], {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}),
        (
            8,
            [ADD, SPLIT],
            ["left", "middle_part"],
            {"QuantizeLinear": 1, "MatMulIntegerToFloat": 2},
        ),
        (16, [RESIDUAL], ["sum"], {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1}),
    ],
    ids=["bias", "bias first", "split", "no bias"],
)
def test_products_become_one_operator(
    columns: int,
    following: list[NodeProto],
    outputs: list[str],
    operators: dict[str, int],
    generator: np.random.Generator,
) -> None:
    graph = product(columns, following, outputs, generator)
    # On the grid of the quantisation, so that rounding is no difference.
    given = (generator.integers(-128, 128, (2, 3, 16)) * 0.02).astype(np.float32)
    expected = run(graph, given)
    tidy(graph)
    found = [node.op_type for node in graph.node]
    assert {operator: found.count(operator) for operator in found} == operators
    for one, other in zip(run(graph, given), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_no_product_gets_the_unrounded_floats(generator: np.random.Generator) -> None:
    graph = product(16, [RESIDUAL], ["sum"], generator)
    given = generator.normal(size=(1, 1, 16)).astype(np.float32)
    rounded, _ = run(graph, given)[0], tidy(graph)
    difference = run(graph, given)[0] - rounded
    step = np.rint(given / np.float32(0.02)).clip(-128, 127) * np.float32(0.02)
    np.testing.assert_allclose(difference, given - step, atol=1e-5)


@pytest.mark.parametrize("offset", [-7.0, 0.0, 7.0])
@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (3, TensorProto.FLOAT),
        (SMALL_TABLE // 16, TensorProto.FLOAT16),
        (LARGE_TABLE // 16, TensorProto.UINT8),
    ],
)
def test_tables_lose_little(
    rows: int, kind: int, offset: float, generator: np.random.Generator
) -> None:
    """Whatever the range of a column is, zero inside or not."""
    table = (generator.normal(size=(rows, 16)) + offset).astype(np.float32)
    graph = make_graph(
        [helper.make_node("Gather", ["table", "given"], ["taken"])],
        {"table": table},
        ["taken"],
        TensorProto.INT64,
    )
    tidy(graph)
    (kept,) = (tensor for tensor in graph.initializer if tensor.name == "table")
    assert kept.data_type == kind
    places = np.array([[0, rows - 1], [1, 2]])
    reach = max(abs(table.min()), abs(table.max())) + np.ptp(table, axis=0).max()
    np.testing.assert_allclose(run(graph, places)[0], table[places], atol=reach / 255)


def test_table_whose_rows_are_quantised_is_quantised_itself(
    generator: np.random.Generator,
) -> None:
    table = generator.normal(size=(5, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "given"], ["taken"]),
        helper.make_node("QuantizeLinear", ["taken", "step", "middle"], ["small"]),
        helper.make_node("DequantizeLinear", ["small", "step", "middle"], ["rounded"]),
    ]
    constants = {"table": table, "step": np.float32(0.03), "middle": np.uint8(128)}
    graph = make_graph(nodes, constants, ["rounded"], TensorProto.INT64)
    places = np.array([0, 4, 2])
    (expected,) = run(graph, places)
    tidy(graph)
    assert [node.op_type for node in graph.node] == ["Gather", "DequantizeLinear"]
    np.testing.assert_array_equal(run(graph, places)[0], expected)
