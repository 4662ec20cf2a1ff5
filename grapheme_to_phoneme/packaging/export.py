"""From a checkpoint to a checked model file."""

import filecmp
import logging
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from omegaconf import DictConfig
from torch import Tensor

from grapheme_to_phoneme.constants import (
    CORE_DIRECTORY,
    DISTRIBUTION_NAME,
    GRAPHEME_TO_PHONEME,
    VARIANTS_DIRECTORY,
)
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import (
    USUAL_LETTERS_PER_BATCH,
    ModelLanguage,
    ModelMetadata,
)
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.packaging.core_export import assemble_core, check_core
from grapheme_to_phoneme.packaging.engine_description import PLAN_SUFFIX, description_path
from grapheme_to_phoneme.packaging.equalization import equalize
from grapheme_to_phoneme.packaging.half_precision import halve
from grapheme_to_phoneme.packaging.onnx_export import (
    Parts,
    assemble,
    export_parts,
    open_session,
    write_model,
)
from grapheme_to_phoneme.packaging.quantization import letter_batches, quantize
from grapheme_to_phoneme.packaging.standard_operators import in_standard_operators
from grapheme_to_phoneme.training.alphabets import PADDING_ID, Alphabets
from grapheme_to_phoneme.training.calibration import fit_calibration, fit_member_weights
from grapheme_to_phoneme.training.lightning_module import PronunciationModule, load_checkpoint
from grapheme_to_phoneme.training.metrics import References, Score, measure_reliability
from grapheme_to_phoneme.training.network import Network, NetworkDimensions
from grapheme_to_phoneme.training.scoring import by_language, score_answers

LOGGER = logging.getLogger(__name__)

#: Numbers that a layer may give for a batch: about what a core's own cache holds of them.
NEAR_NUMBERS = 2**20
#: More letters, for networks of narrow layers: each operation's start is shared by more of them.
MOST_LETTERS_PER_BATCH = 2 * USUAL_LETTERS_PER_BATCH

FLOAT32 = "float32"
INT8 = "int8"
FLOAT16 = "float16"


@dataclass(frozen=True)
class Variant:
    """A model file and what was measured with it on the dev part.

    Attributes:
        name: what its arithmetic is done in.
        path: the file.
        megabytes: its size.
        score: its errors.
        metadata: what the file says of itself.
        words_per_second: with all cores.
        latency: median seconds of a single word.
    """

    name: str
    path: Path
    megabytes: float
    score: Score
    metadata: ModelMetadata
    words_per_second: float
    latency: float


def export_checkpoint(
    checkpoint: Path, target: Path, references: References, config: DictConfig
) -> Score:
    """Write the model files of a checkpoint, once they are proven.

    The float32 variant must say what PyTorch says. The others, in ``variants/`` beside
    ``target`` as it is, may lose up to ``config.export.tolerated_loss`` points of WER against
    it. The smallest of those for processors becomes ``target``: float16 is for GPUs, and on a
    processor slower than float32. In ``core/`` go the networks of the float32 and the float16
    variant without strings, each once it says what its variant says.

    Args:
        checkpoint: a checkpoint that training wrote.
        target: the ONNX file to write; it is replaced only when all has passed.
        references: real words to check on, with their pronunciations: the dev part.
        config: the groups ``export`` and ``infer`` are used.

    Returns:
        The target's score on ``references``, which its metadata holds too.

    Raises:
        UserError: if the checkpoint cannot be read or the parity check fails.
    """
    module = load_checkpoint(checkpoint)
    spellings = _known_spellings(references, module.alphabets)
    _calibrate(module, spellings, references, config)
    sample = _sample(spellings, config.export.calibration_words, config.export)
    batches = letter_batches(module.alphabets, sample)
    network = equalize(module.network, batches, config.export.equalization[0])
    parts = export_parts(network)
    folder = target.with_name(VARIANTS_DIRECTORY)
    with TemporaryDirectory(dir=_existing(target.parent), prefix=".export-") as unchecked:
        exact = _write_variant(FLOAT32, parts, module, Path(unchecked), references, config)
        check_parity(module.network, module.alphabets, exact.path, spellings, config.export)
        quantized = quantize(parts, network, batches)
        small = _write_variant(INT8, quantized, module, Path(unchecked), references, config)
        small = _round_anew(small, exact, module, batches, references, config)
        standard = in_standard_operators(parts)
        halved = halve(standard)
        half = _write_variant(FLOAT16, halved, module, Path(unchecked), references, config)
        offered = _offer([exact, small, half], config.export.tolerated_loss)
        cores = _write_cores(
            [(exact, standard), (half, halved)],
            offered,
            module,
            Path(unchecked),
            spellings,
            config,
        )
        _replace_folder(folder, [variant.path for variant in offered])
        core_folder = target.with_name(CORE_DIRECTORY)
        engines = [
            path.replace(Path(unchecked, CORE_DIRECTORY, path.name))
            for path in _valid_engines(core_folder, cores)
        ]
        _replace_folder(core_folder, [*cores, *engines])
    chosen = choose_default(offered)
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(folder / chosen.path.name, partial)
    partial.replace(target)
    LOGGER.info("wrote %s: the %s variant, %.1f MB", target, chosen.name, chosen.megabytes)
    return chosen.score


