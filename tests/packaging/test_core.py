"""The network without strings says what the model says, and is made of what TensorRT knows."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import (
    CHUNKS_PROPERTY,
    CoreAlphabets,
    chunks_to_properties,
)
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.packaging.core_export import assemble_core, check_core
from grapheme_to_phoneme.packaging.half_precision import halve
from grapheme_to_phoneme.packaging.onnx_export import (
    OPSET,
    Parts,
    export_parts,
    open_session,
    write_model,
)
from grapheme_to_phoneme.packaging.standard_operators import in_standard_operators
from grapheme_to_phoneme.training.lightning_module import load_checkpoint
from tests.conftest import TinyRun
from tests.training.test_network import ALPHABETS, make_network

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
INTEGERS = {TensorProto.INT32, TensorProto.INT64}
BOOL = {TensorProto.BOOL}

#: What TensorRT's parser knows of these operators: docs/operators.md of onnx-tensorrt for TensorRT
#: 10.15, operator sets 9 to 24. Of the types, only those that may occur here.
TENSORRT_TYPES = {
    "Add": FLOATS | INTEGERS,
    "And": BOOL,
    "ArgMax": FLOATS | INTEGERS,
    "Cast": FLOATS | INTEGERS | BOOL,
    "Clip": FLOATS | INTEGERS,
    "Concat": FLOATS | INTEGERS | BOOL,
    "Conv": FLOATS,
    "Constant": FLOATS | INTEGERS | BOOL,
    "ConstantOfShape": FLOATS | INTEGERS | BOOL,
    "Div": FLOATS | INTEGERS,
    "Equal": FLOATS | INTEGERS | BOOL,
    "Expand": FLOATS | INTEGERS | BOOL,
    "Gather": FLOATS | INTEGERS | BOOL,
    "GatherElements": FLOATS | INTEGERS | BOOL,
    "GatherND": FLOATS | INTEGERS | BOOL,
    "Gemm": FLOATS,
    "Greater": FLOATS | INTEGERS | BOOL,
    "GreaterOrEqual": FLOATS | INTEGERS | BOOL,
    "Identity": FLOATS | INTEGERS | BOOL,
    "LayerNormalization": FLOATS,
    "Less": FLOATS | INTEGERS | BOOL,
    "LessOrEqual": FLOATS | INTEGERS | BOOL,
    "Log": FLOATS,
    "LogSoftmax": FLOATS,
    "Loop": FLOATS | INTEGERS | BOOL,
    "MatMul": FLOATS,
    "Max": FLOATS | INTEGERS,
    "Min": FLOATS | INTEGERS,
    "Mod": FLOATS | INTEGERS,
    "Mul": FLOATS | INTEGERS,
    "Neg": FLOATS | INTEGERS,
    "Not": BOOL,
    "Or": BOOL,
    "Pad": FLOATS | INTEGERS,
    "Range": FLOATS | INTEGERS,
    "ReduceMax": FLOATS | INTEGERS,
    "ReduceMean": FLOATS | INTEGERS,
    "ReduceSum": FLOATS | INTEGERS,
    "Reshape": FLOATS | INTEGERS | BOOL,
    "Scan": FLOATS,
    "Shape": FLOATS | INTEGERS | BOOL,
    "Sigmoid": FLOATS,
    "Slice": FLOATS | INTEGERS | BOOL,
    "Softmax": FLOATS,
    "Split": FLOATS | INTEGERS | BOOL,
    "Squeeze": FLOATS | INTEGERS | BOOL,
    "Sub": FLOATS | INTEGERS,
    "Tanh": FLOATS,
    "TopK": FLOATS | INTEGERS,
    "Transpose": FLOATS | INTEGERS | BOOL,
    "Unsqueeze": FLOATS | INTEGERS | BOOL,
    "Where": FLOATS | INTEGERS | BOOL,
}

#: Inputs that must be known when the engine is built, by the same document.
CONSTANT_INPUTS = {
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceSum": 1,
    "Squeeze": 1,
    "TopK": 1,
    "Unsqueeze": 1,
}

GOLDEN_WORDS = ["stone", "kitten", "o'neil", "Phoenix", "tensor", "na\u00efve", "", "x" * 40]


@pytest.fixture(scope="module")
def parts(tiny_run: TinyRun) -> Parts:
    """The trained network, exported for compilers that know the standard's operators alone."""
    return in_standard_operators(export_parts(tiny_run.exported_module().network))


