"""Writes LSTMs in operators whose products of matrices can be made of integers.

ONNX Runtime has an LSTM of integers, but it measures the ranges of its activations anew in every
batch, so that the words of a batch would change each other's answers. Spelt out, the products of
the input are products like any others, of all letters at once. A ``Scan`` over the letters adds
those of the state, whose range is known: a hyperbolic tangent, or a part of it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper, parser

from grapheme_to_phoneme.packaging.rounding import column_scales

#: Of the four gates of an LSTM in ONNX, those that a sigmoid opens come first: input, output and
#: forget. The cell's is a hyperbolic tangent.
SIGMOIDS = 3

#: One letter, for words side by side: (batch, size) each, but for the sigmoids, (batch, 3 size).
STEP = """
step (float[batch, {size}] state, float[batch, {size}] cell,
      float[batch, {sigmoids}] given_gates, float[batch, {size}] given_cell)
  => (float[batch, {size}] next_state, float[batch, {size}] next_cell, float[batch, {size}] said)
{{
  rounded_state = QuantizeLinear (state, state_scale, state_zero)
  own_gates = com.microsoft.MatMulIntegerToFloat
    (rounded_state, gates_steps, state_scale, gates_scales, state_zero, gates_zeros)
  own_cell = com.microsoft.MatMulIntegerToFloat
    (rounded_state, cell_steps, state_scale, cell_scales, state_zero, cell_zeros)
  all_gates = Add (given_gates, own_gates)
  proposal = Add (given_cell, own_cell)
  open = Sigmoid (all_gates)
  proposed = Tanh (proposal)
  let_in, let_out, kept = Split <axis = 1, num_outputs = {gates}> (open)
  kept_cell = Mul (kept, cell)
  new_cell = Mul (let_in, proposed)
  next_cell = Add (kept_cell, new_cell)
  bounded = Tanh (next_cell)
  next_state = Mul (let_out, bounded)
  said = Identity (next_state)
}}
"""


def spell_out_recurrences(graph: GraphProto) -> None:
    """Rewrite the LSTMs of a graph, in its place.

    The products of their states are of integers then, those of their inputs of floats still.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "LSTM":
            nodes.append(node)
            continue
        matrices = [constants.pop(name) for name in node.input[1:4]]
        added, layer = _layer(node, *(numpy_helper.to_array(matrix)[0] for matrix in matrices))
        nodes.extend(layer)
        constants.update((tensor.name, tensor) for tensor in _tensors(added))
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.values())


def _layer(
    node: NodeProto, weights: NDArray, state_weights: NDArray, biases: NDArray
) -> tuple[dict[str, NDArray], list[NodeProto]]:
    """Return the constants and nodes that give what an LSTM gave, (letters, 1, batch, size).

    Args:
        node: the LSTM, in one direction.
        weights: (4 size, inputs).
        state_weights: (4 size, size).
        biases: the input's and the state's, which only ever come as a sum: (8 size,).
    """
    (said,) = node.output
    settings = {found.name: helper.get_attribute_value(found) for found in node.attribute}
    size = settings["hidden_size"]
    direction = int(settings["direction"] == b"reverse")
    border = SIGMOIDS * size
    bias = biases.reshape(2, -1).sum(axis=0)

    def named(part: str) -> str:
        return {"states": node.input[0], "lengths": node.input[4]}.get(part, f"{said}_{part}")

    constants = {
        named("gates_weights"): weights[:border].T,
        named("gates_bias"): bias[:border],
        named("cell_weights"): weights[border:].T,
        named("cell_bias"): bias[border:],
        named("width"): np.array([size]),
        named("nought"): np.array(0),
        named("one"): np.array(1),
        named("word_axes"): np.array([-1, 1]),
        named("letter_axes"): np.array([-1, 1, 1]),
        named("directions"): np.array([1]),
    }
    # At padding, which comes first in the reverse direction, nothing is proposed, so that state
    # and cell stay zero. Behind a word it changes nothing.
    text = f"""
      batch = Shape <start = 1, end = 2> (states)
      first_shape = Concat <axis = 0> (batch, width)
      first = ConstantOfShape (first_shape)
      letter_counts = Shape <start = 0, end = 1> (states)
      letter_count = Squeeze (letter_counts)
      places_in_row = Range (nought, letter_count, one)
      places = Reshape (places_in_row, letter_axes)
      long_lengths = Cast <to = {TensorProto.INT64}> (lengths)
      word_lengths = Reshape (long_lengths, word_axes)
      is_inside = Less (places, word_lengths)
      inside = Cast <to = {TensorProto.FLOAT}> (is_inside)
      gates_products = MatMul (states, gates_weights)
      gates = Add (gates_products, gates_bias)
      cell_products = MatMul (states, cell_weights)
      any_cell = Add (cell_products, cell_bias)
      cell = Mul (any_cell, inside)
    """
    nodes = [parser.parse_node(line) for line in text.strip().splitlines()]
    for made in nodes:
        made.input[:] = map(named, made.input)
        made.output[:] = map(named, made.output)
    nodes += [
        helper.make_node(
            "Scan",
            [named("first"), named("first"), named("gates"), named("cell")],
            [named("last_state"), named("last_cell"), named("by_letter")],
            body=_step(state_weights),
            num_scan_inputs=2,
            scan_input_directions=[direction] * 2,
            scan_output_directions=[direction],
        ),
        helper.make_node("Unsqueeze", [named("by_letter"), named("directions")], [said]),
    ]
    return constants, nodes


def _step(state_weights: NDArray) -> GraphProto:
    """Return the body of the loop over the letters; ``state_weights`` are (4 size, size)."""
    size = state_weights.shape[1]
    border = SIGMOIDS * size
    constants: dict[str, NDArray] = {
        # From -1 to 1, and zero among the steps.
        "state_scale": np.array(1 / 127, np.float32),
        "state_zero": np.array(128, np.uint8),
    }
    for kind, part in (("gates", state_weights[:border]), ("cell", state_weights[border:])):
        scales = column_scales(part.T)
        constants[f"{kind}_scales"] = scales.astype(np.float32)
        constants[f"{kind}_steps"] = np.rint(part.T / scales).astype(np.int8)
        constants[f"{kind}_zeros"] = np.zeros(len(part), np.int8)
    step = parser.parse_graph(STEP.format(size=size, sigmoids=border, gates=SIGMOIDS))
    step.initializer.extend(_tensors(constants))
    return step


def _tensors(constants: dict[str, NDArray]) -> Iterator[TensorProto]:
    for name, values in constants.items():
        yield numpy_helper.from_array(np.ascontiguousarray(values), name)
