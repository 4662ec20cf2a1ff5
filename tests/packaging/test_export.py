"""The model file says what PyTorch says, to every caller, or it is not written."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from onnx import numpy_helper

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.packaging.export import (
    check_parity,
    export_checkpoint,
    suitable_batch,
)
from grapheme_to_phoneme.packaging.onnx_export import assemble, export_parts, write_model
from grapheme_to_phoneme.training.alphabets import PADDING_ID, Alphabets
from grapheme_to_phoneme.training.lightning_module import PronunciationModule
from grapheme_to_phoneme.training.network import Network, NetworkDimensions
from grapheme_to_phoneme.training.scoring import score_answers
from tests.conftest import TinyRun

# The file alone, with ONNX Runtime and nothing of ours.
PLAIN_PROGRAM = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feeds = {"words": np.array(sys.argv[2:], dtype=object), "beam_size": np.array([1])}
for row in session.run(["pronunciations"], feeds)[0]:
    print(row[0])
assert not any(name.startswith(("grapheme", "torch")) for name in sys.modules)
"""


@pytest.fixture(scope="module")
def module(tiny_run: TinyRun) -> PronunciationModule:
    """The trained network, as it was exported."""
    return tiny_run.exported_module()


@pytest.fixture(scope="module")
def session(tiny_run: TinyRun) -> onnxruntime.InferenceSession:
    """Its model file in float32."""
    return open_session(tiny_run.float32_model)


@pytest.fixture(scope="module")
def quantized_session(tiny_run: TinyRun) -> onnxruntime.InferenceSession:
    """Its model file in 8-bit integers."""
    return open_session(tiny_run.int8_model)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def dev_words(tiny_run: TinyRun) -> list[str]:
    """Words that the network did not learn from, of mixed lengths."""
    return list(group_by_spelling(tiny_run.lexicon.dev))


def export_settings(**changes) -> DictConfig:
    settings = compose_config([]).export
    settings.parity_words = 60
    settings.parity_batch_sizes = [1, 16]
    settings.update(changes)
    return settings


def run(session: onnxruntime.InferenceSession, words: list[str], beam_size: int) -> list:
    return session.run(
        ["pronunciations", "log_probabilities", "chunks"],
        {"words": np.array(words, dtype=object), "beam_size": np.array([beam_size])},
    )


def search(module: PronunciationModule, words: list[str], beam_size: int) -> tuple:
    """Return what PyTorch says: texts of the hypotheses and their log-probabilities."""
    ids = [module.alphabets.encode(word) for word in words]
    length = max(map(len, ids))
    letters = torch.tensor([row + [PADDING_ID] * (length - len(row)) for row in ids])
    paths, scores = module.network.search(letters, beam_size)
    texts = [
        [" ".join(module.alphabets.phones_of(path)) for path in row] for row in paths.tolist()
    ]
    return texts, scores.numpy()


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("beam_size", [1, 2, 6])
def test_file_says_what_pytorch_says(
    module: PronunciationModule,
    session: onnxruntime.InferenceSession,
    dev_words: list[str],
    batch_size: int,
    beam_size: int,
) -> None:
    longer = ["".join(dev_words[i : i + 4]) for i in range(0, 8, 4)]
    words = [*dev_words[:62], *longer]
    for start in range(0, len(words), batch_size):
        batch = words[start : start + batch_size]
        expected_texts, expected_scores = search(module, batch, beam_size)
        texts, scores, _ = run(session, batch, beam_size)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-3)
        # Hypotheses that are as good as each other may change places.
        for row in range(len(batch)):
            gaps = np.abs(np.diff(expected_scores[row]))
            if beam_size == 1 or gaps.min() > 1e-3:
                assert texts[row].tolist() == expected_texts[row]