@pytest.fixture(scope="module")
def dev_words(tiny_run: TinyRun) -> list[str]:
    """Words that the network did not learn from, of mixed lengths."""
    return list(group_by_spelling(tiny_run.lexicon.dev))


def run_core(path: Path, words: list[str]) -> tuple[list[list[tuple[str, ...]]], np.ndarray]:
    session = open_session(path)
    alphabets = CoreAlphabets.from_properties(
        dict(session.get_modelmeta().custom_metadata_map), str(path)
    )
    chunk_ids, scores = session.run(
        ["chunk_ids", "log_probabilities"], {"letters": alphabets.encode(words)}
    )
    return [alphabets.decode(row) for row in chunk_ids], scores


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_golden_words(tiny_run: TinyRun, dev_words: list[str], precision: str) -> None:
    words = [word for word in (*GOLDEN_WORDS, *dev_words[:300]) if word]
    model = tiny_run.directory / "variants" / f"{precision}.onnx"
    expected = Pronouncer(model, threads=1).pronounce(words)
    phones, scores = run_core(tiny_run.directory / "core" / f"{precision}.onnx", words)
    for answer, (said,), score in zip(expected, phones, scores[:, 0], strict=True):
        # An unknown accented letter is replaced by its base letter there, and left out here.
        if not answer.unknown_characters:
            assert answer.phones == said
            assert answer.probability == pytest.approx(np.exp(score), abs=1e-4)


def test_export_checks_both(tiny_run: TinyRun) -> None:
    said = tiny_run.completed.stderr.decode()
    for precision in ("float32", "float16"):
        assert f"the core network says what the {precision} model says, on 1000 words" in said


def test_batch_around_a_word_does_not_matter(tiny_run: TinyRun, dev_words: list[str]) -> None:
    words = sorted(dev_words, key=len)
    together, scores = run_core(tiny_run.core, [*words, "x" * 50])
    for row in range(0, len(words), 97):
        alone, score = run_core(tiny_run.core, [words[row]])
        assert alone[0] == together[row]
        np.testing.assert_allclose(score[0], scores[row], atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_beam_is_fixed_by_the_export(
    parts: Parts, tiny_run: TinyRun, dev_words: list[str], tmp_path: Path, beam_size: int
) -> None:
    alphabets = load_checkpoint(tiny_run.checkpoint).alphabets
    metadata = Pronouncer(tiny_run.float32_model, threads=1).metadata
    path = tmp_path / "core.onnx"
    write_model(assemble_core(parts, alphabets, metadata, beam_size), path)
    settings = compose_config([f"export.core_beam_size={beam_size}"]).export
    settings.parity_batch_sizes = [1, 16]
    check_core(path, tiny_run.float32_model, dev_words[:100], settings)
    assert run_core(path, ["stone"])[1].shape == (1, beam_size)


def test_difference_is_found(tiny_run: TinyRun, dev_words: list[str], tmp_path: Path) -> None:
    model = onnx.load(tiny_run.core)
    (tensor,) = (item for item in model.graph.initializer if item.name.endswith("gates.bias"))
    values = numpy_helper.to_array(tensor).copy()
    values += 0.1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "damaged.onnx"
    onnx.save_model(model, path)
    with pytest.raises(UserError, match="the core network damaged.onnx differs from the model on"):
        check_core(path, tiny_run.float32_model, dev_words, compose_config([]).export)


# What TensorRT needs


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def values_of(model: ModelProto) -> dict[str, ValueInfoProto | TensorProto]:
    """Return all that is known of the tensors of a model, by their names."""
    values: dict[str, ValueInfoProto | TensorProto] = {}
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.value_info, *graph.output, *graph.initializer):
            values[value.name] = value
    return values


def kind_of(value: ValueInfoProto | TensorProto) -> int:
    return value.data_type if isinstance(value, TensorProto) else value.type.tensor_type.elem_type


