"""LSTMs spelt out in products of integers say what they said."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from grapheme_to_phoneme.packaging.integer_recurrence import spell_out_recurrences
from grapheme_to_phoneme.packaging.onnx_export import CONTRIBUTED_DOMAIN, IR_VERSION, OPSET

LETTERS, INPUTS, SIZE = 9, 6, 5
LENGTHS = np.array([9, 1, 4, 0], dtype=np.int32)


def make_graph(direction: str, scale: float):
    """Return the graph of one LSTM with weights of a standard deviation."""
    generator = np.random.default_rng(1)
    shapes = {
        "weights": (1, 4 * SIZE, INPUTS),
        "state_weights": (1, 4 * SIZE, SIZE),
        "biases": (1, 8 * SIZE),
    }
    constants = {name: generator.normal(0, scale, shape) for name, shape in shapes.items()}
    # A gate that nothing reaches.
    constants["weights"][0, 0] = constants["state_weights"][0, 0] = 0.0
    lstm = helper.make_node(
        "LSTM",
        ["states", *shapes, "lengths"],
        ["said"],
        hidden_size=SIZE,
        direction=direction,
    )
    return helper.make_graph(
        [lstm],
        "layer",
        [
            helper.make_tensor_value_info(
                "states", TensorProto.FLOAT, ["letters", "batch", INPUTS]
            ),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["letters", 1, "batch", SIZE])],
        [
            numpy_helper.from_array(values.astype(np.float32), name)
            for name, values in constants.items()
        ],
    )


def run(graph, states: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return what a graph says, with zeros at padding: (batch, letters, size)."""
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (said,) = session.run(None, {"states": states, "lengths": lengths})
    inside = np.arange(len(states)) < lengths[:, None]
    return said[:, 0].transpose(1, 0, 2) * inside[..., None]


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("scale", "tolerance"), [(0.3, 0.01), (1.5, 0.08)])
def test_says_what_the_lstm_says(direction: str, scale: float, tolerance: float) -> None:
    states = np.random.default_rng(2).normal(size=(LETTERS, len(LENGTHS), INPUTS))
    states = states.astype(np.float32)
    graph = make_graph(direction, scale)
    expected = run(graph, states, LENGTHS)
    spell_out_recurrences(graph)
    assert {node.op_type for node in graph.node}.isdisjoint({"LSTM"})
    assert {tensor.name for tensor in graph.initializer} <= {
        name for node in graph.node for name in node.input
    }
    (loop,) = (node for node in graph.node if node.op_type == "Scan")
    (body,) = (found.g for found in loop.attribute if found.name == "body")
    matrices = [tensor.data_type for tensor in body.initializer if len(tensor.dims) == 2]
    assert matrices == [TensorProto.INT8, TensorProto.INT8]
    np.testing.assert_allclose(run(graph, states, LENGTHS), expected, atol=tolerance)
    assert np.abs(expected).max() > 0.2


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_word_does_not_depend_on_the_words_beside(direction: str) -> None:
    states = np.random.default_rng(3).normal(size=(LETTERS, len(LENGTHS), INPUTS))
    # Whatever stands at padding, and words with other ranges beside.
    states = (states * [[[1.0], [50.0], [1.0], [50.0]]]).astype(np.float32)
    graph = make_graph(direction, 0.5)
    spell_out_recurrences(graph)
    together = run(graph, states, LENGTHS)
    for row, length in enumerate(LENGTHS[:3]):
        alone = run(graph, states[:length, row : row + 1], LENGTHS[row : row + 1])
        np.testing.assert_allclose(together[row, :length], alone[0], atol=1e-6)