def test_batch_around_a_word_does_not_matter(
    session: onnxruntime.InferenceSession, dev_words: list[str]
) -> None:
    longest, word = max(dev_words, key=len) * 3, "stone"
    alone_texts, alone_scores, _ = run(session, [word], 4)
    batches = ([word] * 3, [longest, word], ["a", word, longest], [word, *dev_words[:100]])
    for batch in batches:
        row = batch.index(word)
        texts, scores, _ = run(session, batch, 4)
        assert texts[row].tolist() == alone_texts[0].tolist()
        np.testing.assert_allclose(scores[row], alone_scores[0], atol=1e-4)


def test_batch_around_a_word_does_not_matter_in_int8(
    quantized_session: onnxruntime.InferenceSession, dev_words: list[str]
) -> None:
    """Ranges measured anew for every batch would let its longest numbers decide."""
    words = sorted(dev_words, key=len)
    alone = {word: run(quantized_session, [word], 2) for word in words[::7]}
    for batch in (words, words[::-1], words[::7]):
        texts, scores, _ = run(quantized_session, batch, 2)
        for row, word in enumerate(batch):
            if word in alone:
                expected_texts, expected_scores, _ = alone[word]
                assert texts[row].tolist() == expected_texts[0].tolist()
                np.testing.assert_allclose(scores[row], expected_scores[0], atol=1e-4)


def test_variants(
    tiny_run: TinyRun, session: onnxruntime.InferenceSession, dev_words: list[str]
) -> None:
    """The smallest one that is offered is the model file; all know what they are."""
    variants = {path.stem: path for path in (tiny_run.directory / "variants").iterdir()}
    sizes = {name: path.stat().st_size for name, path in variants.items()}
    assert sizes["int8"] < sizes["float32"]
    assert tiny_run.model.read_bytes() == variants["int8"].read_bytes()
    errors = {}
    for name, path in variants.items():
        pronouncer = Pronouncer(path, threads=1)
        assert pronouncer.metadata.precision == name
        errors[name] = pronouncer.metadata.scores["dev_wer"]
        answers = pronouncer.pronounce(dev_words)
        references = group_by_spelling(tiny_run.lexicon.dev)
        assert score_answers(answers, references).wer == pytest.approx(errors[name], abs=1e-3)
    assert errors["int8"] <= errors["float32"] + 3.0
    expected, _, _ = run(session, dev_words, 1)
    said = Pronouncer(variants["int8"], threads=1).pronounce(dev_words)
    same = [" ".join(answer.phones) == text for answer, text in zip(said, expected[:, 0])]
    assert np.mean(same) > 0.95
    table = tiny_run.completed.stderr.decode()
    assert "variants of the model:" in table and "words/s" in table


@pytest.mark.parametrize(
    ("group", "letters"), [("fast", 2048), ("main", 1024), ("small", 1024), ("together", 1024)]
)
def test_narrow_networks_are_given_more_words_at_once(group: str, letters: int) -> None:
    settings = OmegaConf.to_container(compose_config([f"model={group}"]).model)
    dimensions = NetworkDimensions.from_dict({**settings, "letters": 30, "chunks": 170})
    assert suitable_batch(dimensions) == letters


def test_int8_multiplies_integers(tiny_run: TinyRun) -> None:
    """All products with weights, in the encoder and in the search."""
    graph = onnx.load(tiny_run.int8_model).graph
    (choice,) = (node for node in graph.node if "chunk_ids" in node.output)
    searches = [
        onnx.helper.get_node_attr_value(node, "body")
        for branch in choice.attribute
        for node in branch.g.node
        if "last_state" in node.output
    ]
    assert {search.name for search in searches} == {"greedy_step", "search_step"}
    for nodes in (graph.node, *(search.node for search in searches)):
        products = [node.op_type for node in nodes if "MatMul" in node.op_type]
        assert products.count("MatMulIntegerToFloat") >= 2
        made_by = {name: node.op_type for node in nodes for name in node.output}
        constant = {
            tensor.name
            for tensor in graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT
        }
        for node in nodes:
            assert node.op_type not in ("Gemm", "DequantizeLinear")
            # What is counted is no number to round.
            is_count = any(made_by.get(name) == "Cast" for name in node.input)
            is_product = node.op_type == "MatMul" and not constant.isdisjoint(node.input)
            assert is_count or not is_product, node.name
            if node.op_type == "MatMulIntegerToFloat" and "layer_norm" in node.input[0]:
                assert made_by[node.input[0]] == "QuantizeLinear"