def find_unsupported(model: ModelProto) -> list[str]:
    """Return the nodes that the table above does not allow, and why."""
    # A tensor of which nothing is known has no type that is allowed.
    values = defaultdict(ValueInfoProto, values_of(model))
    constants = {item.name for graph in graphs_of(model.graph) for item in graph.initializer}
    problems = []
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if node.op_type == "Constant":
                constants.update(node.output)
            if node.domain not in ("", "ai.onnx") or node.op_type not in TENSORRT_TYPES:
                problems.append(f"{node.domain}:{node.op_type}")
                continue
            # Shapes, indices, conditions and numbers of rounds come beside what is computed.
            allowed = TENSORRT_TYPES[node.op_type] | {TensorProto.INT64, TensorProto.BOOL}
            for name in filter(None, node.output):
                if kind_of(values[name]) not in TENSORRT_TYPES[node.op_type] | BOOL:
                    problems.append(f"{node.op_type} gives {name}")
            for name in filter(None, node.input):
                if kind_of(values[name]) not in allowed:
                    problems.append(f"{node.op_type} takes {name}")
            place = CONSTANT_INPUTS.get(node.op_type)
            if place is not None and len(node.input) > place and node.input[place]:
                if node.input[place] not in constants:
                    problems.append(f"{node.op_type} with input {place} that is not constant")
    return problems


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_tensorrt_knows_every_operator(tiny_run: TinyRun, precision: str) -> None:
    model = onnx.load(tiny_run.directory / "core" / f"{precision}.onnx")
    assert 9 <= OPSET <= 24
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert find_unsupported(model) == []


@pytest.mark.parametrize("precision", [lambda parts: parts, halve], ids=["float32", "float16"])
def test_tensorrt_knows_averages(precision: Callable[[Parts], Parts]) -> None:
    network = make_network(attention_heads=0, averages=True)
    parts = precision(in_standard_operators(export_parts(network)))
    core = assemble_core(parts, ALPHABETS, METADATA, 1)
    assert find_unsupported(core) == []
    assert [node.op_type for node in core.graph.node].count("Scan") == 2


def test_what_tensorrt_does_not_know_is_found(tiny_run: TinyRun) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(tiny_run.float32_model))
    problems = find_unsupported(model)
    assert {"com.microsoft:Tokenizer", "ai.onnx.ml:LabelEncoder"} <= set(problems)
    assert any(problem.startswith("Gather") for problem in problems), "tables of bytes"


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_loop_carries_tensors_of_one_shape(tiny_run: TinyRun, precision: str) -> None:
    """TensorRT's condition for loops; and no output is collected round by round."""
    model = onnx.load(tiny_run.directory / "core" / f"{precision}.onnx")
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    before, after = body.input[2:], body.output[1:]
    assert len(before) == len(after) == len(loop.output)
    assert [value.type for value in before] == [value.type for value in after]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_shape_is_inferred(tiny_run: TinyRun, precision: str) -> None:
    """Every tensor has a type and a rank, and its extents are numbers or have names."""
    model = onnx.load(tiny_run.directory / "core" / f"{precision}.onnx")
    onnx.checker.check_model(model, full_check=True)
    values = values_of(model)
    for graph in graphs_of(model.graph):
        for node in graph.node:
            for name in filter(None, node.output):
                tensor = values[name].type.tensor_type
                assert tensor.elem_type and tensor.HasField("shape"), name
                for extent in tensor.shape.dim:
                    assert extent.HasField("dim_value") or extent.dim_param, (node.op_type, name)
    (letters,) = model.graph.input
    assert [extent.dim_param for extent in letters.type.tensor_type.shape.dim] == [
        "batch",
        "length",
    ]


def test_shapes_of_the_model_with_strings_can_be_inferred(tiny_run: TinyRun) -> None:
    """ONNX crashed on it, for it does not know what the Tokenizer gives."""
    model = onnx.shape_inference.infer_shapes(onnx.load(tiny_run.float32_model))
    known = {value.name for value in model.graph.value_info}
    assert {"letters", "chunk_ids", "all_gates"} <= known


# float16


def test_float16_is_in_the_graph(tiny_run: TinyRun) -> None:
    """Products in float16; norms, probabilities and what is carried along in float32."""
    model = onnx.load(tiny_run.float16_core)
    values = values_of(model)
    counts = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Cast" and kind_of(values[node.input[0]]) not in FLOATS
    }
    seen = set()
    for graph in graphs_of(model.graph):
        for node in graph.node:
            kinds = {kind_of(values[name]) for name in filter(None, node.input)} & FLOATS
            if node.op_type == "MatMul":
                is_count = not counts.isdisjoint(node.input)
                assert kinds == {TensorProto.FLOAT if is_count else TensorProto.FLOAT16}
            if node.op_type in ("LayerNormalization", "Softmax", "LogSoftmax", "TopK"):
                assert kinds == {TensorProto.FLOAT}
            seen.add(node.op_type)
    assert {"MatMul", "LayerNormalization", "Softmax", "LogSoftmax", "TopK"} <= seen
    state = values["state"].type.tensor_type
    assert state.elem_type == TensorProto.FLOAT
    assert tiny_run.float16_core.stat().st_size < tiny_run.core.stat().st_size


