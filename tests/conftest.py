"""Fixtures that more than one room's tests use."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import config_directory
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.files import sha256_of

REPOSITORY = Path(__file__).resolve().parent.parent


def compose_lexicon_config(*overrides: str, data: str = "cmudict", storage: str = "local"):
    """Return the configuration of the groups that ``lexicon/`` uses."""
    groups = ("+paths=default", f"+storage={storage}", f"+data={data}", "+preprocessing=default")
    with initialize_config_dir(config_dir=str(config_directory()), version_base="1.3"):
        return compose(config_name=None, overrides=[*groups, *overrides])


@pytest.fixture(scope="session")
def cmudict_config() -> DictConfig:
    """The configuration of the open split, as it stands in the repository."""
    return compose_lexicon_config(f"paths.root={REPOSITORY}")


@pytest.fixture(scope="session")
def cmudict_path(cmudict_config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real raw lexicon: the repository's copy if it has one, else a fresh download."""
    path = Path(cmudict_config.data.download_path)
    if path.is_file() and sha256_of(path) == cmudict_config.data.sha256:
        return path
    folder = tmp_path_factory.mktemp("cmudict")
    # The tests must not put anything into the developer's DVC storage.
    return download_data(
        compose_lexicon_config(f"paths.root={folder}", "storage.pull=false", "storage.push=false")
    )