def test_variant_that_loses_too_much_is_not_offered(
    tiny_run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "model.onnx"
    config = compose_config(
        ["export.parity_words=30", "export.tolerated_loss=-100", "export.equalization=[0.8,0.6]"]
    )
    references = group_by_spelling(tiny_run.lexicon.dev[:50])
    with caplog.at_level("INFO"):
        export_checkpoint(tiny_run.checkpoint, target, references, config)
    assert sum("with export.equalization 0.8: trying 0.6" in line for line in caplog.messages) == 1
    assert Pronouncer(target).metadata.precision == "float32"
    assert [path.name for path in (tmp_path / "variants").iterdir()] == ["float32.onnx"]


def test_chunks_are_the_pronunciation_letter_by_letter(
    session: onnxruntime.InferenceSession, dev_words: list[str]
) -> None:
    words = ["fox", *dev_words[:50]]
    texts, _, chunks = run(session, words, 3)
    assert chunks.shape == (len(words), 3, max(map(len, words)))
    for row, word in enumerate(words):
        for text, spoken in zip(texts[row], chunks[row], strict=True):
            assert " ".join(filter(None, spoken)) == text
            assert not any(spoken[len(word) :])


def test_letters_that_the_model_does_not_know_are_passed_over(
    session: onnxruntime.InferenceSession,
) -> None:
    texts, scores, _ = run(session, ["stone", "sto😀ne", "€"], 1)
    assert texts[2, 0] == "" and scores[2, 0] == 0.0
    assert texts[1, 0].split()[0] == texts[0, 0].split()[0] == "S"


def test_empty_strings(session: onnxruntime.InferenceSession) -> None:
    texts, _, _ = run(session, ["", "stone"], 1)
    assert texts[0, 0] == "" and texts[1, 0]


def test_file_is_valid_onnx(tiny_run: TinyRun) -> None:
    model = onnx.load(tiny_run.model)
    onnx.checker.check_model(model, full_check=False)
    assert model.producer_name == "grapheme-to-phoneme"
    assert [value.name for value in model.graph.input] == ["words", "beam_size"]
    assert [value.name for value in model.graph.output] == [
        "pronunciations",
        "log_probabilities",
        "chunks",
    ]
    shape = model.graph.input[0].type.tensor_type.shape
    assert [dimension.dim_param for dimension in shape.dim] == ["batch"]
    # One file: no weights beside it.
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_file_needs_nothing_of_ours(tiny_run: TinyRun, tmp_path: Path) -> None:
    model = tmp_path / "moved.onnx"
    shutil.copyfile(tiny_run.model, model)
    words = ["stone", "kitten", "o'neil"]
    plain = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_PROGRAM, model, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected, _, _ = run(onnxruntime.InferenceSession(tiny_run.model), words, 1)
    assert plain.stdout.splitlines() == expected[:, 0].tolist()
    assert all(plain.stdout.splitlines())


def test_parity_holds(
    module: PronunciationModule, tiny_run: TinyRun, dev_words: list[str], caplog
) -> None:
    caplog.set_level("INFO")
    settings = export_settings()
    check_parity(module.network, module.alphabets, tiny_run.float32_model, dev_words, settings)
    assert "parity with PyTorch holds on 60 words, batches of 1/16, beams of 1/4" in caplog.text


def test_parity_was_checked_on_a_thousand_words(tiny_run: TinyRun) -> None:
    said = tiny_run.completed.stderr.decode()
    assert "parity with PyTorch holds on 1000 words, batches of 1/7/64/512" in said


def nudge_gates(model: onnx.ModelProto) -> None:
    """Open the gates of the recurrence a little more, in the file alone."""
    (tensor,) = (
        tensor for tensor in model.graph.initializer if tensor.name.endswith("gates.bias")
    )
    values = numpy_helper.to_array(tensor).copy()
    values += 0.1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def forget_spaces(model: onnx.ModelProto) -> None:
    """Say the phones without spaces between them."""
    (node,) = (node for node in model.graph.node if list(node.output) == ["pieces"])
    for attribute in node.attribute:
        if attribute.name == "values_strings":
            attribute.strings[:] = [text.strip() for text in attribute.strings]


def swap_letters(model: onnx.ModelProto) -> None:
    """Take the first two letters of the alphabet for one another."""
    (node,) = (node for node in model.graph.node if list(node.output) == ["letters"])
    for attribute in node.attribute:
        if attribute.name == "values_int64s":
            attribute.ints[:] = [attribute.ints[i] for i in (1, 0, *range(2, len(attribute.ints)))]


@pytest.mark.parametrize("damage", [nudge_gates, forget_spaces, swap_letters])
def test_parity_finds_a_damaged_file(
    module: PronunciationModule,
    tiny_run: TinyRun,
    dev_words: list[str],
    tmp_path: Path,
    damage: Callable[[onnx.ModelProto], None],
) -> None:
    model = onnx.load(tiny_run.float32_model)
    damage(model)
    path = tmp_path / "damaged.onnx"
    onnx.save_model(model, path)
    # The letters that are swapped are rare ones.
    settings = export_settings(parity_words=1000, parity_batch_sizes=[256])
    with pytest.raises(UserError, match="the exported model differs from PyTorch on '"):
        check_parity(module.network, module.alphabets, path, dev_words, settings)


def test_parity_finds_a_wrong_network(
    module: PronunciationModule, tiny_run: TinyRun, dev_words: list[str]
) -> None:
    network = copy.deepcopy(module.network)
    with torch.no_grad():
        network.decoder.gates.bias += 0.5
    with pytest.raises(UserError, match="the exported model differs from PyTorch on '"):
        check_parity(
            network, module.alphabets, tiny_run.float32_model, dev_words, export_settings()
        )


def test_file_that_fails_is_not_written(tiny_run: TinyRun, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the model of yesterday")
    config = compose_config(["export.parity_words=30", "export.tolerance=-1"])
    references = group_by_spelling(tiny_run.lexicon.dev[:50])
    with pytest.raises(UserError, match="differs from PyTorch"):
        export_checkpoint(tiny_run.checkpoint, target, references, config)
    assert target.read_bytes() == b"the model of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("windows", [[], [[0, 0], [-2, 2]]], ids=["plain", "memory"])
def test_alphabets_of_any_script(tmp_path: Path, windows: list) -> None:
    """Letters beyond the basic plane, combining marks, joiners; long chunks; IPA."""
    chunks = (("ˈa",), (), ("tʃ", "k", "s", "ə"), ("ʁ̃",))
    alphabets = Alphabets(("'", "é", "\u0301", "क", "\u200d", "𐐀", "😀"), chunks)
    values = {
        "letters": len(alphabets.letters) + 1,
        "chunks": len(alphabets.chunks) + 1,
        "encoder_size": 8,
        "encoder_layers": 1,
        "kernel_size": 3,
        "expansion": 1,
        "attention_heads": 2,
        "attention_reach": 3,
        "memory_windows": windows,
        "memory_slots": 64,
        "memory_size": 4,
        "history_size": 4,
        "decoder_size": 8,
        "output_size": 8,
        "dropout": 0.1,
        "memory_dropout": 0.1,
        "history_dropout": 0.1,
    }
    torch.manual_seed(1)
    network = Network(NetworkDimensions.from_dict(values)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    metadata = ModelMetadata(
        alphabets.letters, tuple(alphabets.phones), Normalization(), "und", "ipa"
    )
    path = tmp_path / "model.onnx"
    write_model(assemble(export_parts(network), alphabets, metadata), path)
    words = ["é", "'", "e\u0301", "क\u200dक", "𐐀😀𐐀é", "😀" * 40]
    check_parity(network, alphabets, path, words, export_settings(parity_batch_sizes=[1, 3]))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
