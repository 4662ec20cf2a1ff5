"""Output files: whole lines, whole files, and what an interrupted run leaves."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from grapheme_to_phoneme.bulk.output import (
    BYTES_PER_WRITE,
    Checkpoint,
    LineWriter,
    load_checkpoint,
    open_output,
    open_standard_output,
    output_files,
    save_checkpoint,
)
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.word_lists import Position, Report

SETTINGS = {"model": "1f", "n_best": 3, "beam_size": None}

CHECKPOINT = Checkpoint(
    SETTINGS, Position(12, "ab"), 4, Report(5, 2, [("7\udcff", ("7", "\udcff"))], 1)
)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupt(target: Path, content: bytes, checkpoint: Checkpoint = CHECKPOINT) -> None:
    """Leave what an interrupted run leaves."""
    with pytest.raises(KeyboardInterrupt), open_output(str(target)) as output:
        output.write(content)
        output.sync()
        save_checkpoint(str(target), checkpoint)
        raise KeyboardInterrupt


def test_folder_as_output_is_refused_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot write .*: it is a folder"),
        open_output(str(tmp_path)),
    ):
        pytest.fail("the work was begun")
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_work_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectionError, match="elsewhere"),
        open_output(str(tmp_path / "out.tsv")),
    ):
        raise ConnectionError("elsewhere")


@pytest.mark.parametrize("name", ["missing/out.tsv", ".", "x" * 300, "loop"])
def test_output_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with (
        pytest.raises(UserError, match="cannot write"),
        open_output(str(tmp_path / name)) as output,
    ):
        output.write(b"one\n")


def test_output_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("yesterday")
    with open_output(str(target)) as output:
        output.write(b"one\n")
        output.sync()
        save_checkpoint(str(target), CHECKPOINT)
        assert target.read_text() == "yesterday"
        assert (tmp_path / "out.tsv.partial").read_bytes() == b"one\n"
        output.write("é\n".encode())
    assert target.read_bytes() == b"one\n\xc3\xa9\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_interrupted_output_does_not_take_the_name(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("yesterday")
    interrupt(target, b"one\n")
    assert target.read_text() == "yesterday"


def test_closed_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match="it is closed; say --output"), open_standard_output():
        pytest.fail("the work was begun")


def test_standard_output(capfdbinary) -> None:
    with open_standard_output() as output:
        output.write(b"\xc3\xa9\xff\n")
    assert capfdbinary.readouterr().out == b"\xc3\xa9\xff\n"


# What is no plain file


@pytest.mark.parametrize("content", ["yesterday", None])
def test_link_stays_and_its_file_gets_the_answers(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "links").mkdir()
    link, target = tmp_path / "links" / "out.tsv", tmp_path / "real.tsv"
    link.symlink_to(target)
    if content is not None:
        target.write_text(content)
    interrupt(link, b"one\n")
    checkpoint = load_checkpoint(str(link), SETTINGS)
    assert checkpoint == CHECKPOINT
    with open_output(str(link), checkpoint) as output:
        output.write(b"two\n")
    assert link.is_symlink() and target.read_bytes() == b"one\ntwo\n"
    names = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))]
    assert names == ["links", "links/out.tsv", "real.tsv"]


def test_pipe_gets_the_lines_as_they_come(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert output_files(str(pipe)) == output_files("-") == ()
    received: list[bytes] = []

    def read() -> None:
        with pipe.open("rb") as file:
            received.extend(file)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with open_output(str(pipe)) as output:
        output.write(b"one\n")
        output.flush()
        output.write(b"two\n")
    reader.join(60)
    assert received == [b"one\n", b"two\n"]
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


# Two runs


def test_output_of_a_run_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    with open_output(str(target)) as output:
        output.write(b"one\n")
        output.sync()
        save_checkpoint(str(target), CHECKPOINT)
        for checkpoint in (None, CHECKPOINT):
            with (
                pytest.raises(UserError, match="another run writes it"),
                open_output(str(target), checkpoint),
            ):
                pytest.fail("the work was begun")
        assert load_checkpoint(str(target), SETTINGS) == CHECKPOINT
        output.write(b"two\n")
    assert target.read_bytes() == b"one\ntwo\n"


def test_output_of_a_run_that_has_just_ended_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, partial = tmp_path / "out.tsv", tmp_path / "out.tsv.partial"
    partial.write_bytes(b"one\n")

    def lock_too_late(*_: object) -> None:
        partial.replace(target)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    with pytest.raises(UserError, match="another run writes it"), open_output(str(target)):
        pytest.fail("the work was begun")
    assert target.read_bytes() == b"one\n"


@pytest.mark.parametrize("has_module", [True, False])
def test_where_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_module: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    if not has_module:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    with open_output(str(tmp_path / "out.tsv")) as output:
        output.write(b"one\n")
    assert (tmp_path / "out.tsv").read_bytes() == b"one\n"


# Full disks


@pytest.mark.parametrize("size", range(10, 20))
def test_full_disk_leaves_whole_lines(tmp_path: Path, size: int) -> None:
    """For every place in a line at which there is no more room."""
    target = tmp_path / "out.tsv"
    with pytest.raises(UserError, match=f"cannot write {target}: File too large"):
        with largest_file(size), open_output(str(target)) as output:
            output.write(b"one\tW AH N\n")
            output.flush()
            output.write(b"2\tT\n3\tTH\n")
            output.flush()
    left = (tmp_path / "out.tsv.partial").read_bytes()
    assert b"one\tW AH N\n2\tT\n3\tTH\n".startswith(left)
    assert left.endswith(b"\n") or left == b""
    assert size - len(left) < len(b"one\tW AH N\n")
    assert not target.exists()


def test_full_disk_behind_standard_output(tmp_path: Path) -> None:
    program = (
        "from grapheme_to_phoneme.bulk.output import open_standard_output\n"
        "with open_standard_output() as output:\n"
        "    output.write(b'one\\ntwo\\nthree\\n')\n"
    )
    target = tmp_path / "out.tsv"
    target.write_bytes(b"zero\n")
    with target.open("ab") as file:
        completed = subprocess.run(
            [sys.executable, "-c", program],
            stdout=file,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
        )
    assert b"UserError: cannot write standard output: File too large" in completed.stderr
    assert target.read_bytes() == b"zero\none\ntwo\n"


def test_device_without_room() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        output = LineWriter(file.fileno(), "it")
        with pytest.raises(UserError, match="cannot write it: No space left on device"):
            output.write(b"x" * BYTES_PER_WRITE)


def test_reader_that_stops_reading_is_no_mistake() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        output = LineWriter(writing, "it")
        output.write(b"one\n")
        with pytest.raises(BrokenPipeError):
            output.flush()
    finally:
        os.close(writing)


def test_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    target = str(tmp_path / "out.tsv")
    interrupt(Path(target), b"one\ntwo\n")
    with pytest.raises(UserError, match="cannot write .*: File too large"), largest_file(8):
        save_checkpoint(target, replace(CHECKPOINT, bytes_written=8))
    assert load_checkpoint(target, SETTINGS) == CHECKPOINT
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.tsv.partial",
        "out.tsv.resume",
    ]


# Going on


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    assert load_checkpoint(str(target), SETTINGS) is None
    interrupt(target, b"one\n")
    (tmp_path / "out.tsv.partial").unlink()
    assert load_checkpoint(str(target), SETTINGS) is None


@pytest.mark.parametrize("tail", [b"", b"t", b"two\tT", b"two\tT UW\nth"])
def test_going_on_drops_what_the_checkpoint_does_not_know(tmp_path: Path, tail: bytes) -> None:
    target = tmp_path / "out.tsv"
    interrupt(target, b"one\n" + tail)
    checkpoint = load_checkpoint(str(target), SETTINGS)
    assert checkpoint == CHECKPOINT
    with open_output(str(target), checkpoint) as output:
        assert output.bytes_written == 4
        output.write(b"2\n")
    assert target.read_bytes() == b"one\n2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_beginning_anew_forgets_the_checkpoint(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    interrupt(target, b"one\n")
    with pytest.raises(KeyboardInterrupt), open_output(str(target)):
        assert load_checkpoint(str(target), SETTINGS) is None
        raise KeyboardInterrupt
    assert (tmp_path / "out.tsv.partial").read_bytes() == b""


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    target = str(tmp_path / "out.tsv")
    interrupt(Path(target), b"one\n")
    with pytest.raises(UserError, match="made with another model, another n_best; begin anew"):
        load_checkpoint(target, {**SETTINGS, "model": "2e", "n_best": 1})


def test_output_that_lost_bytes_is_refused(tmp_path: Path) -> None:
    target = str(tmp_path / "out.tsv")
    interrupt(Path(target), b"one")
    with pytest.raises(UserError, match="has lost some of its bytes; begin anew"):
        load_checkpoint(target, SETTINGS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged"),
        (b"{}", "is damaged"),
        (b"[1]", "is damaged"),
        (b"\xff", "cannot be read"),
        (b'{"format": 1, "report": {"unknown": [3]}}', "is damaged"),
    ],
)
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    target = tmp_path / "out.tsv"
    interrupt(target, b"one\n")
    (tmp_path / "out.tsv.resume").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        load_checkpoint(str(target), SETTINGS)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("", {"settings": None}),
        ("", {"bytes_written": "1"}),
        ("", {"bytes_written": -1}),
        ("position", {"bytes_read": None}),
        ("position", {"sha256": 3}),
        ("report", {"words": "1"}),
        ("report", {"limit": True}),
        ("report", {"unknown_count": 1.5}),
        ("report", {"unknown": [[7, ["7"]]]}),
        ("report", {"unknown": [["7", [7]]]}),
    ],
)
def test_checkpoint_with_other_kinds_is_refused(
    tmp_path: Path, part: str, changes: dict[str, object]
) -> None:
    target = tmp_path / "out.tsv"
    interrupt(target, b"one\n")
    path = tmp_path / "out.tsv.resume"
    document = json.loads(path.read_text())
    (document[part] if part else document).update(changes)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(str(target), SETTINGS)


def test_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    interrupt(target, b"one\n")
    path = tmp_path / "out.tsv.resume"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="is of another version"):
        load_checkpoint(str(target), SETTINGS)


def test_errors_have_a_cause(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught, largest_file(0):
        with open_output(str(tmp_path / "out.tsv")) as output:
            output.write(b"one\n")
    assert caught.value.__cause__.errno == errno.EFBIG
