"""Writes averages along a word in ONNX's own operators.

The shares that are kept of them and what is added come from all letters at once. What is left
for one letter after the other is one ``Scan`` that walks over the word in both directions.
"""

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper, parser

from grapheme_to_phoneme.training.network import AVERAGES_OPERATOR

#: One letter of words side by side, in either direction: (batch, channels) each.
STEP = """
step (float[batch, channels] onward, float[batch, channels] homeward,
      float[batch, channels] kept_onward, float[batch, channels] added_onward,
      float[batch, channels] kept_homeward, float[batch, channels] added_homeward)
  => (float[batch, channels] next_onward, float[batch, channels] next_homeward,
      float[batch, channels] said_onward, float[batch, channels] said_homeward)
{
  left_onward = Mul (kept_onward, onward)
  next_onward = Add (left_onward, added_onward)
  left_homeward = Mul (kept_homeward, homeward)
  next_homeward = Add (left_homeward, added_homeward)
  said_onward = Identity (next_onward)
  said_homeward = Identity (next_homeward)
}
"""

#: The first letter to the last, and back.
DIRECTIONS = (0, 1)


def spell_out_averages(graph: GraphProto) -> None:
    """Rewrite the averages of a graph, in its place."""
    domain, operator = AVERAGES_OPERATOR.split("::")
    nodes: list[NodeProto] = []
    for node in graph.node:
        if (node.domain, node.op_type) == (domain, operator):
            constants, spelt_out = _averages(node)
            nodes.extend(spelt_out)
            graph.initializer.extend(
                numpy_helper.from_array(values, name) for name, values in constants.items()
            )
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _averages(node: NodeProto) -> tuple[dict[str, np.ndarray], list[NodeProto]]:
    """Return constants and nodes that give the averages in both directions.

    Args:
        node: takes what is kept and what is added onward, then homeward, (letters, batch,
            channels) each, and gives the averages, alike.
    """
    shape, places, first_shape, first = (
        f"{node.output[0]}_{part}" for part in ("shape", "places", "first_shape", "first")
    )
    ends = [f"{output}_end" for output in node.output]
    nodes = [
        helper.make_node("Shape", [node.input[0]], [shape]),
        helper.make_node("Gather", [shape, places], [first_shape]),
        helper.make_node("ConstantOfShape", [first_shape], [first]),
        helper.make_node(
            "Scan",
            [first, first, *node.input],
            [*ends, *node.output],
            body=parser.parse_graph(STEP),
            num_scan_inputs=len(node.input),
            scan_input_directions=np.repeat(DIRECTIONS, 2).tolist(),
            scan_output_directions=DIRECTIONS,
        ),
    ]
    return {places: np.array([1, 2])}, nodes
