"""Writes a model as one ONNX file: spellings in, pronunciations and probabilities out.

PyTorch exports the two parts of the network, the encoder with all that can be computed for
every letter at once and one step of the decoder. This module joins them with the standard's own
operators: ``Tokenizer`` and ``LabelEncoder`` turn spellings into letter ids, a ``Scan`` over the
letters runs the search with the step as its body, a second ``Scan``, backwards, follows the
best paths of a beam, and a ``Loop`` joins their phones into strings. The same search without
strings, for compilers that know none, is in :mod:`core_export`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from grapheme_to_phoneme.constants import DISTRIBUTION_NAME
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.packaging.averages import spell_out_averages
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.network import Network

LOGGER = logging.getLogger(__name__)

OPSET = 20
ML_OPSET = 4
#: Understood by every ONNX Runtime that has the operator set above.
IR_VERSION = 9
#: What ONNX Runtime calls its own operators, the Tokenizer among them.
CONTRIBUTED_DOMAIN = "com.microsoft"
ML_DOMAIN = "ai.onnx.ml"

#: What PyTorch does to weights alone: mostly operators that compute nothing.
FOLDED = frozenset({"Concat", "Mul", "Reshape", "Slice", "Transpose", "Unsqueeze"})

WORDS = "words"
BEAM_SIZE = "beam_size"
PRONUNCIATIONS = "pronunciations"
LOG_PROBABILITIES = "log_probabilities"
CHUNKS = "chunks"


class _Preparation(nn.Module):
    """The encoder, and what the decoder computes for all letters at once."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.preparation = network.decoder.preparation()

    def forward(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        return self.preparation(self.encoder(letters))


class _Step(nn.Module):
    """One step of the decoder, with the history table computed once and for all."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.decoder = network.decoder
        self.register_buffer("table", network.decoder.history_table().detach())

    def forward(
        self, gates: Tensor, hidden: Tensor, previous: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.decoder.step(self.table, gates, hidden, previous, state)


@dataclass(frozen=True)
class Parts:
    """The network as two ONNX models.

    Attributes:
        preparation: ``letters`` to ``all_gates`` and ``all_hidden``: the encoder and
            :meth:`Decoder.prepare`.
        step: :meth:`Decoder.step`, without its table.
        state_size: width of the recurrent state.
    """

    preparation: ModelProto
    step: ModelProto
    state_size: int


def export_parts(network: Network) -> Parts:
    """Export a network's encoder and decoder step, for any batch, beam and length."""
    network = network.eval().cpu()
    state_size = network.decoder.state_size
    preparation = _export(
        _Preparation(network),
        {"letters": torch.tensor([[1, 1, 1], [1, 1, 0]])},
        ("all_gates", "all_hidden"),
        {"letters": {0: "batch", 1: "length"}},
        "prepare_",
    )
    encoding = network.encoder(torch.ones(2, 1, dtype=torch.int64))
    gates, hidden = (prepared[0].detach() for prepared in network.decoder.prepare(encoding))
    step = _export(
        _Step(network),
        {
            "gates": gates,
            "hidden": hidden,
            "previous": torch.zeros(2, 3, dtype=torch.int64),
            "state": torch.zeros(2, 3, state_size),
        },
        ("step_log_probabilities", "advanced"),
        {
            "gates": {0: "batch"},
            "hidden": {0: "batch"},
            "previous": {0: "batch", 1: "beam"},
            "state": {0: "batch", 1: "beam"},
        },
        "step_",
    )
    return Parts(preparation, step, state_size)


def assemble(parts: Parts, alphabets: Alphabets, metadata: ModelMetadata) -> ModelProto:
    """Build the ONNX model of a network.

    Its inputs are ``words``, normalised spellings as strings, shape (batch,), and
    ``beam_size``, the number of hypotheses, 64-bit integers, shape (1,). A letter that the model
    does not know gives no phone, as padding does. Its outputs, best hypothesis first:

    - ``pronunciations``: phones separated by spaces, strings, (batch, beam);
    - ``log_probabilities``: natural logarithms, float32, (batch, beam);
    - ``chunks``: the phones that each letter gave, strings, (batch, beam, letters), empty for
      silent letters and beyond a word's end.
    """
    nodes = [
        *_letter_ids(alphabets),
        *parts.preparation.graph.node,
        *first_state(parts.state_size),
        helper.make_node("Equal", [BEAM_SIZE, "one"], ["is_one"]),
        helper.make_node("Squeeze", ["is_one"], ["is_greedy"]),
        *_search(parts.step, parts.state_size),
        *_spell_out(alphabets),
    ]
    graph = helper.make_graph(
        nodes,
        "grapheme_to_phoneme",
        [
            helper.make_tensor_value_info(WORDS, TensorProto.STRING, ["batch"]),
            helper.make_tensor_value_info(BEAM_SIZE, TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info(PRONUNCIATIONS, TensorProto.STRING, ["batch", "beam"]),
            helper.make_tensor_value_info(LOG_PROBABILITIES, TensorProto.FLOAT, ["batch", "beam"]),
            helper.make_tensor_value_info(CHUNKS, TensorProto.STRING, ["batch", "beam", "length"]),
        ],
        initializer=[
            *parts.preparation.graph.initializer,
            *parts.step.graph.initializer,
            *search_constants(),
            numpy_helper.from_array(np.array("", dtype=object), "nothing"),
        ],
        # ONNX does not know the Tokenizer, and crashes on inferring shapes from its output.
        value_info=[
            helper.make_tensor_value_info("characters", TensorProto.STRING, ["batch", "length"])
        ],
    )
    return make_model(graph, metadata, {"": OPSET, ML_DOMAIN: ML_OPSET, CONTRIBUTED_DOMAIN: 1})


def make_model(graph: GraphProto, metadata: ModelMetadata, opsets: dict[str, int]) -> ModelProto:
    """Make a model of a graph, with its metadata; ``opsets`` are versions by domain."""
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*pair) for pair in opsets.items()],
        ir_version=IR_VERSION,
        producer_name=DISTRIBUTION_NAME,
        producer_version=metadata.package_version,
    )
    helper.set_model_props(model, metadata.to_properties())
    return model


