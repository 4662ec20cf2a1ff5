"""A package is whole, says where it comes from, and is refused once a byte has changed."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.package import (
    MANIFEST_NAME,
    lexicon_file,
    model_file,
    write_manifest,
)
from tests.conftest import TinyRun, run_g2p

WORDS = ["stone", "kitten", "o'neil"]


@pytest.fixture(scope="module")
def package(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, packaged by the real command."""
    folder = tmp_path_factory.mktemp("packages") / "tiny"
    completed = run_g2p(
        "package", "--run", "runs/tiny", f"package.output={folder}", cwd=tiny_run.folder
    )
    assert completed.returncode == 0, completed.stderr.decode()
    assert f"try it: g2p infer --model {folder}" in completed.stderr.decode()
    return folder


@pytest.fixture
def copy(package: Path, tmp_path: Path) -> Path:
    """One to damage."""
    return Path(shutil.copytree(package, tmp_path / "copy"))


def test_package_is_whole(package: Path, tiny_run: TinyRun) -> None:
    names = {path.name for path in package.iterdir()}
    assert names == {
        "LICENSE",
        "MODEL_CARD.md",
        "SOURCE.md",
        "float16.onnx",
        "float32.onnx",
        "int8.onnx",
        MANIFEST_NAME,
    }
    assert "Apache License" in (package / "LICENSE").read_text()
    metadata = Pronouncer(package, threads=1).metadata
    card, source = ((package / name).read_text() for name in ("MODEL_CARD.md", "SOURCE.md"))
    assert str(metadata.scores["dev_wer"]) in card and "en-US" in card
    assert metadata.git_commit in source and metadata.split_sha256["train"] in source
    assert set(json.loads((package / MANIFEST_NAME).read_text())["sha256"]) == names - {
        MANIFEST_NAME
    }


def test_package_says_what_the_model_file_says(package: Path, tiny_run: TinyRun) -> None:
    expected = Pronouncer(tiny_run.model, threads=1).pronounce(WORDS, n_best=2)
    assert Pronouncer(package, threads=1).pronounce(WORDS, n_best=2) == expected
    by_command = run_g2p("infer", "--model", package, *WORDS).stdout.decode().splitlines()
    assert by_command == [f"{answer.word}\t{' '.join(answer.phones)}" for answer in expected]


def test_packed_lexicon_makes_known_words_exact(tiny_run: TinyRun, tmp_path: Path) -> None:
    target = tmp_path / "whole"
    completed = run_g2p(
        "package",
        "--run",
        "runs/tiny",
        "package.lexicon=train",
        f"package.output={target}",
        cwd=tiny_run.folder,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    lexicon: dict[str, list[str]] = {}
    for entry in tiny_run.lexicon.train:
        lexicon.setdefault(entry.spelling, []).append(" ".join(entry.phones))
    pronouncer = Pronouncer(target, threads=1)
    answers = pronouncer.pronounce([*lexicon, "kubernetes"])
    assert [" ".join(answer.phones) for answer in answers[:-1]] == [
        phones[0] for phones in lexicon.values()
    ]
    assert {answer.source for answer in answers[:-1]} == {"lexicon"}
    model_alone = Pronouncer(target, threads=1, use_lexicon=False).pronounce(["kubernetes"])
    assert answers[-1:] == model_alone and answers[-1].source == "model"
    # The user's own dictionary still comes first.
    word = next(iter(lexicon))
    pronouncer.use_dictionary({word: [("X",)]})
    assert pronouncer.pronounce([word])[0].source == "dictionary"
    by_command = run_g2p("infer", "--model", target, "--show-source", word).stdout.decode()
    assert by_command == f"{word}\t{lexicon[word][0]}\tlexicon\n"
    setting = ("--overrides", "infer.use_lexicon=false")
    without = run_g2p("infer", "--model", target, "--show-source", word, *setting)
    assert without.stdout.decode().endswith("\tmodel\n")


def test_unknown_choice_of_a_lexicon(tiny_run: TinyRun, tmp_path: Path) -> None:
    completed = run_g2p(
        "package",
        "--run",
        "runs/tiny",
        "package.lexicon=some",
        f"package.output={tmp_path / 'one'}",
        cwd=tiny_run.folder,
    )
    assert completed.returncode == 2
    assert b"say one of none, train, all" in completed.stderr
    assert not (tmp_path / "one").exists()


def test_lexicon_with_another_part_is_not_packed(tiny_run: TinyRun, tmp_path: Path) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_bytes(tiny_run.lexicon.dev_path.read_bytes() + b"zzyzx\tZ AY Z IH K S\n")
    completed = run_g2p(
        "package",
        *("--run", "runs/tiny", "package.lexicon=all", f"data.dev_path={dev}"),
        f"package.output={tmp_path / 'package'}",
        cwd=tiny_run.folder,
    )
    assert completed.returncode == 2
    assert "the lexicon's part dev is not the one" in completed.stderr.decode()
    assert not (tmp_path / "package").exists()


def test_package_is_never_overwritten(package: Path, tiny_run: TinyRun) -> None:
    before = (package / MANIFEST_NAME).read_bytes()
    completed = run_g2p(
        "package", "--run", "runs/tiny", f"package.output={package}", cwd=tiny_run.folder
    )
    assert completed.returncode == 2 and b"exists already" in completed.stderr
    assert (package / MANIFEST_NAME).read_bytes() == before


@pytest.mark.parametrize("name", ["int8.onnx", "LICENSE", "MODEL_CARD.md"])
def test_changed_byte_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is not what it was"):
        model_file(copy)


def test_missing_file_is_refused(copy: Path) -> None:
    (copy / "float32.onnx").unlink()
    with pytest.raises(UserError, match="float32.onnx is missing"):
        model_file(copy)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format_version": 2}, "format version 2, this program reads 1"),
        ({"default": "../../model.onnx"}, "is damaged"),
        ({"sha256": {"../int8.onnx": "0"}, "default": "../int8.onnx"}, "is damaged"),
        ({"sha256": 3}, "is damaged"),
        ({"sha256": ["int8.onnx"], "default": "int8.onnx"}, "is damaged"),
    ],
)
def test_strange_manifest_is_refused(copy: Path, changes: dict, told: str) -> None:
    path = copy / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=told):
        model_file(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_manifest_that_is_none_is_refused(copy: Path, content: bytes) -> None:
    (copy / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        model_file(copy)


def test_folder_that_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no package that `g2p package` wrote"):
        model_file(tmp_path)


@pytest.mark.parametrize("find", [model_file, lexicon_file])
@pytest.mark.parametrize("is_found", [True, False])
def test_model_that_may_not_be_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    find: Callable[[Path], Path | None],
    is_found: bool,
) -> None:
    """The system refuses to say what is there, or refuses to open it."""
    (tmp_path / "model.onnx").write_bytes(b"abc")
    write_manifest(tmp_path, "model.onnx")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open" if is_found else "stat", refuse)
    if is_found:
        monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match=f"cannot read the model {tmp_path}: Permission denied"):
        find(tmp_path)


