"""One server that many tests ask."""

from collections.abc import Iterator

import pytest

from grapheme_to_phoneme import Pronouncer
from tests.conftest import TinyRun
from tests.serving.triton import Server, running_server


@pytest.fixture(scope="session")
def triton(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the trained model."""
    with running_server(tmp_path_factory.mktemp("triton"), tiny_run.model) as server:
        yield server


@pytest.fixture(scope="session")
def library(tiny_run: TinyRun) -> Pronouncer:
    """The same model in the library."""
    return Pronouncer(tiny_run.model)
