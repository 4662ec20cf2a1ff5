"""Word lists from end to end: the same bytes however they come about."""

import fcntl
import io
import os
import pty
import resource
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.bulk import job
from grapheme_to_phoneme.bulk.output import save_checkpoint
from grapheme_to_phoneme.bulk.progress import shown_progress
from grapheme_to_phoneme.configuration import config_directory
from grapheme_to_phoneme.constants import EXIT_UNKNOWN_CHARACTERS
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.word_lists import Report
from tests.bulk.running import (
    SMALL_BLOCKS,
    children_of,
    infer_arguments,
    size_of,
    wait_for,
)
from tests.conftest import G2P, TinyRun, g2p_environment, run_g2p

#: Everything that an answer can look like.
ALL_COLUMNS = {"n_best": 3, "show_alignment": True, "show_source": True}


def infer_settings(**changes: object) -> DictConfig:
    """Return the group ``infer`` as it stands in the repository, but for some values."""
    defaults = OmegaConf.load(config_directory() / "infer" / "default.yaml")
    return OmegaConf.merge(defaults, {"threads": 1, **changes})


@dataclass(frozen=True)
class Unbroken:
    """A run that nothing interrupted, and the checkpoints that it kept on the way.

    Attributes:
        settings: its settings.
        model: its model.
        output: the bytes that it wrote.
        checkpoints: for each, the bytes of the output that it knows, and its own bytes.
        report: what it said.
    """

    settings: DictConfig
    model: Path
    output: bytes
    checkpoints: list[tuple[int, bytes]]
    report: Report


