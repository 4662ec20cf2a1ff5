"""From a checkpoint to a checked model file."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from omegaconf import DictConfig

from grapheme_to_phoneme.constants import DISTRIBUTION_NAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.packaging.onnx_export import build_model, write_model
from grapheme_to_phoneme.training.alphabets import PADDING_ID, Alphabets
from grapheme_to_phoneme.training.evaluation import score_answers
from grapheme_to_phoneme.training.lightning_module import PronunciationModule, References
from grapheme_to_phoneme.training.metrics import Score
from grapheme_to_phoneme.training.network import Network

LOGGER = logging.getLogger(__name__)


def export_checkpoint(
    checkpoint: Path, target: Path, references: References, config: DictConfig
) -> Score:
    """Write the model file of a checkpoint, once it is proven to say what PyTorch says.

    Args:
        checkpoint: a checkpoint that training wrote.
        target: the ONNX file to write; it is replaced only by a file that passed.
        references: real words to check on, with their pronunciations: the dev part.
        config: the groups ``export`` and ``infer`` are used.

    Returns:
        The model file's score on ``references``, which its metadata holds too.

    Raises:
        UserError: if the checkpoint cannot be read or the parity check fails.
    """
    module = load_checkpoint(checkpoint)
    metadata = _metadata(module)
    model = build_model(module.network, module.alphabets, metadata)
    unchecked = target.with_name(target.name + ".unchecked")
    write_model(model, unchecked)
    try:
        check_parity(module.network, module.alphabets, unchecked, list(references), config.export)
        pronouncer = Pronouncer(unchecked, threads=config.infer.threads)
        score = score_answers(pronouncer.pronounce(references), references)
    finally:
        unchecked.unlink(missing_ok=True)
    scores = {"dev_wer": round(score.wer, 3), "dev_per": round(score.per, 3)}
    onnx.helper.set_model_props(model, replace(metadata, scores=scores).to_properties())
    write_model(model, target)
    LOGGER.info("wrote %s, %.1f MB", target, target.stat().st_size / 1e6)
    return score


def load_checkpoint(checkpoint: Path) -> PronunciationModule:
    """Load a checkpoint on the CPU, without running code from it.

    Raises:
        UserError: if there is no checkpoint or it cannot be read.
    """
    if not checkpoint.is_file():
        raise UserError(f"there is no checkpoint {checkpoint}: train a model with `g2p train`")
    try:
        module = PronunciationModule.load_from_checkpoint(
            checkpoint, map_location="cpu", weights_only=True
        )
    # What unpickling a foreign file raises shares no base class but this.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{checkpoint} is no checkpoint of this package: {reason}") from error
    return module.eval()


def _metadata(module: PronunciationModule) -> ModelMetadata:
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
    options = onnxruntime.SessionOptions()
    # Its threads would wait for work in a loop and keep PyTorch's from theirs, and in turn:
    # on a busy machine that took minutes.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    known = [
        spelling
        for spelling in spellings
        if spelling and len(alphabets.encode(spelling)) == len(spelling)
    ]
    if not known:
        raise UserError("no dev word has only letters that the training words have")
    chooser = random.Random(config.parity_seed)
    words = chooser.sample(known, min(config.parity_words, len(known)))
    worst = 0.0
    for batch_size in config.parity_batch_sizes:
        for beam_size in config.parity_beam_sizes:
            for start in range(0, len(words), batch_size):
                batch = words[start : start + batch_size]
                difference = _compare(network, alphabets, session, batch, beam_size, config)
                worst = max(worst, difference)
    LOGGER.info(
        "parity with PyTorch holds on %d words, batches of %s, beams of %s: "
        "log probabilities differ by at most %.1e",
        len(words),
        "/".join(map(str, config.parity_batch_sizes)),
        "/".join(map(str, config.parity_beam_sizes)),
        worst,
    )


def _compare(
    network: Network,
    alphabets: Alphabets,
    session: onnxruntime.InferenceSession,
    words: Sequence[str],
    beam_size: int,
    config: DictConfig,
) -> float:
    ids = [alphabets.encode(word) for word in words]
    length = max(map(len, ids))
    letters = torch.tensor([row + [PADDING_ID] * (length - len(row)) for row in ids])
    paths, expected_scores = network.search(letters, beam_size)
    texts, scores = session.run(
        ["pronunciations", "log_probabilities"],
        {
            "words": np.array(words, dtype=object),
            "beam_size": np.array([beam_size], dtype=np.int64),
        },
    )
    differences = np.abs(scores[:, 0] - expected_scores[:, 0].numpy())
    for row, word in enumerate(words):
        expected = " ".join(alphabets.phones_of(paths[row, 0].tolist()))
        # Two pronunciations as good as each other may change places through rounding.
        is_tie = beam_size > 1 and np.ptp(scores[row, :2]) <= config.tolerance
        if differences[row] > config.tolerance or (texts[row, 0] != expected and not is_tie):
            raise UserError(
                f"the exported model differs from PyTorch on '{word}': "
                f"'{texts[row, 0]}' instead of '{expected}', log probability "
                f"{scores[row, 0]:.5f} instead of {expected_scores[row, 0]:.5f}"
            )
    return float(differences.max())