def test_float16_says_nearly_what_float32_says(tiny_run: TinyRun, dev_words: list[str]) -> None:
    phones, scores = run_core(tiny_run.core, dev_words)
    half_phones, half_scores = run_core(tiny_run.float16_core, dev_words)
    same = np.array([one == other for one, other in zip(phones, half_phones, strict=True)])
    assert same.mean() > 0.99
    np.testing.assert_allclose(scores[same], half_scores[same], atol=0.05)
    assert not np.array_equal(scores, half_scores)


def test_attention_is_one_operator_of_onnx_runtime_or_several_of_the_standard(
    tmp_path: Path,
) -> None:
    network = make_network()
    exported = export_parts(network)
    standard = in_standard_operators(exported)
    kinds = Counter(node.op_type for node in exported.preparation.graph.node)
    assert kinds["MultiHeadAttention"] == network.dimensions.encoder_layers
    assert {entry.domain for entry in standard.preparation.opset_import} == {""}
    feeds = {"letters": np.array([ALPHABETS.encode(word) for word in ("abide", "faced")])}
    said = []
    for number, parts in enumerate((exported, standard)):
        path = tmp_path / f"{number}.onnx"
        write_model(parts.preparation, path)
        said.append(open_session(path).run(None, feeds))
    one, several = said
    for left, right in zip(one, several, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_counts_stay_in_float32() -> None:
    """float16 holds no whole numbers above 2,048."""
    graph = onnx.parser.parse_graph("""
        counted (int64[length, 4] ids, float[4, 4] inside) => (float[length, 4] sums)
        {
            counts = Cast <to = 1> (ids)
            sums = MatMul (counts, inside)
        }
        """)
    part = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    halved = halve(Parts(part, part, 4)).preparation
    assert [node.op_type for node in halved.graph.node] == ["Cast", "MatMul"]


# What the ids mean


METADATA = ModelMetadata(("a", "b"), ("AE", "B"), Normalization(), "en", "arpabet")
CHUNKS = ((), ("AE",), ("B", "AE"))


def test_ids_and_strings() -> None:
    properties = {**METADATA.to_properties(), **chunks_to_properties(CHUNKS)}
    alphabets = CoreAlphabets.from_properties(properties, "core")
    assert alphabets == CoreAlphabets(METADATA, CHUNKS)
    np.testing.assert_array_equal(
        alphabets.encode(["AB", "b", "", "\u00e9b"]), [[1, 2], [2, 0], [0, 0], [2, 0]]
    )
    assert alphabets.encode(["a"], length=3).tolist() == [[1, 0, 0]]
    assert alphabets.encode([]).shape == (0, 1)
    assert alphabets.decode(np.array([[2, 3, 1, 0], [0, 0, 0, 0]])) == [("AE", "B", "AE"), ()]


def test_core_says_where_it_comes_from(tiny_run: TinyRun) -> None:
    expected = Pronouncer(tiny_run.float32_model, threads=1).metadata
    properties = open_session(tiny_run.core).get_modelmeta().custom_metadata_map
    assert CoreAlphabets.from_properties(properties, "core").metadata == expected
    assert set(sum(json.loads(properties[CHUNKS_PROPERTY]), [])) == set(expected.phones)


def test_one_is_not_taken_for_the_other(tiny_run: TinyRun) -> None:
    with pytest.raises(UserError, match="is a core network, which takes ids"):
        Pronouncer(tiny_run.core)
    properties = open_session(tiny_run.model).get_modelmeta().custom_metadata_map
    with pytest.raises(UserError, match="model.onnx takes strings"):
        CoreAlphabets.from_properties(properties, "model.onnx")


@pytest.mark.parametrize("chunks", ["", "[", "3", "[3]"])
def test_damaged_chunks(chunks: str) -> None:
    with pytest.raises(UserError, match="core is damaged"):
        CoreAlphabets.from_properties(
            {**METADATA.to_properties(), CHUNKS_PROPERTY: chunks}, "core"
        )


def test_file_needs_no_other(tiny_run: TinyRun, tmp_path: Path) -> None:
    moved = Path(shutil.copyfile(tiny_run.core, tmp_path / "moved.onnx"))
    phones, _ = run_core(moved, ["stone"])
    assert phones[0][0] == Pronouncer(tiny_run.float32_model).pronounce(["stone"])[0].phones