@pytest.fixture(scope="module")
def unbroken(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """Words of every kind, each several times; some are in a dictionary."""
    folder = tmp_path_factory.mktemp("unbroken")
    words = [entry.spelling.encode() for entry in tiny_run.lexicon.dev[:40]]
    odd = [b"", b"caf\xc3\xa9", b"\xff\xfe", b"a\tb", b"7", b"Stone\r", b"s" * 300, b"mine"]
    lines = [*words[:20], *odd, *words[10:], *odd, b"stone", *words[:7]]
    source = folder / "words.txt"
    source.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    dictionary = folder / "mine.tsv"
    dictionary.write_text("mine\tM AY N\nmine\tM IY N\n")
    settings = infer_settings(
        input=str(source),
        output=str(folder / "out.tsv"),
        dictionary=str(dictionary),
        words_per_batch=3,
        seconds_between_checkpoints=0,
        longest_line=200,
        **ALL_COLUMNS,
    )
    checkpoints = []

    def save(path: str, checkpoint) -> None:
        save_checkpoint(path, checkpoint)
        kept = Path(f"{path}.resume").read_bytes()
        checkpoints.append((checkpoint.bytes_written, kept))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "save_checkpoint", save)
        report = job.pronounce_list(settings, tiny_run.model)
    output = Path(settings.output).read_bytes()
    assert report.words == len(lines) and report.unknown_count == 2 * 4
    assert len(checkpoints) > 10 and checkpoints[-1][0] == len(output)
    return Unbroken(settings, tiny_run.model, output, checkpoints, report)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_interruption_resumes_to_the_same_bytes(
    unbroken: Unbroken, tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever is left: any checkpoint, and any part of what was written after it."""
    number = data.draw(st.integers(0, len(unbroken.checkpoints) - 1))
    known, kept = unbroken.checkpoints[number]
    written = data.draw(st.integers(known, len(unbroken.output)))
    target = tmp_path / "out.tsv"
    Path(f"{target}.partial").write_bytes(unbroken.output[:written])
    Path(f"{target}.resume").write_bytes(kept)
    changes = {
        "output": str(target),
        "resume": True,
        "words_per_batch": data.draw(st.sampled_from([1, 5, 1000])),
        "cache_mb": data.draw(st.sampled_from([0, 1])),
    }
    report = job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert target.read_bytes() == unbroken.output
    assert report == unbroken.report
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


@pytest.mark.parametrize("cache_mb", [0, 1])
@pytest.mark.parametrize("words_per_batch", [1, 8192])
def test_memory_changes_nothing(
    unbroken: Unbroken, tmp_path: Path, cache_mb: int, words_per_batch: int
) -> None:
    target = tmp_path / "out.tsv"
    changes = {
        "output": str(target),
        "cache_mb": cache_mb,
        "words_per_batch": words_per_batch,
    }
    job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert target.read_bytes() == unbroken.output


def leave(unbroken: Unbroken, target: Path) -> DictConfig:
    """Leave what a run leaves that is killed in its middle; return how to go on."""
    known, kept = unbroken.checkpoints[5]
    Path(f"{target}.partial").write_bytes(unbroken.output[: known + 3])
    Path(f"{target}.resume").write_bytes(kept)
    return OmegaConf.merge(unbroken.settings, {"output": str(target), "resume": True})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_best": 1}, "another n_best"),
        ({"show_source": False}, "another show_source"),
        ({"dictionary": None}, "another dictionary"),
        ({"notation": "ipa"}, "another notation"),
        ({"longest_line": 100}, "another longest_line"),
        ({"output": "-"}, "give --output"),
    ],
)
def test_going_on_differently_is_refused_and_loses_nothing(
    unbroken: Unbroken, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    how = leave(unbroken, tmp_path / "out.tsv")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=reason):
        job.pronounce_list(OmegaConf.merge(how, changes), unbroken.model)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    job.pronounce_list(how, unbroken.model)
    assert (tmp_path / "out.tsv").read_bytes() == unbroken.output


def test_going_on_with_a_pipe_is_refused(unbroken: Unbroken, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    changes = {"output": str(pipe), "resume": True}
    with pytest.raises(UserError, match="--resume goes on with a file"):
        job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert pipe.is_fifo()


def test_pipe_gets_all_answers_and_no_checkpoint(unbroken: Unbroken, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    job.pronounce_list(OmegaConf.merge(unbroken.settings, {"output": str(pipe)}), unbroken.model)
    reader.join(60)
    assert received == [unbroken.output]
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_going_on_with_another_model_is_refused(
    unbroken: Unbroken, tiny_run: TinyRun, tmp_path: Path
) -> None:
    how = leave(unbroken, tmp_path / "out.tsv")
    with pytest.raises(UserError, match="made with another model;"):
        job.pronounce_list(how, tiny_run.float16_model)


def test_going_on_with_another_input_is_refused(unbroken: Unbroken, tmp_path: Path) -> None:
    how = leave(unbroken, tmp_path / "out.tsv")
    source = tmp_path / "words.txt"
    content = bytearray(Path(how.input).read_bytes())
    content[5] ^= 1
    source.write_bytes(content)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="the input is not what the interrupted run read"):
        job.pronounce_list(OmegaConf.merge(how, {"input": str(source)}), unbroken.model)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_beginning_anew_where_nothing_is_left(unbroken: Unbroken, tmp_path: Path) -> None:
    changes = {"output": str(tmp_path / "out.tsv"), "resume": True}
    job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert (tmp_path / "out.tsv").read_bytes() == unbroken.output


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine": "spark"}, "there is no engine 'spark': choose local or ray"),
        ({"workers": -1}, "workers must be"),
        ({"cache_mb": -1}, "cache_mb must be"),
        ({"words_per_batch": 0}, "words_per_batch must be"),
        ({"threads": -1}, "threads must be at least 0"),
        ({"letters_per_batch": -1}, "letters_per_batch must be"),
        ({"longest_word": 1}, "longest_word must be at least 2"),
        ({"longest_line": 0}, "longest_line must be"),
        ({"report_limit": -1}, "report_limit must be"),
    ],
)
def test_settings_that_make_no_sense(
    unbroken: Unbroken, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    changes = {"output": str(tmp_path / "out.tsv"), **changes}
    with pytest.raises(UserError, match=reason):
        job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["input", "dictionary"])
@pytest.mark.parametrize("suffix", ["", ".partial", ".resume"])
def test_output_that_is_what_answers_are_made_from(
    unbroken: Unbroken, tmp_path: Path, name: str, suffix: str
) -> None:
    source, link = tmp_path / f"words.txt{suffix}", tmp_path / "link.tsv"
    content = Path(unbroken.settings[name]).read_bytes()
    source.write_bytes(content)
    link.symlink_to("words.txt")
    changes = {name: str(source), "output": str(link)}
    with pytest.raises(UserError, match=f"would change the {name}, .*: name another"):
        job.pronounce_list(OmegaConf.merge(unbroken.settings, changes), unbroken.model)
    assert source.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == [link, source]


def test_output_that_is_the_model(tiny_run: TinyRun, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    shutil.copyfile(tiny_run.model, model)
    with pytest.raises(UserError, match="would change the model"):
        job.pronounce_words(infer_settings(output=str(model)), model, ["stone"])
    assert model.read_bytes() == tiny_run.model.read_bytes()


@pytest.mark.parametrize("name", ["lexicon.sqlite", "out.tsv"])
def test_output_that_is_in_the_package(package_with_lexicon: Path, name: str) -> None:
    target = package_with_lexicon / name
    before = sorted(package_with_lexicon.iterdir())
    with pytest.raises(UserError, match="would change the model"):
        job.pronounce_words(infer_settings(output=str(target)), package_with_lexicon, ["stone"])
    assert sorted(package_with_lexicon.iterdir()) == before
    job.pronounce_words(infer_settings(), package_with_lexicon, ["stone"])


# The command


def is_running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("workers", "resume_workers"), [("1", "3"), ("2", "1")])
def test_kill_and_resume(
    tiny_run: TinyRun,
    long_list: Path,
    long_answer: bytes,
    tmp_path: Path,
    workers: str,
    resume_workers: str,
) -> None:
    target, partial = tmp_path / "out.tsv", tmp_path / "out.tsv.partial"
    arguments = infer_arguments(tiny_run, long_list, target, "--resume")
    for size in (1, len(long_answer) // 3):
        with subprocess.Popen(
            [G2P, *arguments, "--workers", workers],
            env=g2p_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                wait_for(lambda: process.poll() is not None or size_of(partial) > size)
                children = children_of(process.pid)
            finally:
                process.kill()
            process.wait()
            assert process.returncode == -signal.SIGKILL, process.stderr.read()
        # Those whose parent is gone end too.
        assert len(children) >= (2 if workers == "2" else 0)
        wait_for(lambda: not any(map(is_running, children)))
    with partial.open("ab") as file:
        file.write(b"half a li")
    completed = run_g2p(*arguments, "--workers", resume_workers)
    assert completed.returncode == 0, completed.stderr.decode()
    assert completed.stderr.decode().startswith("going on after ")
    assert target.read_bytes() == long_answer
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_full_disk_and_resume(
    tiny_run: TinyRun, long_list: Path, long_answer: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "out.tsv"
    arguments = infer_arguments(tiny_run, long_list, target)
    size = len(long_answer) // 2
    completed = subprocess.run(
        [G2P, *arguments],
        env=g2p_environment(),
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert completed.returncode == 2
    first, second = completed.stderr.decode().splitlines()
    assert first.endswith("words are answered: the same command with --resume goes on after them")
    assert second == f"g2p: error: cannot write {target}: File too large"
    assert long_answer.startswith((tmp_path / "out.tsv.partial").read_bytes())
    assert (tmp_path / "out.tsv.partial").read_bytes().endswith(b"\n")
    assert run_g2p(*arguments, "--resume").returncode == 0
    assert target.read_bytes() == long_answer


def test_input_that_cannot_be_read_twice(
    tiny_run: TinyRun, long_list: Path, long_answer: bytes, tmp_path: Path
) -> None:
    """A pipe is read again from its beginning, as ``zcat words.gz | g2p infer`` does."""
    target = tmp_path / "out.tsv"
    arguments = infer_arguments(tiny_run, Path("-"), target)
    content = long_list.read_bytes()
    with subprocess.Popen(
        [G2P, *arguments], env=g2p_environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            process.stdin.write(content[: len(content) // 2])
            process.stdin.flush()
            wait_for(lambda: size_of(tmp_path / "out.tsv.resume") > 0)
        finally:
            process.kill()
    assert run_g2p(*arguments, "--resume", standard_input=content).returncode == 0
    assert target.read_bytes() == long_answer


@pytest.mark.parametrize("columns", [(), ("--show-alignment", "--show-source", "--beam-size=4")])
def test_workers_say_the_same_to_a_pipe(
    tiny_run: TinyRun, long_list: Path, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    content = long_list.read_bytes()[:2000] + b"\ncaf\xc3\xa9\n\xff\n"
    arguments = ("infer", "--model", tiny_run.model, "--notation", "ipa", *columns)
    one = run_g2p(*arguments, standard_input=content)
    several = run_g2p(
        *arguments, "--workers", "2", "--overrides", SMALL_BLOCKS[0], standard_input=content
    )
    assert one.returncode == several.returncode == EXIT_UNKNOWN_CHARACTERS
    assert (several.stdout, several.stderr) == (one.stdout, one.stderr)


def test_package_with_workers(package_with_lexicon: Path, long_list: Path) -> None:
    arguments = ("infer", "--model", package_with_lexicon, "--show-source")
    content = long_list.read_bytes()[:1000] + b"\nunheardofword\n"
    one = run_g2p(*arguments, standard_input=content)
    several = run_g2p(*arguments, "--workers", "2", standard_input=content)
    assert b"\tlexicon\n" in one.stdout and b"\tmodel\n" in one.stdout
    assert several.stdout == one.stdout and several.returncode == one.returncode == 0


def test_worker_that_dies_is_an_error_to_go_on_after(
    tiny_run: TinyRun, long_list: Path, long_answer: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "out.tsv"
    arguments = infer_arguments(tiny_run, long_list, target, "--workers", "2")
    with subprocess.Popen(
        [G2P, *arguments], env=g2p_environment(), stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(lambda: size_of(tmp_path / "out.tsv.resume") > 0)
            os.kill(max(children_of(process.pid)), signal.SIGKILL)
            said = process.stderr.read().decode()
            assert process.wait(timeout=120) == 2
        finally:
            process.kill()
    assert "a worker process died" in said.splitlines()[-1]
    assert run_g2p(*arguments, "--resume").returncode == 0
    assert target.read_bytes() == long_answer


def test_resume_of_words_on_the_command_line(tiny_run: TinyRun) -> None:
    completed = run_g2p("infer", "--model", tiny_run.model, "--resume", "stone")
    assert completed.returncode == 2
    assert (
        completed.stderr
        == b"g2p: error: --resume goes on with a file: give --input instead of words\n"
    )


# Progress


def test_progress_names_words_speed_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"x" * 1000)
    with path.open("rb") as file, shown_progress(file, True, 100, 400) as progress:
        time.sleep(0.2)
        progress.show(1300, 700)
    shown = capsys.readouterr().err.split("\r")[-1]
    words, _, rest = shown.partition(" words, ")
    assert words == "1,300"
    assert 1000 < float(rest.partition("/s")[0].replace(",", "")) <= 6000
    assert " 70 %|" in shown and " left" in shown


def test_progress_of_a_pipe_knows_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(io.BytesIO(b"x"), True) as progress:
        time.sleep(0.2)
        progress.show(1300, 700)
    shown = capsys.readouterr().err.split("\r")[-1]
    assert shown.startswith("1,300 words, ") and "left" not in shown


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(io.BytesIO(b"x"), False) as progress:
        progress.show(1300, 700)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal(tiny_run: TinyRun, long_list: Path, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    rows_columns_pixels = struct.pack("HHHH", 24, 100, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, rows_columns_pixels)
    arguments = infer_arguments(tiny_run, long_list, tmp_path / "out.tsv")
    with subprocess.Popen([G2P, *arguments], env=g2p_environment(), stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        # Linux says so where the last that wrote to a terminal is gone.
        with suppress(OSError):
            while piece := os.read(controller, 4096):
                shown += piece
    os.close(controller)
    assert process.returncode == 0, shown
    assert b"2,000 words, " in shown and b"100 %|" in shown and b" left" in shown
