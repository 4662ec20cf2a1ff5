"""The data goes through a real DVC repository and back, and nothing depends on there being one."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import storage
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.preprocessing import ensure_example, ensure_prepared
from tests.conftest import REPOSITORY, compose_lexicon_config

IGNORED = "/.dvc_storage/\n/data/raw/cmudict.dict\n/data/prepared/\n/data/example/*.txt\n"


def run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=tester", "-c", "user.email=tester@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone of this repository holds of data: everything but the data."""
    pytest.importorskip("dvc")
    for name in (
        ".dvc/config",
        ".dvc/.gitignore",
        ".dvcignore",
        "dvc.yaml",
        "dvc.lock",
        "configs/data/cmudict.yaml",
        "configs/preprocessing/default.yaml",
        "data/raw/cmudict.dict.dvc",
        "data/example/words.txt.dvc",
        "data/example/sample_words.txt.dvc",
    ):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, target)
    (tmp_path / ".gitignore").write_text(IGNORED)
    run_git(tmp_path, "init", "--quiet")
    run_git(tmp_path, "add", "--all")
    run_git(tmp_path, "commit", "--quiet", "--message", "clone")
    return tmp_path


def place_raw(clone: Path, cmudict_path: Path) -> Path:
    path = clone / "data" / "raw" / "cmudict.dict"
    shutil.copyfile(cmudict_path, path)
    return path


def lose_data(clone: Path, *, storage_too: bool = False) -> None:
    for name in ("data/prepared", ".dvc/cache", *([".dvc_storage"] if storage_too else [])):
        shutil.rmtree(clone / name, ignore_errors=True)
    for path in (clone / "data").rglob("*"):
        if path.suffix in (".dict", ".txt"):
            path.unlink()


def compose_offline(root: Path, *overrides: str, **groups: str) -> DictConfig:
    """Nothing but the storage is reachable."""
    return compose_lexicon_config(
        f"paths.root={root}", "data.download.sources=[dvc]", *overrides, **groups
    )


@pytest.mark.parametrize("stress", ["keep", "strip"])
def test_round_trip(clone: Path, cmudict_path: Path, stress: str, caplog) -> None:
    caplog.set_level(logging.INFO)
    config = compose_offline(clone, f"preprocessing.stress={stress}")
    raw_path = place_raw(clone, cmudict_path)
    paths = ensure_prepared(config)
    assert "are under DVC now" in caplog.text
    assert storage.keep([raw_path], config.storage) == (True, "")
    # What was made is, to the bit, what dvc.lock and the .dvc files in Git record.
    assert run_git(clone, "status", "--porcelain") == ""
    contents = [path.read_bytes() for path in paths]

    lose_data(clone)
    assert not any(path.exists() for path in paths)
    assert [path.read_bytes() for path in ensure_prepared(config)] == contents
    assert f"fetched {paths.train.parent} from the DVC remote" in caplog.text
    # The raw lexicon was not needed for that; it comes from the remote on its own.
    assert not raw_path.exists()
    assert download_data(config).read_bytes() == cmudict_path.read_bytes()
    assert run_git(clone, "status", "--porcelain") == ""


def test_damaged_prepared_file_is_fetched_again(clone: Path, cmudict_path: Path) -> None:
    config = compose_offline(clone)
    place_raw(clone, cmudict_path)
    paths = ensure_prepared(config)
    whole = paths.dev.read_bytes()
    lose_data(clone)
    paths.dev.parent.mkdir(parents=True)
    paths.dev.write_bytes(whole[:-10])
    assert ensure_prepared(config).dev.read_bytes() == whole


def test_example_is_fetched_alone(clone: Path, cmudict_path: Path) -> None:
    config = compose_offline(clone)
    place_raw(clone, cmudict_path)
    ensure_prepared(config)
    lose_data(clone)
    assert len(ensure_example(config).read_text().splitlines()) == 100
    assert not (clone / "data" / "prepared").exists()


def test_split_of_ones_own_stays_out_of_the_storage(clone: Path, cmudict_path: Path) -> None:
    config = compose_offline(clone, "data.split_sha256=null", "preprocessing.split.seed=1")
    place_raw(clone, cmudict_path)
    ensure_prepared(config)
    assert run_git(clone, "status", "--porcelain") == ""
    assert not (clone / ".dvc_storage").exists()


def test_empty_remote_is_said_in_one_line(clone: Path, caplog, capfd) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(UserError, match="dvc: the remote does not hold it"):
        download_data(compose_offline(clone))
    assert [record.getMessage() for record in caplog.records] == [
        "not from the DVC remote: the remote does not hold it, as is normal on a fresh clone"
    ]
    assert capfd.readouterr() == ("", "")


