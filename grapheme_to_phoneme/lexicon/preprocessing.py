"""Making the train, dev and test files from the raw lexicon, and having them ready."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import storage
from grapheme_to_phoneme.lexicon.catalogues import locate
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.lexicon.files import replacing, sha256_of
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.lexicon.splitting import open_split, split_sha256
from grapheme_to_phoneme.lexicon.writing import write_tsv, write_words
from grapheme_to_phoneme.normalization import Normalization

LOGGER = logging.getLogger(__name__)

PARTS = ("train", "dev", "test")
STRESS_CHOICES = ("keep", "strip")

#: What a manifest that is cut off, from elsewhere or edited by hand can raise.
UNREADABLE_MANIFEST = (OSError, ValueError, KeyError, TypeError, AttributeError, UserError)


class PreparedPaths(NamedTuple):
    """The files that preprocessing makes.

    Attributes:
        train, dev, test: lexicons, ``spelling<TAB>phones``.
        manifest: what the three were made from and how, as JSON.
        example_words: a short input for ``infer``, one word a line, from the dev part.
        sample_words: more of the dev part's words, the sample for TensorRT.
    """

    train: Path
    dev: Path
    test: Path
    manifest: Path
    example_words: Path
    sample_words: Path

    @property
    def parts(self) -> dict[str, Path]:
        """The lexicons by the names of their parts."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def prepared_paths(config: DictConfig) -> PreparedPaths:
    """Return where the configuration's prepared files lie, whether they are there or not."""
    folder = Path(config.data.prepared_dir)
    return PreparedPaths(
        *(folder / f"{part}.tsv" for part in PARTS),
        manifest=folder / "manifest.json",
        example_words=Path(config.preprocessing.example.words_path),
        sample_words=Path(config.preprocessing.example.sample_path),
    )


def preprocess(config: DictConfig, force: bool = False) -> PreparedPaths:
    """Make the open split's files from the raw lexicon.

    The raw lexicon must be there (``download_data`` brings it). Files that were made from
    the same lexicon with the same settings, and not changed since, are left as they are.

    Args:
        config: the whole configuration; ``data``, ``preprocessing`` and ``storage`` are used.
        force: whether files that are up to date are made again.

    Raises:
        UserError: if the raw lexicon is missing or malformed, or if the parts are not the
            ones whose SHA-256 ``data.split_sha256`` records.
    """
    locate(config)
    _require_download(config)
    paths = prepared_paths(config)
    if not force and _is_valid(config, paths):
        LOGGER.info("%s is up to date", paths.manifest.parent)
        return paths
    started = time.monotonic()
    raw_path = Path(config.data.raw_path or config.data.download_path)
    if not raw_path.is_file():
        raise UserError(
            f"there is no raw lexicon {raw_path}: get it with 'g2p download-data', "
            "or name yours with data.raw_path=FILE"
        )
    LOGGER.info("reading %s", raw_path)
    entries = read_lexicon(
        raw_path,
        config.data.format,
        build_normalization(config),
        strip_stress=strips_stress(config),
    )
    settings = config.preprocessing.split
    split = open_split(
        group_by_spelling(entries),
        seed=settings.seed,
        test_fraction=settings.test_fraction,
        test_limit=settings.test_limit,
        dev_fraction=settings.dev_fraction,
    )
    parts = split._asdict()
    hashes = {name: split_sha256(part) for name, part in parts.items()}
    check_split_hashes(config, hashes)
    _write(config, paths, parts, hashes, sha256_of(raw_path))
    LOGGER.info(
        "wrote %s in %.1f s: %s",
        paths.manifest.parent,
        time.monotonic() - started,
        ", ".join(
            f"{name} {len({entry.spelling for entry in part}):,} words "
            f"({len(part):,} pronunciations)"
            for name, part in parts.items()
        ),
    )
    _keep(config, paths)
    return paths


def ensure_prepared(config: DictConfig) -> PreparedPaths:
    """Return the prepared files; whatever is missing for them is fetched or made.

    They are taken as they are if they are valid, else from the DVC remote, else the raw
    lexicon is downloaded and preprocessed.

    Raises:
        UserError: as :func:`preprocess` and ``download_data`` do.
    """
    locate(config)
    _require_download(config)
    paths = prepared_paths(config)
    if _is_valid(config, paths):
        return paths
    pulled = storage.StorageOutcome(False, "these settings are not the recorded split's")
    if config.data.split_sha256 is not None and config.data.raw_path is None:
        pulled = storage.pull(list(paths), config.storage)
    if pulled.done and _is_valid(config, paths):
        LOGGER.info("fetched %s from the DVC remote", paths.manifest.parent)
        return paths
    LOGGER.info(
        "%s is missing, changed or made with other settings, and not to be had from the DVC "
        "remote (%s): making it from the raw lexicon",
        paths.manifest.parent,
        pulled.reason or "what it holds is made with other settings",
    )
    download_data(config)
    return preprocess(config)


