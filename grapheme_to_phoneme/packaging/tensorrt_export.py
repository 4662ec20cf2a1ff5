"""From the core network's ONNX file to a TensorRT engine that is checked on real words.

For TensorRT 10.12 and later and 11. Precision is in the network, as both want it: the network is
built strongly typed, without the builder's own choice of precisions, which 11 no longer has.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from grapheme_to_phoneme.constants import CORE_DIRECTORY
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import (
    CHUNK_IDS,
    LETTERS,
    LOG_PROBABILITIES,
    CoreAlphabets,
    Profile,
)
from grapheme_to_phoneme.lexicon.files import sha256_of
from grapheme_to_phoneme.lexicon.preprocessing import ensure_sample
from grapheme_to_phoneme.packaging.engine_description import (
    PLAN_SUFFIX,
    EngineDescription,
    description_path,
)
from grapheme_to_phoneme.packaging.onnx_export import open_session
from grapheme_to_phoneme.packaging.tensorrt_engine import Engine, require_tensorrt

LOGGER = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"

#: Something that computes chunk ids and log probabilities of letter ids.
Runner = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.float32]]]


def export_engine(core: Path, config: DictConfig) -> Path:
    """Build an engine, or take one that trtexec built, check it, and describe it.

    Args:
        core: the core network.
        config: the groups ``tensorrt``, ``preprocessing``, ``data`` and ``storage`` are used.

    Returns:
        The engine; its description lies beside it.

    Raises:
        MissingDependencyError: if TensorRT or a GPU is missing; nothing is written then.
        UserError: if there is no core network or no sample, or the check fails.
    """
    settings = config.tensorrt
    tensorrt = require_tensorrt()
    alphabets = _read_alphabets(core)
    words = read_sample(config)
    if settings.engine is not None:
        plan = _read(Path(settings.engine))
    else:
        plan = build_plan(
            tensorrt, core, choose_profile(words, alphabets, config), Path(settings.timing_cache)
        )
    engine = Engine(plan, tensorrt)
    agreement, difference = compare(engine.run, core, words, engine.profile, config)
    target = target_of(core, config)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    partial.write_bytes(plan)
    description = EngineDescription(
        plan_sha256=sha256_of(partial),
        core_sha256=sha256_of(core),
        tensorrt_version=tensorrt.__version__,
        gpu=torch.cuda.get_device_name(),
        profile=engine.profile,
        beam_size=engine.beam_size,
        agreement=round(agreement, 4),
        worst_difference=round(difference, 5),
        properties=properties_of(core),
    )
    description.write(target)
    partial.replace(target)
    LOGGER.info(
        "wrote %s, %.1f MB, for TensorRT %s on %s alone; described in %s",
        target,
        target.stat().st_size / 1e6,
        description.tensorrt_version,
        description.gpu,
        description_path(target).name,
    )
    return target


def trtexec_arguments(core: Path, config: DictConfig) -> list[str]:
    """Return the arguments with which ``trtexec`` builds the same engine.

    All are known to TensorRT 10.12 and later and to 11. The engine comes to lie where the
    target will, with :data:`PARTIAL_SUFFIX` added, to be checked.

    Raises:
        UserError: if there is no core network or no sample.
    """
    profile = choose_profile(read_sample(config), _read_alphabets(core), config)
    target = target_of(core, config)
    shapes = {
        "min": profile.smallest,
        "opt": profile.typical,
        "max": profile.largest,
    }
    return [
        f"--onnx={core}",
        f"--saveEngine={target.with_name(target.name + PARTIAL_SUFFIX)}",
        *(f"--{name}Shapes={LETTERS}:{rows}x{length}" for name, (rows, length) in shapes.items()),
        f"--timingCacheFile={config.tensorrt.timing_cache}",
        "--stronglyTyped",
        "--skipInference",
    ]


def core_of(run_directory: Path, config: DictConfig) -> Path:
    """Return the core network of a run, in the configured precision.

    Raises:
        UserError: if the run has none.
    """
    core = run_directory / CORE_DIRECTORY / f"{config.tensorrt.precision}.onnx"
    if not core.is_file():
        raise UserError(
            f"there is no core network {core}: `g2p export --run {run_directory}` writes those "
            "that are good enough, or say tensorrt.precision=float32"
        )
    return core


def target_of(core: Path, config: DictConfig) -> Path:
    """Return where the engine of a core network goes."""
    given = config.tensorrt.target
    return Path(given) if given is not None else core.with_suffix(PLAN_SUFFIX)


def properties_of(core: Path) -> dict[str, str]:
    """Return the metadata properties of a core network.

    Raises:
        UserError: if it is missing or no ONNX file.
    """
    if not core.is_file():
        raise UserError(f"there is no core network {core}: `g2p export` writes them into core/")
    try:
        return dict(open_session(core).get_modelmeta().custom_metadata_map)
    # ONNX Runtime's exceptions for an unreadable file share no base class but this.
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{core} is no ONNX model that can be loaded: {reason}") from error


def read_sample(config: DictConfig) -> list[str]:
    """Return the real words to choose shapes by and to check with, fetched where missing.

    Raises:
        UserError: if there are none, or the configured data has no sample.
    """
    given = config.tensorrt.sample
    if given is None and config.data.source != "download":
        raise UserError(
            f"data={config.data.name} has no sample: say tensorrt.sample=FILE, a word a line"
        )
    path = ensure_sample(config) if given is None else Path(given)
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the sample {path}: {error}") from error
    if not words:
        raise UserError(f"the sample {path} has no words")
    return words


def choose_profile(words: Sequence[str], alphabets: CoreAlphabets, config: DictConfig) -> Profile:
    """Choose the shapes that an engine is made for by the lengths of real words.

    Args:
        words: the sample.
        alphabets: the model's.
        config: the group ``tensorrt`` is used.

    Raises:
        UserError: if ``batch_sizes`` are no three numbers of words, fewest first.
    """
    settings = config.tensorrt
    lengths = np.count_nonzero(alphabets.encode(words), axis=1)
    sizes = list(settings.batch_sizes)
    are_counts = len(sizes) == 3 and all(type(size) is int and size >= 1 for size in sizes)
    if not are_counts or sizes != sorted(sizes):
        raise UserError(
            "tensorrt.batch_sizes takes three whole numbers of at least 1, fewest first, "
            f"not {sizes}"
        )
    fewest, typical, most = sizes
    quantile = np.quantile(lengths, settings.typical_length_quantile, method="higher")
    longest = max(settings.longest_word, int(lengths.max()))
    return Profile((fewest, 1), (typical, max(1, int(quantile))), (most, longest))


def build_plan(
    tensorrt: ModuleType, core: Path, profile: Profile, timing_cache: Path | None
) -> bytes:
    """Build an engine.

    Args:
        tensorrt: the module, or ``tensorrt_rtx``, which has the same interface.
        core: the core network.
        profile: the shapes to build for.
        timing_cache: what was timed before, read where it is there, and written; None for a
            module without.

    Raises:
        UserError: if TensorRT cannot build one; it prints messages of its own.
    """
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    # TensorRT 11 knows nothing else, and ignores it.
    flags = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = tensorrt.OnnxParser(network, tensorrt.Logger(tensorrt.Logger.ERROR))
    if not parser.parse(core.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise UserError(f"TensorRT cannot read {core}: {reasons}")
    settings = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    shapes.set_shape(LETTERS, profile.smallest, profile.typical, profile.largest)
    settings.add_optimization_profile(shapes)
    if timing_cache is not None:
        known = timing_cache.read_bytes() if timing_cache.is_file() else b""
        settings.set_timing_cache(settings.create_timing_cache(known), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, settings)
    if plan is None:
        raise UserError(f"TensorRT cannot build an engine of {core}: it says above why")
    if timing_cache is not None:
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        timing_cache.write_bytes(bytes(settings.get_timing_cache().serialize()))
    return bytes(plan)


def compare(
    run: Runner, core: Path, words: Sequence[str], profile: Profile, config: DictConfig
) -> tuple[float, float]:
    """Compare what runs the core network with ONNX Runtime, on real words of mixed lengths.

    Args:
        run: runs the network.
        core: its file.
        words: the sample.
        profile: the shapes that ``run`` takes.
        config: the group ``tensorrt`` is used.

    Returns:
        The share of words whose best phones are the same, and the largest difference of their
        log probabilities.

    Raises:
        UserError: if too few are the same, or a log probability differs too much.
    """
    settings = config.tensorrt
    session = open_session(core)
    alphabets = _read_alphabets(core)
    rows = profile.typical[0]
    same = 0
    worst = 0.0
    for start in range(0, len(words), rows):
        batch = words[start : start + rows]
        letters = alphabets.encode(batch, profile.smallest[1])
        expected_ids, expected = session.run([CHUNK_IDS, LOG_PROBABILITIES], {LETTERS: letters})
        chunk_ids, scores = run(letters)
        spoken = alphabets.decode(expected_ids[:, 0])
        agrees = [
            said == wanted
            for said, wanted in zip(alphabets.decode(chunk_ids[:, 0]), spoken, strict=True)
        ]
        same += sum(agrees)
        differences = np.abs(scores[:, 0] - expected[:, 0])[agrees]
        # What is not a number must not pass for a small one.
        worst = max(worst, *np.nan_to_num(differences, nan=math.inf).tolist(), 0.0)
    agreement = same / len(words)
    if agreement < settings.least_agreement or worst > settings.tolerance:
        raise UserError(
            f"the engine differs from ONNX Runtime: {agreement:.2%} of {len(words)} words have "
            f"the same phones (least: {settings.least_agreement:.2%}), and log probabilities "
            f"differ by up to {worst:.4f} (most: {settings.tolerance})"
        )
    LOGGER.info(
        "parity with ONNX Runtime: the same phones for %.2f %% of %d words, log probabilities "
        "differ by at most %.1e",
        100 * agreement,
        len(words),
        worst,
    )
    return agreement, worst


def _read_alphabets(core: Path) -> CoreAlphabets:
    alphabets = CoreAlphabets.from_properties(properties_of(core), str(core))
    # The sample that an engine is tuned on and checked with is words.
    alphabets.metadata.require_pronunciations("TensorRT")
    return alphabets


def _read(engine: Path) -> bytes:
    if not engine.is_file():
        raise UserError(f"there is no engine {engine}")
    return engine.read_bytes()