def test_download_refills_a_lost_storage(clone: Path, cmudict_path: Path) -> None:
    config = compose_offline(
        clone, "data.download.sources=[dvc,https]", f"data.download.url={cmudict_path.as_uri()}"
    )
    raw_path = download_data(config)
    lose_data(clone)
    assert storage.pull([raw_path], config.storage).done
    assert raw_path.read_bytes() == cmudict_path.read_bytes()
    lose_data(clone, storage_too=True)
    assert not storage.pull([raw_path], config.storage).done


def test_new_file_is_added_only_when_asked(clone: Path) -> None:
    config = compose_offline(clone)
    path = clone / "data" / "other.txt"
    path.write_text("other\n")
    assert not storage.keep([path], config.storage).done
    assert not path.with_name("other.txt.dvc").exists()
    assert storage.keep([path], config.storage, add_new=True).done
    path.unlink()
    shutil.rmtree(clone / ".dvc" / "cache")
    assert storage.pull([path], config.storage).done
    assert path.read_text() == "other\n"


def test_other_remote_by_configuration(clone: Path, cmudict_path: Path) -> None:
    remote = clone.with_name(f"{clone.name}_remote")
    config = compose_offline(clone)
    config.storage.remote = {"url": str(remote), "verify": None}
    config.storage.name = "elsewhere"
    raw_path = place_raw(clone, cmudict_path)
    assert storage.keep([raw_path], config.storage).done
    assert not (clone / ".dvc_storage").exists()
    lose_data(clone)
    assert storage.pull([raw_path], config.storage).done
    assert run_git(clone, "status", "--porcelain") == ""


def test_unreachable_s3(clone: Path, monkeypatch) -> None:
    pytest.importorskip("dvc_s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    config = compose_offline(
        clone,
        "storage.remote.url=s3://bucket/folder",
        "storage.remote.endpointurl=http://127.0.0.1:9",
        storage="s3",
    )
    outcome = storage.pull([clone / "data" / "raw" / "cmudict.dict"], config.storage)
    assert not outcome.done
    assert outcome.reason and "\n" not in outcome.reason


@pytest.mark.parametrize("name", ["s3", "gdrive"])
def test_remote_without_address(tmp_path: Path, name: str) -> None:
    config = compose_offline(tmp_path, storage=name)
    with pytest.raises(UserError, match=f"give it with storage.remote.url={name}://"):
        download_data(config)


def test_outside_of_a_repository(tmp_path: Path) -> None:
    config = compose_offline(tmp_path)
    outcome = storage.pull([tmp_path / "data" / "raw" / "cmudict.dict"], config.storage)
    assert not outcome.done and "is in no DVC repository" in outcome.reason


def test_repository_without_git(clone: Path) -> None:
    shutil.rmtree(clone / ".git")
    outcome = storage.pull(
        [clone / "data" / "raw" / "cmudict.dict"], compose_offline(clone).storage
    )
    assert not outcome.done and "git repository" in outcome.reason


def test_without_dvc(clone: Path, monkeypatch) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    outcome = storage.pull(
        [clone / "data" / "raw" / "cmudict.dict"], compose_offline(clone).storage
    )
    assert outcome == (False, "DVC is not installed (the extra 'data' brings it)")


def test_switched_off(clone: Path, cmudict_path: Path) -> None:
    config = compose_offline(clone, "storage.pull=false", "storage.push=false")
    raw_path = place_raw(clone, cmudict_path)
    assert "storage.pull" in storage.pull([raw_path], config.storage).reason
    assert "storage.push" in storage.keep([raw_path], config.storage).reason
    assert not (clone / ".dvc_storage").exists()


def test_inside_a_stage_dvc_is_left_to_itself(clone: Path, monkeypatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "prepare-stress-keep")
    config = compose_offline(clone)
    outcome = storage.pull([clone / "data" / "raw" / "cmudict.dict"], config.storage)
    assert not outcome.done and "as a stage" in outcome.reason


def test_dvc_telemetry_is_off_in_the_repository(clone: Path) -> None:
    for setting in ("core.analytics", "core.check_update"):
        shown = subprocess.run(
            [sys.executable, "-m", "dvc", "config", setting],
            cwd=clone,
            check=True,
            capture_output=True,
            text=True,
        )
        assert shown.stdout.strip() == "false"


def test_importing_the_room_brings_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "import grapheme_to_phoneme.lexicon.data\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'numpy', 'dvc', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "[]"
