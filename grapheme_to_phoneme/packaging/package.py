"""Puts together what is delivered of a trained model, as one folder."""

import logging
import shutil
from importlib.metadata import distribution
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import DISTRIBUTION_NAME, MODEL_FILENAME, VARIANTS_DIRECTORY
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import LEXICON_NAME, write_manifest
from grapheme_to_phoneme.inference.packed_lexicon import write_packed_lexicon
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.lexicon.storage import keep

LOGGER = logging.getLogger(__name__)

LICENCE_NAME = "LICENSE"
DATA_LICENCE_NAME = "LICENSE-data"
SOURCE_NAME = "SOURCE.md"
CARD_NAME = "MODEL_CARD.md"

#: Which parts of the lexicon a package can carry, by the setting ``package.lexicon``.
PACKED_PARTS = {"none": (), "train": ("train",), "all": ("train", "dev", "test")}

CARD = """# Model card: {name}

Pronounces single words. For drafts of lexicon entries and for words that a lexicon does not
have; not for sentences, numbers or abbreviations.

{facts}
The scores are error rates on words that were not learnt from: `wer` counts words whose first
pronunciation is none of the accepted ones, `per` phones. What is spelled unlike the words that
were learnt from, names and loanwords above all, comes out worse. Probabilities are calibrated on
words of the dev part, where they are off by `dev_ece` points on average; on words unlike these
they may be off by more.
"""


def package_run(run_directory: Path, config: DictConfig) -> Path:
    """Write a run's package, and put it under DVC where there is a repository.

    The folder holds every variant of the model, a model card, the licences of code and data,
    a note of where all comes from, and a manifest with the hash of every file; and, by
    ``package.lexicon``, the training part of the lexicon or all parts, so that known words are
    exact. It is complete for prediction and never changed: one that exists already is refused.

    Args:
        run_directory: a finished run.
        config: the run's configuration; ``package``, ``data``, ``preprocessing`` and
            ``storage`` are used.

    Returns:
        The package's folder.

    Raises:
        UserError: if the run has no model, the package exists already, or the lexicon to pack
            is not the one that the run was trained on.
    """
    metadata = _run_metadata(run_directory)
    target = Path(config.package.output or _default_target(run_directory, metadata, config))
    if target.exists():
        raise UserError(f"{target} exists already: say package.output=DIR for another folder")
    write_package(run_directory, config, target)
    outcome = keep([target], config.storage, add_new=True)
    kept = "under DVC now" if outcome.done else f"not put under DVC: {outcome.reason}"
    LOGGER.info("wrote the package %s, %s", target, kept)
    return target


def write_package(run_directory: Path, config: DictConfig, target: Path) -> None:
    """Write a run's package, and leave DVC alone.

    Args:
        run_directory: a finished run.
        config: the run's configuration; ``package``, ``data`` and ``preprocessing`` are used.
        target: the package's folder, which does not exist.

    Raises:
        UserError: if the run has no model, the data's licence is missing, or the lexicon to
            pack is not the one that the run was trained on.
    """
    metadata = _run_metadata(run_directory)
    _write(
        _variants(run_directory),
        f"{metadata.precision}.onnx",
        metadata,
        f"{config.data.name}, stress {config.preprocessing.stress}",
        _data_licence(config.data.licence_path),
        target,
        _lexicon(metadata, config),
    )


def package_file(model: Path, config: DictConfig, target: Path) -> None:
    """Write the package of a single model file, which says itself what it was made from.

    Args:
        model: the file.
        config: if its ``data`` is what the model was trained on, the data's licence goes along.
        target: the package's folder, which does not exist.

    Raises:
        UserError: if ``model`` is no model file, or the data's licence is missing.
    """
    metadata = Pronouncer(model, threads=1).metadata
    data = str(metadata.training.get("data", "unknown"))
    licence = _data_licence(config.data.licence_path) if data == config.data.name else None
    _write([model], model.name, metadata, data, licence, target)


def _run_metadata(run_directory: Path) -> ModelMetadata:
    default = run_directory / MODEL_FILENAME
    if not default.is_file() or not _variants(run_directory):
        raise UserError(
            f"{run_directory} has no exported model: `g2p export --run {run_directory}`"
        )
    return Pronouncer(default, threads=1).metadata