def ensure_example(config: DictConfig) -> Path:
    """Return the example input of ``infer``, fetched or made where it is missing.

    Raises:
        UserError: as :func:`ensure_prepared` does.
    """
    return _ensure_words(config, prepared_paths(config).example_words)


def ensure_sample(config: DictConfig) -> Path:
    """Return the sample for TensorRT, fetched or made where it is missing.

    Raises:
        UserError: as :func:`ensure_prepared` does.
    """
    return _ensure_words(config, prepared_paths(config).sample_words)


def _ensure_words(config: DictConfig, path: Path) -> Path:
    if not path.is_file() and not storage.pull([path], config.storage).done:
        ensure_prepared(config)
    return path


def build_normalization(config: DictConfig) -> Normalization:
    """Return the normalisation that the configuration describes.

    Raises:
        UserError: if it names an unknown case or Unicode form.
    """
    return Normalization(**config.preprocessing.normalization)


def strips_stress(config: DictConfig) -> bool:
    """Return whether stress is taken off the phones.

    Raises:
        UserError: if ``preprocessing.stress`` is none of its values.
    """
    stress = config.preprocessing.stress
    if stress not in STRESS_CHOICES:
        raise UserError(
            f"unknown preprocessing.stress '{stress}': choose one of {', '.join(STRESS_CHOICES)}"
        )
    return stress == "strip"


def check_split_hashes(config: DictConfig, hashes: Mapping[str, str]) -> None:
    """Compare the parts' SHA-256 with the ones that the configuration records, if any.

    Raises:
        UserError: if a part differs.
    """
    if config.data.split_sha256 is None:
        return
    for name, recorded in config.data.split_sha256[config.preprocessing.stress].items():
        if hashes[name] != recorded:
            raise UserError(
                f"the {name} part is not the recorded one (its SHA-256 is {hashes[name]}, not "
                f"{recorded}): the settings under preprocessing are not those of the open split. "
                "Restore them, or say data.split_sha256=null for a split of your own"
            )


def _require_download(config: DictConfig) -> None:
    if config.data.source != "download":
        raise UserError(
            f"data={config.data.name} needs no preprocessing: train, evaluate and infer read its "
            "files as they are. Say data=cmudict for the lexicon that is prepared beforehand"
        )


def _settings(config: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(config.preprocessing, resolve=True)
    # Where the examples lie says nothing about what is in them.
    for key in ("words_path", "sample_path"):
        del settings["example"][key]
    return {"format": config.data.format, **settings}


def _is_valid(config: DictConfig, paths: PreparedPaths) -> bool:
    """Return whether the files are whole and made as the configuration says."""
    strips_stress(config)
    if not all(path.is_file() for path in paths):
        return False
    try:
        manifest = json.loads(paths.manifest.read_bytes())
        if manifest["settings"] != _settings(config):
            return False
        if manifest["raw_sha256"] != _raw_sha256(config):
            return False
        check_split_hashes(config, manifest["split_sha256"])
        return all(
            sha256_of(path) == manifest["file_sha256"][name] for name, path in paths.parts.items()
        )
    except UNREADABLE_MANIFEST as error:
        LOGGER.debug("%s is not valid: %s", paths.manifest, error)
    return False


def _raw_sha256(config: DictConfig) -> str:
    if config.data.sha256 is not None:
        return config.data.sha256
    return sha256_of(Path(config.data.raw_path or config.data.download_path))


def _write(
    config: DictConfig,
    paths: PreparedPaths,
    parts: Mapping[str, list[Entry]],
    hashes: Mapping[str, str],
    raw_sha256: str,
) -> None:
    # The manifest vouches for the others: it goes first and comes last, so that files of
    # an interrupted run are never taken for whole.
    paths.manifest.unlink(missing_ok=True)
    for name, path in paths.parts.items():
        write_tsv(path, parts[name])
    dev_words = list(dict.fromkeys(entry.spelling for entry in parts["dev"]))
    example = config.preprocessing.example
    write_words(paths.example_words, dev_words[: example.words])
    write_words(paths.sample_words, dev_words[: example.sample_words])
    manifest = {
        "raw_sha256": raw_sha256,
        "settings": _settings(config),
        "split_sha256": dict(hashes),
        "file_sha256": {name: sha256_of(path) for name, path in paths.parts.items()},
    }
    with replacing(paths.manifest) as stream:
        stream.write(f"{json.dumps(manifest, indent=2)}\n".encode())


def _keep(config: DictConfig, paths: PreparedPaths) -> None:
    # Only the open split belongs into the storage: a split of one's own must not change
    # what Git records.
    if config.data.split_sha256 is None:
        return
    # The parts are outputs of the pipeline in dvc.yaml, the examples have .dvc files: they
    # are the same words whichever stage made them.
    for files, add_new in (
        ([*paths.parts.values(), paths.manifest], False),
        ([paths.example_words, paths.sample_words], True),
    ):
        kept = storage.keep(files, config.storage, add_new=add_new)
        if not kept.done:
            LOGGER.info("%s not put under DVC: %s", files[0].parent, kept.reason)
            return
    LOGGER.info("%s and the examples are under DVC now", paths.manifest.parent)
