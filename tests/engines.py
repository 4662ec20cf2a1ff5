"""A stand-in for a TensorRT engine, where no GPU can build one: the core network's own bytes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, numpy_helper

from grapheme_to_phoneme.inference.core import Profile
from grapheme_to_phoneme.lexicon.files import sha256_of
from grapheme_to_phoneme.packaging.engine_description import EngineDescription
from grapheme_to_phoneme.packaging.onnx_export import BEAM_SIZE as BEAM_SIZE_NAME
from grapheme_to_phoneme.packaging.tensorrt_export import properties_of
from tests.conftest import TinyRun

#: Narrow on purpose: batches are padded, divided and cut into pieces.
PROFILE = Profile((3, 4), (8, 6), (16, 20))
BEAM_SIZE = 4


def write_engine(tiny_run: TinyRun, folder: Path) -> Path:
    """Make a run's folder with the float32 model, its core network and an "engine" of that.

    Returns:
        The engine; its description lies beside it, and the model in the folder.
    """
    core = folder / "core" / "float32.onnx"
    core.parent.mkdir(parents=True)
    shutil.copyfile(tiny_run.float32_model, folder / "model.onnx")
    network = onnx.load(tiny_run.core)
    (beam_size,) = [item for item in network.graph.initializer if item.name == BEAM_SIZE_NAME]
    values = np.array([BEAM_SIZE], dtype=np.int64)
    beam_size.CopyFrom(numpy_helper.from_array(values, BEAM_SIZE_NAME))
    _widen(network.graph)
    onnx.save_model(network, core)
    plan = core.with_suffix(".plan")
    shutil.copyfile(core, plan)
    EngineDescription(
        plan_sha256=sha256_of(plan),
        core_sha256=sha256_of(core),
        tensorrt_version="10.13.2.6",
        gpu="NVIDIA H100 80GB HBM3",
        profile=PROFILE,
        beam_size=BEAM_SIZE,
        agreement=1.0,
        worst_difference=0.0,
        properties=properties_of(core),
    ).write(plan)
    return plan


def _widen(graph: GraphProto) -> None:
    """Let the declared shapes of a greedy search, also in its loop, have several hypotheses."""
    del graph.value_info[:]
    for tensor in (*graph.input, *graph.output):
        beam = tensor.type.tensor_type.shape.dim[1:2]
        for dimension in beam:
            if dimension.dim_value == 1:
                dimension.dim_value = BEAM_SIZE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _widen(attribute.g)