def _variants(run_directory: Path) -> list[Path]:
    return sorted((run_directory / VARIANTS_DIRECTORY).glob("*.onnx"))


def _write(
    models: list[Path],
    default: str,
    metadata: ModelMetadata,
    data: str,
    data_licence: Path | None,
    target: Path,
    lexicon: dict[str, list[tuple[str, ...]]] | None = None,
) -> None:
    # What a package says of its model, and the lexicon in it, are of pronunciations.
    metadata.require_pronunciations("a package")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in models:
        shutil.copyfile(path, partial / path.name)
    if lexicon:
        write_packed_lexicon(partial / LEXICON_NAME, lexicon)
    licence = distribution(DISTRIBUTION_NAME).read_text(f"licenses/{LICENCE_NAME}")
    (partial / LICENCE_NAME).write_text(licence or "", encoding="utf-8")
    if data_licence is not None:
        shutil.copyfile(data_licence, partial / DATA_LICENCE_NAME)
    source = _source(metadata, data, has_licence=data_licence is not None)
    (partial / SOURCE_NAME).write_text(source, encoding="utf-8")
    (partial / CARD_NAME).write_text(_card(metadata, data.partition(",")[0]), encoding="utf-8")
    write_manifest(partial, default)
    partial.replace(target)


def _default_target(run_directory: Path, metadata: ModelMetadata, config: DictConfig) -> Path:
    return Path(config.package.directory) / f"{run_directory.name}-{metadata.package_version}"


def _lexicon(metadata: ModelMetadata, config: DictConfig) -> dict[str, list[tuple[str, ...]]]:
    """Return the pronunciations to pack, the preferred one of a spelling first."""
    if config.package.lexicon not in PACKED_PARTS:
        raise UserError(
            f"package.lexicon={config.package.lexicon}: say one of {', '.join(PACKED_PARTS)}"
        )
    parts = PACKED_PARTS[config.package.lexicon]
    if not parts:
        return {}
    data = load_data(config)
    for part in parts:
        if data.hashes.get(part) != metadata.split_sha256.get(part):
            raise UserError(
                f"the lexicon's part {part} is not the one that the model was trained with: bring "
                "the old one back, or say package.lexicon=none"
            )
    entries = [entry for part in parts for entry in getattr(data, part) or ()]
    return group_by_spelling(entries)


def _data_licence(path: str | None) -> Path | None:
    if path is None:
        return None
    if not Path(path).is_file():
        raise UserError(
            f"the data's licence {path} must travel with the model and is missing: "
            "give it with data.licence_path=FILE"
        )
    return Path(path)


def _source(metadata: ModelMetadata, data: str, has_licence: bool) -> str:
    is_dirty = metadata.git_dirty == "true"
    data_licence = f"; its licence: {DATA_LICENCE_NAME}" if has_licence else ""
    facts = [
        f"made by {DISTRIBUTION_NAME} {metadata.package_version}, Apache-2.0: see {LICENCE_NAME}",
        f"Git commit of the training: {metadata.git_commit}"
        + (", with uncommitted changes" if is_dirty else ""),
        f"data: {data}{data_licence}",
        *(f"SHA-256 of the {part} part: {sha}" for part, sha in metadata.split_sha256.items()),
        *(f"{name}: {value}" for name, value in metadata.training.items()),
    ]
    return "# Where this model comes from\n\n" + "".join(f"- {fact}\n" for fact in facts)


def _card(metadata: ModelMetadata, data: str) -> str:
    own_letters = [
        letter for letter in metadata.letters if letter not in metadata.languages_by_tag
    ]
    facts = [
        f"language: {metadata.language}; phones in {metadata.notation}",
        f"letters: {' '.join(own_letters)}",
        f"phones: {' '.join(metadata.phones)}",
        *(f"{name}: {value} %" for name, value in metadata.scores.items()),
        *(
            f"{language.code} ({language.language}): dev_wer {language.scores.get('dev_wer')} %"
            for language in metadata.languages
        ),
    ]
    return CARD.format(name=data, facts="".join(f"- {fact}\n" for fact in facts))
