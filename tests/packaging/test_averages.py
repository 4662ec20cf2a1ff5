"""Averages along a word are the same in a graph."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from grapheme_to_phoneme.packaging.averages import spell_out_averages
from grapheme_to_phoneme.packaging.onnx_export import IR_VERSION, OPSET
from grapheme_to_phoneme.training.network import AVERAGES_OPERATOR
from grapheme_to_phoneme.training.operators import GatedAverages

GIVEN = ["kept_onward", "added_onward", "kept_homeward", "added_homeward"]
SAID = ["onward", "homeward"]
SHAPE = ["letters", "batch", "channels"]


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    domain, operator = AVERAGES_OPERATOR.split("::")
    graph = helper.make_graph(
        [helper.make_node(operator, GIVEN, SAID, domain=domain)],
        "averages",
        *(
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in names]
            for names in (GIVEN, SAID)
        ),
    )
    spell_out_averages(graph)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return onnxruntime.InferenceSession(model.SerializeToString())


@pytest.mark.parametrize(("letters", "batch"), [(1, 1), (7, 3)])
def test_graph_averages_as_training_does(
    session: onnxruntime.InferenceSession, letters: int, batch: int
) -> None:
    torch.manual_seed(1)
    kept, proposed = torch.rand(letters, batch, 8), torch.randn(letters, batch, 8)
    added = proposed * (1.0 - kept)
    given = [
        part for pair in zip(kept.chunk(2, -1), added.chunk(2, -1), strict=True) for part in pair
    ]
    said = session.run(SAID, dict(zip(GIVEN, map(torch.Tensor.numpy, given), strict=True)))
    expected = GatedAverages.apply(kept, proposed).numpy()
    np.testing.assert_allclose(np.concatenate(said, axis=-1), expected, atol=1e-6)