def choose_default(offered: Sequence[Variant]) -> Variant:
    """Return the variant that is used where nobody asks for another: the smallest.

    float16 never is: a processor computes in it by converting there and back.
    """
    for_processors = [variant for variant in offered if variant.name != FLOAT16]
    return min(for_processors, key=lambda variant: variant.megabytes)


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _replace_folder(folder: Path, files: Sequence[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in files:
        path.replace(folder / path.name)


def _valid_engines(folder: Path, cores: Sequence[Path]) -> list[Path]:
    """Return the TensorRT engines of a folder, and their descriptions, that stay valid.

    Args:
        folder: the engines' folder, with the networks that they were built from.
        cores: the networks that will be there.
    """
    new = {path.name: path for path in cores}
    valid: list[Path] = []
    for engine in sorted(folder.glob(f"*{PLAN_SUFFIX}")):
        core = engine.with_suffix(".onnx")
        is_same = (
            core.is_file()
            and core.name in new
            and filecmp.cmp(core, new[core.name], shallow=False)
        )
        if is_same:
            valid += filter(Path.is_file, (engine, description_path(engine)))
        else:
            LOGGER.warning(
                "%s is removed, since its network is another now: build it again with "
                "`g2p export-tensorrt`",
                engine,
            )
    return valid


def _write_cores(
    candidates: Sequence[tuple[Variant, Parts]],
    offered: Sequence[Variant],
    module: PronunciationModule,
    folder: Path,
    spellings: Sequence[str],
    config: DictConfig,
) -> list[Path]:
    """Write and check the networks without strings of those variants that are offered."""
    paths = []
    for variant, parts in candidates:
        if variant in offered:
            path = folder / CORE_DIRECTORY / variant.path.name
            beam_size = config.export.core_beam_size
            core = assemble_core(parts, module.alphabets, variant.metadata, beam_size)
            write_model(core, path)
            words = _sample(spellings, config.export.parity_words, config.export)
            check_core(path, variant.path, words, config.export)
            paths.append(path)
    return paths


def _calibrate(
    module: PronunciationModule,
    spellings: Sequence[str],
    references: References,
    config: DictConfig,
) -> None:
    """Make the network's members count as they should, and its probabilities true."""
    settings = config.export
    found: dict[str, str | float] = {}
    if module.network.is_joint:
        known = {word: references[word] for word in spellings}
        weights = fit_member_weights(
            module.network,
            module.alphabets,
            known,
            settings.member_weight_parts,
            settings.member_weight_caution,
        )
        module.network.decoder.member_weights = weights
        found["member_weights"] = " ".join(f"{weight:.2f}" for weight in weights)
        LOGGER.info("weights of the networks that answer together: %s", found["member_weights"])
    words = _sample(spellings, settings.temperature_words, settings)
    smoothed = config.optimizer.label_smoothing
    temperature, smoothing = fit_calibration(
        module.network,
        module.alphabets,
        {word: references[word] for word in words},
        np.geomspace(*settings.temperature_range, settings.temperature_steps).round(3).tolist(),
        [0.0, smoothed] if smoothed and settings.undo_smoothing else [0.0],
    )
    module.network.calibrate(temperature, smoothing)
    found.update(temperature=temperature, smoothing=smoothing)
    module.facts["training"] = {**module.facts["training"], **found}


def _scores(score: Score) -> dict[str, float]:
    ece = measure_reliability(score.confidences).ece
    return {
        "dev_wer": round(score.wer, 3),
        "dev_per": round(score.per, 3),
        "dev_ece": round(ece, 3),
    }


def _write_variant(
    name: str,
    parts: Parts,
    module: PronunciationModule,
    folder: Path,
    references: References,
    config: DictConfig,
) -> Variant:
    """Write a model file, measure it, and write it again with its scores inside."""
    metadata = _metadata(module, name)
    model = assemble(parts, module.alphabets, metadata)
    path = folder / f"{name}.onnx"
    write_model(model, path)
    pronouncer = Pronouncer(path, threads=config.infer.threads)
    started = time.perf_counter()
    answers = pronouncer.pronounce(references)
    seconds = time.perf_counter() - started
    latency = _latency(pronouncer, list(references)[: config.export.latency_words])
    score = score_answers(answers, references)
    languages = tuple(
        replace(language, scores=_scores(score_answers(own, references)))
        for language, own in by_language(answers, metadata)
    )
    scored = replace(metadata, scores=_scores(score), languages=languages)
    onnx.helper.set_model_props(model, scored.to_properties())
    write_model(model, path)
    megabytes = path.stat().st_size / 1e6
    return Variant(name, path, megabytes, score, scored, len(references) / seconds, latency)


def _round_anew(
    small: Variant,
    exact: Variant,
    module: PronunciationModule,
    batches: Sequence[Tensor],
    references: References,
    config: DictConfig,
) -> Variant:
    """Return the 8-bit variant, rounded otherwise for as long as it loses too much.

    Rounding changes the answers to a few words; with activations evened out by another
    strength, those to other words.
    """
    for before, strength in pairwise(config.export.equalization):
        if small.score.loses_at_most(config.export.tolerated_loss, exact.score):
            break
        LOGGER.info(
            "int8 loses %.2f points with export.equalization %s: trying %s",
            small.score.wer - exact.score.wer,
            before,
            strength,
        )
        network = equalize(module.network, batches, strength)
        quantized = quantize(export_parts(network), network, batches)
        small = _write_variant(INT8, quantized, module, small.path.parent, references, config)
    return small


def _latency(pronouncer: Pronouncer, words: Sequence[str]) -> float:
    seconds = []
    for word in words:
        started = time.perf_counter()
        pronouncer.pronounce([word])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _offer(variants: Sequence[Variant], tolerated_loss: float) -> list[Variant]:
    """Log all variants as a table, and return those that are as good as the first, or nearly."""
    lines = [
        f"{'':<9}{'MB':>7}{'dev WER %':>11}{'dev PER %':>11}{'words/s':>10}{'one word, ms':>14}"
    ]
    offered = []
    for variant in variants:
        score, exact = variant.score, variants[0].score
        is_offered = variant is variants[0] or score.loses_at_most(tolerated_loss, exact)
        if is_offered:
            offered.append(variant)
        lines.append(
            f"{variant.name:<9}{variant.megabytes:7.1f}{score.wer:11.2f}{score.per:11.2f}"
            f"{variant.words_per_second:10,.0f}{1e3 * variant.latency:14.2f}"
            + ("" if is_offered else f"  not offered: loses {score.wer - exact.wer:.2f} points")
        )
    LOGGER.info("variants of the model:\n%s", "\n".join(lines))
    return offered


def suitable_batch(dimensions: NetworkDimensions) -> int:
    """Return how many letters at once a network is fast with on a processor."""
    letters = NEAR_NUMBERS // dimensions.widest
    return min(max(letters, USUAL_LETTERS_PER_BATCH), MOST_LETTERS_PER_BATCH)


def _metadata(module: PronunciationModule, precision: str) -> ModelMetadata:
    facts = module.facts
    return ModelMetadata(
        letters=module.alphabets.letters,
        phones=tuple(module.alphabets.phones),
        normalization=Normalization.from_dict(facts["normalization"]),
        language=facts["language"],
        notation=facts["notation"],
        split_sha256=facts["split_sha256"],
        git_commit=facts["git_commit"],
        git_dirty=facts["git_dirty"],
        package_version=version(DISTRIBUTION_NAME),
        training=facts["training"],
        precision=precision,
        languages=tuple(map(ModelLanguage.from_dict, facts.get("languages", ()))),
        direction=facts.get("direction", GRAPHEME_TO_PHONEME),
        letters_per_batch=suitable_batch(module.network.dimensions),
    )


def check_parity(
    network: Network,
    alphabets: Alphabets,
    model: Path,
    spellings: Sequence[str],
    config: DictConfig,
) -> None:
    """Compare the model file with PyTorch on real words.

    Every batch size of the configuration is tried with every beam size, on words of mixed
    lengths. The best pronunciations must be the same, and their log probabilities equal within
    ``config.tolerance``.

    Args:
        network: the PyTorch network.
        alphabets: its alphabets.
        model: the ONNX file.
        spellings: normalised spellings; ``config.parity_words`` of them are used.
        config: the group ``export``.

    Raises:
        UserError: naming the first word that differs.
    """
    session = open_session(model)
    words = _sample(_known_spellings(spellings, alphabets), config.parity_words, config)
    worst = 0.0
    for beam_size in config.parity_beam_sizes:
        # Once, since a word's answer does not depend on the words beside it.
        expected = _search(network, alphabets, words, beam_size, max(config.parity_batch_sizes))
        for batch_size in config.parity_batch_sizes:
            for start in range(0, len(words), batch_size):
                part = slice(start, start + batch_size)
                difference = _compare(expected[part], session, words[part], beam_size, config)
                worst = max(worst, difference)
    LOGGER.info(
        "parity with PyTorch holds on %d words, batches of %s, beams of %s: "
        "log probabilities differ by at most %.1e",
        len(words),
        "/".join(map(str, config.parity_batch_sizes)),
        "/".join(map(str, config.parity_beam_sizes)),
        worst,
    )


def _known_spellings(spellings: Iterable[str], alphabets: Alphabets) -> list[str]:
    """Return the spellings of which the model knows every letter."""
    known = [
        spelling
        for spelling in spellings
        if spelling and len(alphabets.encode(spelling)) == len(spelling)
    ]
    if not known:
        raise UserError("no dev word has only letters that the training words have")
    return known


def _sample(spellings: Sequence[str], size: int, config: DictConfig) -> list[str]:
    return random.Random(config.seed).sample(spellings, min(size, len(spellings)))


def _search(
    network: Network,
    alphabets: Alphabets,
    words: Sequence[str],
    beam_size: int,
    batch_size: int,
) -> list[tuple[str, float]]:
    """Return what PyTorch says of every word: the phones and their log probability."""
    expected = []
    for start in range(0, len(words), batch_size):
        ids = [alphabets.encode(word) for word in words[start : start + batch_size]]
        length = max(map(len, ids))
        letters = torch.tensor([row + [PADDING_ID] * (length - len(row)) for row in ids])
        paths, scores = network.search(letters, beam_size)
        for path, score in zip(paths[:, 0].tolist(), scores[:, 0].tolist(), strict=True):
            expected.append((" ".join(alphabets.phones_of(path)), score))
    return expected


def _compare(
    expected: Sequence[tuple[str, float]],
    session: onnxruntime.InferenceSession,
    words: Sequence[str],
    beam_size: int,
    config: DictConfig,
) -> float:
    texts, scores = session.run(
        ["pronunciations", "log_probabilities"],
        {
            "words": np.array(words, dtype=object),
            "beam_size": np.array([beam_size], dtype=np.int64),
        },
    )
    differences = np.abs(scores[:, 0] - [score for _, score in expected])
    for row, (word, (phones, score)) in enumerate(zip(words, expected, strict=True)):
        # Two pronunciations as good as each other may change places through rounding.
        is_tie = beam_size > 1 and np.ptp(scores[row, :2]) <= config.tolerance
        if differences[row] > config.tolerance or (texts[row, 0] != phones and not is_tie):
            raise UserError(
                f"the exported model differs from PyTorch on '{word}': "
                f"'{texts[row, 0]}' instead of '{phones}', log probability "
                f"{scores[row, 0]:.5f} instead of {score:.5f}"
            )
    return float(differences.max())
