"""What starts and watches Triton, with a program of the test in its place."""

import os
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import config_directory
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.serving import triton_server
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.serving.triton_engine import Command

PORTS = ("http_port", "grpc_port", "metrics_port")


def serve_settings(repository: Path, **changes: object) -> DictConfig:
    """Return the configuration ``serve=triton``, but for some values."""
    defaults = OmegaConf.load(config_directory() / "serve" / "triton.yaml")
    ports = {name: unused_port() for name in PORTS}
    return OmegaConf.merge(defaults, {"repository": str(repository), **ports, **changes})


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_port_that_is_none(tmp_path: Path, name: str, port: int) -> None:
    settings = serve_settings(tmp_path, **{name: port})
    with pytest.raises(UserError, match=f"serve.{name} must be 1 to 65535, not {port}"):
        triton_server.serve(settings, ["g2p"], "docker")


def test_overlong_line_of_the_log_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server would wait for ever for somebody to read on."""
    length = 3 * triton_server.LONGEST_LINE
    program = (
        "import sys\n"
        f"sys.stdout.write('x' * {length} + '\\n' + ('y' * 500_000 + '\\n') * 8 + 'last\\n')\n"
        "sys.exit(7)\n"
    )
    command = Command((sys.executable, "-c", program), dict(os.environ), has_stubs=False)
    monkeypatch.setattr(triton_server, "docker_command", lambda *_: command)
    settings = serve_settings(tmp_path, start_timeout_s=60)
    with pytest.raises(UserError, match="ended while it started, with status 7"):
        triton_server.serve(settings, ["g2p"], "docker")
    assert "last" in capfd.readouterr().err