def test_name_that_is_too_long() -> None:
    with pytest.raises(UserError, match="cannot read the model x*: File name too long"):
        model_file(Path("x" * 300))


def test_manifest_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"abc")
    write_manifest(tmp_path, "model.onnx")
    assert model_file(tmp_path) == tmp_path / "model.onnx"


def test_run_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "runs" / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "begun" / "overrides.yaml").write_text("[]")
    completed = run_g2p("package", cwd=tmp_path)
    assert completed.returncode == 2
    assert completed.stderr.decode().splitlines()[-1].startswith("g2p: error: ")
    assert b"has no exported model" in completed.stderr


def test_licence_of_the_data_must_be_there(tiny_run: TinyRun, tmp_path: Path) -> None:
    output = f"package.output={tmp_path / 'one'}"
    completed = run_g2p(
        "package", "--run", "runs/tiny", output, "data.licence_path=none.txt", cwd=tiny_run.folder
    )
    assert completed.returncode == 2 and b"must travel with the model" in completed.stderr
    assert not (tmp_path / "one").exists()
    licence = tmp_path / "licence.txt"
    licence.write_text("free to use")
    completed = run_g2p(
        "package",
        "--run",
        "runs/tiny",
        output,
        f"data.licence_path={licence}",
        cwd=tiny_run.folder,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    assert (tmp_path / "one" / "LICENSE-data").read_text() == "free to use"


def test_package_goes_under_dvc(tiny_run: TinyRun, tmp_path: Path) -> None:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / "storage").mkdir()
    config = tmp_path / ".dvc" / "config"
    remote = "['remote \"local\"']\n    url = ../storage\n"
    config.write_text("[core]\n    no_scm = true\n    remote = local\n" + remote)
    target = tmp_path / "packages" / "one"
    completed = run_g2p(
        "package", "--run", "runs/tiny", f"package.output={target}", cwd=tiny_run.folder
    )
    assert "under DVC now" in completed.stderr.decode()
    assert target.with_name("one.dvc").is_file()
    shutil.rmtree(target)
    with Repo(str(tmp_path)) as repo:
        repo.pull(targets=[str(target.with_name("one.dvc"))])
    assert model_file(target) == target / "int8.onnx"
    # Another clone has the .dvc file alone.
    shutil.rmtree(target)
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    asked = run_g2p("infer", "--model", str(target), "stone")
    assert asked.returncode == 0, asked.stderr.decode()
    assert asked.stdout.startswith(b"stone\t")
    shutil.rmtree(target)
    asked = run_g2p("infer", "--model", str(target), "--overrides", "storage.pull=false", "stone")
    assert asked.returncode == 2
    assert asked.stderr.decode().splitlines()[-1] == (
        f"g2p: error: {target} is not here, and not from DVC: "
        "fetching is switched off by storage.pull"
    )