def write_model(model: ModelProto, path: Path) -> None:
    """Write a model so that ``path`` is never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    onnx.save_model(model, partial)
    partial.replace(path)


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """Load a model file to compare it with another, on one thread.

    More threads would wait for work in a loop and keep PyTorch's from theirs, and in turn: on a
    busy machine that took minutes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _export(
    module: nn.Module,
    examples: dict[str, Tensor],
    outputs: Sequence[str],
    dynamic_shapes: dict[str, dict[int, str]],
    prefix: str,
) -> ModelProto:
    """Export a module with PyTorch; ``prefix`` keeps inner names apart from the rest."""
    # It warns of every operator of torchvision, which nobody here has asked for.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        module.eval(),
        kwargs=examples,
        input_names=list(examples),
        output_names=list(outputs),
        dynamic_shapes=dynamic_shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    model = onnx.compose.add_prefix(program.model_proto, prefix)
    _rename(model.graph, {prefix + name: name for name in (*examples, *outputs)})
    spell_out_averages(model.graph)
    _inline_sizes(model.graph)
    _fold_constants(model.graph)
    # PyTorch takes the length that an LSTM was shown for the only one, in what it says of shapes.
    del model.graph.value_info[:]
    # What ONNX Runtime's own operators give, ONNX does not know.
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for node in model.graph.node
        if node.domain == CONTRIBUTED_DOMAIN
        for name in node.output
    )
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def _fold_constants(graph: GraphProto) -> None:
    """Compute what PyTorch makes of weights alone anew whenever the graph runs."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in FOLDED and all(name in constants for name in node.input):
            given = {name: numpy_helper.to_array(constants[name]) for name in node.input}
            (values,) = ReferenceEvaluator(node).run(None, given)
            (output,) = node.output
            constants[output] = numpy_helper.from_array(np.ascontiguousarray(values), output)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)


def _inline_sizes(graph: GraphProto) -> None:
    """Put the sizes of parts beside the nodes that split.

    ONNX infers no shapes from the values of constants outside the loop that a node comes to be in.
    """
    sizes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []
    for number, node in enumerate(graph.node):
        if node.op_type == "Split" and len(node.input) == 2:
            name = f"{node.input[1]}_{number}"
            nodes.append(_constant(name, sizes[node.input[1]].tolist()))
            node.input[1] = name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)


def search_constants() -> list[TensorProto]:
    """Return the constants that the nodes of a search refer to."""
    values = {
        "one": np.array([1], dtype=np.int64),
        "flat": np.array([0, -1], dtype=np.int64),
        "scalar_zero": np.array(0, dtype=np.int64),
        "scalar_one": np.array(1, dtype=np.int64),
        "padding": np.array(PADDING_ID, dtype=np.int64),
        "start": np.array(START_ID, dtype=np.int64),
        "certain": np.array(0.0, dtype=np.float32),
        "impossible": np.array(-np.inf, dtype=np.float32),
    }
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def _letter_ids(alphabets: Alphabets) -> list[NodeProto]:
    """Spellings to ids: ``words`` (batch,) to ``letters`` (batch, length), 0 for unknown."""
    return [
        helper.make_node(
            "Tokenizer",
            [WORDS],
            ["characters"],
            domain=CONTRIBUTED_DOMAIN,
            mark=0,
            mincharnum=1,
            pad_value="",
            separators=[""],
        ),
        helper.make_node(
            "LabelEncoder",
            ["characters"],
            ["letters"],
            domain=ML_DOMAIN,
            keys_strings=list(alphabets.letters),
            values_int64s=[alphabets.letter_ids[letter] for letter in alphabets.letters],
            default_int64=PADDING_ID,
        ),
    ]


def first_state(state_size: int) -> list[NodeProto]:
    """The state before the first letter.

    From ``letters`` and ``beam_size``, shape (1,), these nodes compute ``first_state``,
    ``first_previous``, the shape of a beam, ``beam_shape``, and ``is_padding``, (batch,
    length).
    """
    return [
        helper.make_node("Shape", ["letters"], ["batch_size"], start=0, end=1),
        helper.make_node("Concat", ["batch_size", BEAM_SIZE], ["beam_shape"], axis=0),
        _constant("state_width", [state_size]),
        helper.make_node("Concat", ["beam_shape", "state_width"], ["state_shape"], axis=0),
        helper.make_node("ConstantOfShape", ["state_shape"], ["first_state"]),
        helper.make_node("Expand", ["start", "beam_shape"], ["first_previous"]),
        helper.make_node("Equal", ["letters", "padding"], ["is_padding"]),
    ]


def first_scores() -> list[NodeProto]:
    """The beam before the first letter: one live hypothesis, the others impossible.

    From what :func:`first_state` computes, these nodes compute ``first_scores``, and
    ``unmoved``, every hypothesis' own place.
    """
    return [
        # Not the shape that the state was made of: ONNX Runtime would like to have that renamed.
        helper.make_node("Shape", ["first_previous"], ["scores_shape"]),
        helper.make_node("Squeeze", [BEAM_SIZE], ["beam_limit"]),
        helper.make_node("Range", ["scalar_zero", "beam_limit", "scalar_one"], ["places"]),
        helper.make_node("Equal", ["places", "scalar_zero"], ["is_first"]),
        helper.make_node("Where", ["is_first", "certain", "impossible"], ["first_row"]),
        helper.make_node("Expand", ["first_row", "scores_shape"], ["first_scores"]),
        helper.make_node("Expand", ["places", "scores_shape"], ["unmoved"]),
    ]


def _constant(name: str, values: list[int]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value_ints=values)


def search_step(step: ModelProto) -> list[NodeProto]:
    """One letter of the beam search: the same bookkeeping as in ``Network.search``.

    From ``gates``, ``hidden`` and ``outside``, which is true at padding, (batch, 1), and the beam
    as ``state``, ``previous`` and ``scores``, these nodes compute ``next_state``, ``chosen`` and
    ``next_scores``, and the places that the hypotheses grew from, ``source`` and, as an index,
    ``source_index``.
    """
    return [
        # Of its own, since ONNX infers no shapes from the values of constants further outside.
        _constant("last_axis", [2]),
        *step.graph.node,
        helper.make_node("Unsqueeze", ["scores", "last_axis"], ["scores_column"]),
        helper.make_node("Add", ["scores_column", "step_log_probabilities"], ["totals"]),
        helper.make_node("Reshape", ["totals", "flat"], ["flat_totals"]),
        helper.make_node("TopK", ["flat_totals", BEAM_SIZE], ["best", "found"], axis=-1),
        helper.make_node("Shape", ["totals"], ["answers"], start=2, end=3),
        helper.make_node("Div", ["found", "answers"], ["found_source"]),
        helper.make_node("Mod", ["found", "answers"], ["found_answer"]),
        helper.make_node("Add", ["found_answer", "one"], ["found_chunk"]),
        helper.make_node("Unsqueeze", ["outside", "last_axis"], ["outside_state"]),
        helper.make_node("Where", ["outside", "unmoved", "found_source"], ["source"]),
        helper.make_node("Where", ["outside", "start", "found_chunk"], ["chosen"]),
        helper.make_node("Where", ["outside", "scores", "best"], ["next_scores"]),
        helper.make_node("Unsqueeze", ["source", "last_axis"], ["source_index"]),
        helper.make_node("GatherND", ["advanced", "source_index"], ["moved"], batch_dims=1),
        helper.make_node("Where", ["outside_state", "state", "moved"], ["next_state"]),
    ]


def _search(step: ModelProto, state_size: int) -> list[NodeProto]:
    """The search: ``chunk_ids``, (batch, beam, length), and the log probabilities.

    Greedy search has a loop of its own: starting operators is most of what a word alone takes,
    and it needs half of those that a beam does. Both loops share the step's weights.
    """
    outputs = [
        helper.make_tensor_value_info("path", TensorProto.INT64, ["batch", "beam", "length"]),
        helper.make_tensor_value_info("path_scores", TensorProto.FLOAT, ["batch", "beam"]),
    ]
    return [
        _constant("beam_axis", [2]),
        helper.make_node("Unsqueeze", ["is_padding", "beam_axis"], ["outside_by_letter"]),
        helper.make_node(
            "If",
            ["is_greedy"],
            ["chunk_ids", LOG_PROBABILITIES],
            then_branch=helper.make_graph(
                _greedy_search(step, state_size), "greedy_search", [], outputs
            ),
            else_branch=helper.make_graph(
                [*_beam_search(step, state_size), *_trace()], "beam_search", [], outputs
            ),
        ),
    ]


def _greedy_search(step: ModelProto, state_size: int) -> list[NodeProto]:
    """What :func:`_beam_search` and :func:`_trace` do, for one hypothesis.

    The loop does not mind padding, which comes last: what it chose there is taken back after it.
    """
    beam = ["batch", "beam"]
    body = helper.make_graph(
        [
            _constant("last_axis", [2]),
            *step.graph.node,
            # Faster than ArgMax and ReduceMax.
            helper.make_node("TopK", ["step_log_probabilities", "one"], ["gained", "answers"]),
            helper.make_node("Squeeze", ["answers", "last_axis"], ["answer"]),
            helper.make_node("Add", ["answer", "one"], ["found_chunk"]),
            helper.make_node("Identity", ["found_chunk"], ["found_chunk_out"]),
        ],
        "greedy_step",
        _step_inputs(state_size),
        [
            helper.make_tensor_value_info("advanced", TensorProto.FLOAT, [*beam, state_size]),
            helper.make_tensor_value_info("found_chunk", TensorProto.INT64, beam),
            helper.make_tensor_value_info("found_chunk_out", TensorProto.INT64, beam),
            helper.make_tensor_value_info("gained", TensorProto.FLOAT, [*beam, 1]),
        ],
    )
    return [
        helper.make_node(
            "Scan",
            ["first_state", "first_previous", "all_gates", "all_hidden"],
            ["last_state", "last_chunk", "found_by_letter", "gained_by_letter"],
            num_scan_inputs=2,
            body=body,
        ),
        helper.make_node("Transpose", ["outside_by_letter"], ["outside_first"], perm=[1, 0, 2]),
        helper.make_node("Where", ["outside_first", "start", "found_by_letter"], ["chosen"]),
        helper.make_node("Transpose", ["chosen"], ["path"], perm=[1, 2, 0]),
        _constant("last_beam_axis", [3]),
        helper.make_node("Squeeze", ["gained_by_letter", "last_beam_axis"], ["gained_at_all"]),
        helper.make_node("Where", ["outside_first", "certain", "gained_at_all"], ["gains"]),
        _constant("letter_axis", [0]),
        helper.make_node("ReduceSum", ["gains", "letter_axis"], ["path_scores"], keepdims=0),
    ]


def _step_inputs(state_size: int) -> list[ValueInfoProto]:
    """What a step of either search is given."""
    beam = ["batch", "beam"]
    return [
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [*beam, state_size]),
        helper.make_tensor_value_info("previous", TensorProto.INT64, beam),
        helper.make_tensor_value_info("gates", TensorProto.FLOAT, ["batch", 1, None]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", 1, None]),
    ]


def _beam_search(step: ModelProto, state_size: int) -> list[NodeProto]:
    """The beam search, letter by letter."""
    beam = ["batch", "beam"]
    state, previous, gates, hidden = _step_inputs(state_size)
    body = helper.make_graph(
        [
            *search_step(step),
            helper.make_node("Identity", ["chosen"], ["chosen_out"]),
        ],
        "search_step",
        [
            state,
            previous,
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, beam),
            gates,
            hidden,
            helper.make_tensor_value_info("outside", TensorProto.BOOL, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [*beam, state_size]),
            helper.make_tensor_value_info("chosen", TensorProto.INT64, beam),
            helper.make_tensor_value_info("next_scores", TensorProto.FLOAT, beam),
            helper.make_tensor_value_info("chosen_out", TensorProto.INT64, beam),
            helper.make_tensor_value_info("source", TensorProto.INT64, beam),
        ],
    )
    scan = helper.make_node(
        "Scan",
        [
            "first_state",
            "first_previous",
            "first_scores",
            "all_gates",
            "all_hidden",
            "outside_by_letter",
        ],
        ["last_state", "last_chunk", "path_scores", "chosen_by_letter", "source_by_letter"],
        num_scan_inputs=3,
        scan_input_axes=[0, 0, 1],
        body=body,
    )
    return [*first_scores(), scan]


def _trace() -> list[NodeProto]:
    """Follow the hypotheses back from the last letter: ``path``, (batch, beam, length)."""
    beam = ["batch", "beam"]
    body = helper.make_graph(
        [
            helper.make_node("GatherElements", ["chosen", "place"], ["chunk_id"], axis=1),
            helper.make_node("GatherElements", ["source", "place"], ["next_place"], axis=1),
        ],
        "trace_step",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, beam)
            for name in ("place", "chosen", "source")
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, beam)
            for name in ("next_place", "chunk_id")
        ],
    )
    scan = helper.make_node(
        "Scan",
        ["unmoved", "chosen_by_letter", "source_by_letter"],
        ["first_place", "path"],
        num_scan_inputs=2,
        scan_input_directions=[1, 1],
        scan_output_directions=[1],
        scan_output_axes=[2],
        body=body,
    )
    return [scan]


def _spell_out(alphabets: Alphabets) -> list[NodeProto]:
    """Turn chunk ids into the phones of every letter and of the whole word.

    A chunk is joined with a space before it unless nothing was said before it.
    """
    texts = [" ".join(chunk) for chunk in alphabets.chunks]
    ids = [alphabets.chunk_ids[chunk] for chunk in alphabets.chunks]
    spaced_offset = max(ids) + 1
    says_something = [int(bool(text)) for text in texts]
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["pieces", "place"], ["piece"], axis=2),
            helper.make_node("StringConcat", ["text", "piece"], ["next_text"]),
            helper.make_node("Identity", ["go_on"], ["still_go_on"]),
        ],
        "join_step",
        [
            helper.make_tensor_value_info("place", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", "beam"]),
        ],
        [
            helper.make_tensor_value_info("still_go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_text", TensorProto.STRING, ["batch", "beam"]),
        ],
    )
    return [
        _label_encoder("chunk_ids", CHUNKS, ids, values_strings=texts, default_string=""),
        _label_encoder("chunk_ids", "says", ids, values_int64s=says_something, default_int64=0),
        _constant("letters_axis", [2]),
        helper.make_node("CumSum", ["says", "letters_axis"], ["said_before"], exclusive=1),
        helper.make_node("Greater", ["said_before", "scalar_zero"], ["follows"]),
        _constant("spaced_offset", [spaced_offset]),
        helper.make_node("Where", ["follows", "spaced_offset", "scalar_zero"], ["spacing"]),
        helper.make_node("Add", ["chunk_ids", "spacing"], ["piece_ids"]),
        _label_encoder(
            "piece_ids",
            "pieces",
            [*ids, *(index + spaced_offset for index in ids)],
            values_strings=[*texts, *(" " + text if text else "" for text in texts)],
            default_string="",
        ),
        helper.make_node("Shape", ["chunk_ids"], ["chunk_count"], start=2, end=3),
        helper.make_node("Squeeze", ["chunk_count"], ["rounds"]),
        helper.make_node("Expand", ["nothing", "beam_shape"], ["no_text"]),
        # A Loop, since a Scan hands StringConcat strings of an earlier round to append to.
        helper.make_node("Loop", ["rounds", "", "no_text"], [PRONUNCIATIONS], body=body),
    ]


def _label_encoder(source: str, target: str, keys: list[int], **attributes: object) -> NodeProto:
    return helper.make_node(
        "LabelEncoder", [source], [target], domain=ML_DOMAIN, keys_int64s=keys, **attributes
    )
