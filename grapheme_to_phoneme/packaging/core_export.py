"""Writes the network without strings: letter ids in, chunk ids and probabilities out.

TensorRT and other compilers have no operators for strings. What they get is the same encoder and
the same search, letter by letter, as the model with strings; only the number of hypotheses is
fixed. The search is a ``Loop`` that carries all it knows in tensors whose shapes never change,
which is what TensorRT asks of a loop, and every integer has 32 or 64 bits: TensorRT takes bytes as
inputs and as weights of quantised layers, but does not look anything up in them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from omegaconf import DictConfig
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import (
    CHUNK_IDS,
    LETTERS,
    LOG_PROBABILITIES,
    CoreAlphabets,
    chunks_to_properties,
)
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.packaging.onnx_export import (
    BEAM_SIZE,
    OPSET,
    PRONUNCIATIONS,
    WORDS,
    Parts,
    first_scores,
    first_state,
    make_model,
    open_session,
    search_constants,
    search_step,
)
from grapheme_to_phoneme.training.alphabets import Alphabets

LOGGER = logging.getLogger(__name__)

#: Integers that TensorRT has no look-up for.
SMALL_INTEGERS = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16)


def assemble_core(
    parts: Parts, alphabets: Alphabets, metadata: ModelMetadata, beam_size: int
) -> ModelProto:
    """Build the core network.

    Its input is ``letters``, ids as in :class:`Alphabets`, 0 at padding, 64-bit integers, (batch,
    length). Its outputs, best hypothesis first:

    - ``chunk_ids``: ids as in :class:`Alphabets`, 0 at padding, 64-bit integers, (batch, beam,
      length);
    - ``log_probabilities``: natural logarithms, float32, (batch, beam).

    The metadata says what the ids mean: see :class:`CoreAlphabets`.

    Args:
        parts: the exported network.
        alphabets: its alphabets.
        metadata: as for the model with strings.
        beam_size: number of hypotheses; 1 is greedy search.
    """
    nodes = [
        *parts.preparation.graph.node,
        *first_state(parts.state_size),
        *first_scores(),
        *_positions(),
        helper.make_node("Expand", ["padding", "path_shape"], ["first_path"]),
        _search_loop(parts, beam_size),
    ]
    graph = helper.make_graph(
        nodes,
        "grapheme_to_phoneme_core",
        [helper.make_tensor_value_info(LETTERS, TensorProto.INT64, ["batch", "length"])],
        [
            helper.make_tensor_value_info(
                CHUNK_IDS, TensorProto.INT64, ["batch", beam_size, "length"]
            ),
            helper.make_tensor_value_info(
                LOG_PROBABILITIES, TensorProto.FLOAT, ["batch", beam_size]
            ),
        ],
        initializer=[
            *parts.preparation.graph.initializer,
            *parts.step.graph.initializer,
            *search_constants(),
            numpy_helper.from_array(np.array([beam_size], dtype=np.int64), BEAM_SIZE),
            # TensorRT does not know the body's condition where the loop begins without one.
            numpy_helper.from_array(np.array(True), "always"),
        ],
        # ONNX does not take for granted that a loop leaves shapes as they are.
        value_info=[
            helper.make_tensor_value_info(
                "last_state", TensorProto.FLOAT, ["batch", beam_size, parts.state_size]
            ),
            helper.make_tensor_value_info("last_chunk", TensorProto.INT64, ["batch", beam_size]),
        ],
    )
    _widen_tables(graph)
    model = make_model(graph, metadata, {"": OPSET})
    helper.set_model_props(
        model, {**metadata.to_properties(), **chunks_to_properties(alphabets.chunks)}
    )
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def check_core(core: Path, model: Path, words: Sequence[str], config: DictConfig) -> None:
    """Compare a core network with the model of the same precision that takes strings.

    Every batch size of the configuration is tried, on words of mixed lengths. All hypotheses
    must be the same, and their log probabilities equal within ``config.tolerance``.

    Args:
        core: the core network's file.
        model: the other one's.
        words: normalised spellings.
        config: the group ``export``.

    Raises:
        UserError: naming the first word that differs.
    """
    core_session, session = open_session(core), open_session(model)
    properties = core_session.get_modelmeta().custom_metadata_map
    alphabets = CoreAlphabets.from_properties(properties, str(core))
    beam_size = np.array([config.core_beam_size], dtype=np.int64)
    # Once, since a word's answer does not depend on the words beside it.
    texts, expected = [], []
    for batch in _batches(words, max(config.parity_batch_sizes)):
        feeds = {WORDS: np.array(batch, dtype=object), BEAM_SIZE: beam_size}
        said, scores = session.run([PRONUNCIATIONS, LOG_PROBABILITIES], feeds)
        texts.extend(said.tolist())
        expected.extend(scores)
    worst = 0.0
    for batch_size in config.parity_batch_sizes:
        chunk_ids, scores = [], []
        for batch in _batches(words, batch_size):
            ids, batch_scores = core_session.run(
                [CHUNK_IDS, LOG_PROBABILITIES], {LETTERS: alphabets.encode(batch)}
            )
            chunk_ids.extend(ids)
            scores.extend(batch_scores)
        for row, word in enumerate(words):
            said = [" ".join(phones) for phones in alphabets.decode(chunk_ids[row])]
            # More hypotheses than there are answers: both impossible, minus infinity.
            is_same = scores[row] == expected[row]
            difference = float(np.abs(np.where(is_same, 0.0, scores[row] - expected[row])).max())
            if said != texts[row] or difference > config.tolerance:
                raise UserError(
                    f"the core network {core.name} differs from the model on '{word}': "
                    f"'{said[0]}' instead of '{texts[row][0]}', log probability "
                    f"{scores[row][0]:.5f} instead of {expected[row][0]:.5f}"
                )
            worst = max(worst, difference)
    LOGGER.info(
        "the core network says what the %s model says, on %d words: log probabilities differ by "
        "at most %.1e",
        core.stem,
        len(words),
        worst,
    )


def _batches(words: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (words[start : start + size] for start in range(0, len(words), size))


def _positions() -> list[NodeProto]:
    """The places of the letters, their number, and the shape of the paths."""
    return [
        helper.make_node("Shape", [LETTERS], ["word_length"], start=1, end=2),
        helper.make_node("Squeeze", ["word_length"], ["rounds"]),
        helper.make_node("Range", ["scalar_zero", "rounds", "scalar_one"], ["positions"]),
        helper.make_node("Concat", ["beam_shape", "word_length"], ["path_shape"], axis=0),
    ]


def _search_loop(parts: Parts, beam_size: int) -> NodeProto:
    nodes = [
        helper.make_node("Reshape", ["position", "one"], ["position_index"]),
        helper.make_node("Gather", ["all_gates", "position"], ["gates"]),
        helper.make_node("Gather", ["all_hidden", "position"], ["hidden"]),
        helper.make_node("Gather", ["is_padding", "position_index"], ["outside"], axis=1),
        *search_step(parts.step),
        helper.make_node("GatherND", ["path", "source_index"], ["moved_path"], batch_dims=1),
        helper.make_node("Equal", ["positions", "position"], ["is_here"]),
        helper.make_node("Unsqueeze", ["chosen", "last_axis"], ["chosen_column"]),
        helper.make_node("Where", ["is_here", "chosen_column", "moved_path"], ["next_path"]),
        helper.make_node("Identity", ["go_on"], ["still_go_on"]),
    ]
    beam = ["batch", beam_size]
    state, path = [*beam, parts.state_size], [*beam, "length"]
    carried = [
        ("state", "next_state", TensorProto.FLOAT, state),
        ("previous", "chosen", TensorProto.INT64, beam),
        ("scores", "next_scores", TensorProto.FLOAT, beam),
        ("path", "next_path", TensorProto.INT64, path),
    ]
    body = helper.make_graph(
        nodes,
        "search_step",
        [
            helper.make_tensor_value_info("position", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            *(
                helper.make_tensor_value_info(before, kind, shape)
                for before, _, kind, shape in carried
            ),
        ],
        [
            helper.make_tensor_value_info("still_go_on", TensorProto.BOOL, []),
            *(
                helper.make_tensor_value_info(after, kind, shape)
                for _, after, kind, shape in carried
            ),
        ],
    )
    return helper.make_node(
        "Loop",
        ["rounds", "always", "first_state", "first_previous", "first_scores", "first_path"],
        ["last_state", "last_chunk", LOG_PROBABILITIES, CHUNK_IDS],
        body=body,
    )


def _widen_tables(graph: GraphProto) -> None:
    """Turn look-up tables of small integers into tables of 32-bit ones."""
    for tensor in graph.initializer:
        if tensor.data_type in SMALL_INTEGERS:
            values = numpy_helper.to_array(tensor).astype(np.int32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
