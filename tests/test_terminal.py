"""What reaches the terminal, and what a run's log file."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, g2p_environment

# A command of which a library warns.
WARNING_COMMAND = """
import sys, warnings
from grapheme_to_phoneme.commands import main
from grapheme_to_phoneme.lexicon import catalogues
catalogues.list_lexicons = lambda *_: warnings.warn("this will change") or ["a line"]
sys.argv = ["g2p", "languages", "ita"]
main()
"""

# What a training does with its log.
WARNING_TRAINING = """
import logging, sys, warnings
from pathlib import Path
from grapheme_to_phoneme.terminal import log_to_file, set_up_logging
set_up_logging()
log_to_file(Path(sys.argv[1]))
warnings.warn("this will change")
logging.getLogger("grapheme_to_phoneme").info("epoch 1")
"""

# What a server does with it.
WARNING_SERVER = """
import warnings
from grapheme_to_phoneme.serving.server_log import use_format
from grapheme_to_phoneme.terminal import set_up_logging
set_up_logging()
use_format("json")
warnings.warn("this will change")
"""


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        env=g2p_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_warning_reaches_the_terminal() -> None:
    completed = run_program(WARNING_COMMAND)
    assert completed.stdout == "a line\n"
    assert completed.stderr.count("UserWarning: this will change") == 1


def test_warning_is_in_the_log_file_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "run" / "train.log"
    completed = run_program(WARNING_TRAINING, str(path))
    assert completed.stderr == "epoch 1\n"
    assert path.read_text().count("UserWarning: this will change") == 1


def test_warning_has_the_format_of_a_servers_log() -> None:
    said = run_program(WARNING_SERVER).stderr
    event = json.loads(said)
    assert event["level"] == "WARNING" and "this will change" in event["message"]
