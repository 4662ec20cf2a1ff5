"""Lexicons are found by their language, obtained whole, and survive in every script."""

import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import storage
from grapheme_to_phoneme.lexicon.catalogues import (
    CATALOGUES,
    find_shared_task,
    find_wikipron,
    list_lexicons,
    locate,
    shared_task_lexicons,
    table_commit,
    wikipron_lexicons,
)
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.lexicon.formats import FORMATTERS, PARSERS
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.lexicon.records import Record
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.normalization import Normalization
from tests.conftest import TINY_RUN_LIMIT_S, TinyRun, compose_lexicon_config, run_g2p

#: What the names of WikiPron's scripts are in Unicode's names of characters, where they differ.
UNICODE_SCRIPTS = {
    "Han": "CJK",
    "Gurmukhi": "GURMUKHI",
    "Canadian Aboriginal": "CANADIAN SYLLABICS",
}

LINES = 40


@cache
def letters_of_all_scripts() -> dict[str, list[str]]:
    """Return every character of each of WikiPron's scripts, marks and joiners included."""
    names = {
        item.script_name: UNICODE_SCRIPTS.get(item.script_name, item.script_name.upper())
        for item in wikipron_lexicons()
    }
    found: dict[str, list[str]] = {name: [] for name in names}
    for code in range(0x110000):
        character = chr(code)
        unicode_name = unicodedata.name(character, "")
        if unicodedata.category(character)[0] not in "LM":
            continue
        for script, beginning in names.items():
            if unicode_name.startswith(f"{beginning} "):
                found[script].append(character)
    return found


@st.composite
def words(draw: st.DrawFn) -> str:
    """A word of one of the scripts, with marks and joiners anywhere."""
    letters = letters_of_all_scripts()[draw(st.sampled_from(sorted(letters_of_all_scripts())))]
    return draw(
        st.text(
            st.sampled_from([*letters[:2000], "\u0301", "\u0327", "\u200c", "\u200d"]),
            min_size=1,
            max_size=8,
        )
    )


class Handler(BaseHTTPRequestHandler):
    """Gives the files that the server's test put there."""

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        """Keep the tests' output free of the server's log."""


@pytest.fixture
def source() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def lexicon_bytes(lines: int = LINES) -> bytes:
    return "".join(f"parola{number}\tp a r ɔ l a\n" for number in range(lines)).encode()


def compose(root: Path, data: str, *overrides: str) -> DictConfig:
    return compose_lexicon_config(f"paths.root={root}", *overrides, data=data)


def test_tables_are_those_of_their_sources() -> None:
    lexicons = wikipron_lexicons()
    unfiltered = [item for item in lexicons if not item.filtered]
    # The sums that the source's own page gives.
    assert len({item.language for item in lexicons}) == 349
    assert len({item.script for item in lexicons}) == 42
    assert sum(item.transcription == "broad" for item in lexicons) == 343
    assert sum(item.transcription == "narrow" for item in lexicons) == 189
    assert sum(item.entries for item in unfiltered) == 4_113_530
    assert len({item.stem for item in lexicons}) == len(lexicons)
    tasks = shared_task_lexicons()
    assert len(tasks) == 21
    sizes = {"low": (800, 10), "medium": (8000, 10), "high": (33344, 1)}
    for size, (entries, languages) in sizes.items():
        chosen = [item for item in tasks if item.size == size]
        assert len(chosen) == languages
        assert all(item.entries["train"] == entries for item in chosen)
    for catalogue in CATALOGUES:
        config = compose_lexicon_config(data=catalogue)
        assert config.data.download.commit == table_commit(catalogue)


@pytest.mark.parametrize(
    ("wanted", "stem", "tag"),
    [
        ({"language": "ita"}, "ita_latn_broad", "it"),
        ({"language": "it"}, "ita_latn_broad", "it"),
        ({"language": "Italian"}, "ita_latn_broad", "it"),
        ({"language": "mon"}, "mon_cyrl_broad", "mn"),
        ({"language": "mnw"}, "mnw_mymr_broad", "mnw"),
        ({"language": "ita", "filtered": True}, "ita_latn_broad_filtered", "it"),
        ({"language": "fas"}, "fas_arab_narrow", "fa"),
        ({"language": "fas", "transcription": "broad"}, "fas_arab_broad", "fa"),
        ({"language": "eng", "dialect": "us"}, "eng_latn_us_broad", "en"),
        ({"language": "hbs", "script": "Cyrl"}, "hbs_cyrl_broad", "sh-Cyrl"),
        ({"language": "msa", "script": "arab"}, "msa_arab_broad", "ms-Arab"),
        ({"language": "msa", "script": "arab", "dialect": "ara"}, "msa_arab_ara_broad", "ms-Arab"),
        ({"language": "ady"}, "ady_cyrl_narrow", "ady"),
    ],
)
def test_finding(wanted: dict, stem: str, tag: str) -> None:
    found = find_wikipron(**wanted)
    assert (found.stem, found.tag) == (stem, tag)


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"language": "itx"}, "there is no language 'itx': did you mean ita (Italian)"),
        ({"language": "italien"}, "did you mean ita (Italian)"),
        ({"language": "qqqq"}, "there is no language 'qqqq': `g2p languages` lists"),
        ({"language": None}, "say which language: data.language=CODE"),
        ({"language": "eng"}, "say data.dialect=uk or data.dialect=us"),
        ({"language": "hbs"}, "say data.script=cyrl or data.script=latn"),
        ({"language": "deu", "script": "cyrl"}, "no script 'cyrl' for German (deu): say data.s"),
        ({"language": "ita", "transcription": "narrow"}, "say data.transcription=broad"),
        ({"language": "ita", "dialect": "rome"}, "leave data.dialect out"),
        ({"language": "abk", "filtered": True}, "no filtered lexicon for Abkhaz (abk)"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(wanted: dict, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        find_wikipron(**wanted)
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_every_lexicon_can_be_named() -> None:
    for item in wikipron_lexicons():
        wanted = {"script": item.script, "transcription": item.transcription}
        if item.dialect:
            wanted["dialect"] = item.dialect
        assert find_wikipron(item.language, filtered=item.filtered, **wanted) == item


def test_sizes_of_the_shared_task() -> None:
    assert find_shared_task("ice").size == "low"
    assert find_shared_task("Icelandic", "low").tag == "is"
    with pytest.raises(UserError, match="in the size low, not high: say data.size=low"):
        find_shared_task("ita", "high")
    with pytest.raises(UserError, match="unknown data.size 'big'"):
        find_shared_task("ita", "big")
    with pytest.raises(UserError, match="did you mean eng_us"):
        find_shared_task("eng_uk")


def test_list() -> None:
    unfiltered = sum(not item.filtered for item in wikipron_lexicons())
    assert len(list_lexicons()) == 1 + unfiltered + 21
    assert list_lexicons(["ital"])[1:] == [
        "wikipron\tita\tItalian\t79988\tLatin (latn), broad",
        "sigmorphon2021\tita\tItalian\t900\tlow",
    ]
    shown = run_g2p("languages", "Welsh", "--filtered")
    assert shown.returncode == 0
    assert "South Wales (sw), broad, filtered" in shown.stdout.decode()
    refused = run_g2p("languages", "welch")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"did you mean" in refused.stderr


def test_download(source: ThreadingHTTPServer, tmp_path: Path) -> None:
    config = compose(
        tmp_path,
        "wikipron",
        "data.language=ita",
        f"data.download.url={source.url}/${{data.filename}}",
    )
    locate(config)
    # The real number of lines is not needed to see that they are counted.
    config.data.entries = LINES
    source.files = {"/ita_latn_broad.tsv": lexicon_bytes(LINES - 1)}
    with pytest.raises(UserError, match="39 lines came, not the recorded 40"):
        download_data(config)
    source.files = {"/ita_latn_broad.tsv": lexicon_bytes()}
    path = download_data(config)
    assert path == tmp_path / "data/raw/wikipron/ita_latn_broad.tsv"
    source.files = {}
    assert download_data(config) == path
    data = load_data(config)
    assert (data.language, data.notation) == ("it", "ipa")
    assert len(data.train) + len(data.dev) + len(data.test) == LINES
    assert config.data.name == "wikipron-ita_latn_broad"
    # The examples of the default data must stay what they are.
    assert not (tmp_path / "data/example").exists()


def test_the_hash_of_the_first_download_counts(
    source: ThreadingHTTPServer, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    # `dvc` itself is on the PATH of activated environments alone.
    dvc = (sys.executable, "-m", "dvc")
    subprocess.run([*dvc, "init", "--quiet"], check=True, cwd=tmp_path)
    subprocess.run(
        [*dvc, "remote", "add", "--quiet", "--default", "local", tmp_path / "remote"],
        check=True,
        cwd=tmp_path,
    )
    config = compose(
        tmp_path,
        "wikipron",
        "data.language=ita",
        "data.verify=false",
        "storage.remote=null",
        f"data.download.url={source.url}/${{data.filename}}",
    )
    source.files = {"/ita_latn_broad.tsv": lexicon_bytes()}
    path = download_data(config)
    assert storage.recorded_md5(path) is not None
    path.unlink()
    assert download_data(config).read_bytes() == lexicon_bytes()

    source.files = {"/ita_latn_broad.tsv": lexicon_bytes().replace(b"parola7", b"Parola7")}
    path.write_bytes(b"damaged\n")
    config.data.download.sources = ["https"]
    with pytest.raises(UserError, match=r"not the file that DVC recorded \(MD5 differs\)"):
        download_data(config)


def test_an_unreachable_source_is_one_line(tmp_path: Path) -> None:
    done = run_g2p(
        "download-data",
        "data=wikipron",
        "data.language=ita",
        "data.download.url=http://127.0.0.1:1/",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    (fault,) = [line for line in done.stderr.decode().splitlines() if "error" in line]
    assert "could not obtain ita_latn_broad.tsv anywhere" in fault
    assert "data/raw/wikipron/ita_latn_broad.tsv, or name it with data.raw_path=FILE" in fault
    done = run_g2p(
        "download-data",
        "data=sigmorphon2021",
        "data.language=ice",
        "data.download.url=http://127.0.0.1:1",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert b"could not obtain ice_train.tsv anywhere" in done.stderr
    assert b"data.root=DIR" in done.stderr


@pytest.mark.parametrize("folder", [".", "tsv", "data/scrape/tsv"])
def test_wikipron_from_a_folder(tmp_path: Path, folder: str) -> None:
    file = tmp_path / "copy" / folder / "ita_latn_broad.tsv"
    file.parent.mkdir(parents=True)
    file.write_bytes(lexicon_bytes())
    overrides = ("data.language=ita", f"data.root={tmp_path / 'copy'}")
    with pytest.raises(UserError, match="it has 40 lines, not 79,988.*data.verify=false"):
        load_data(compose(tmp_path, "wikipron", *overrides))
    data = load_data(compose(tmp_path, "wikipron", *overrides, "data.verify=false"))
    assert len(data.train) == 33
    file.unlink()
    with pytest.raises(UserError, match="has no ita_latn_broad.tsv"):
        load_data(compose(tmp_path, "wikipron", *overrides))


def write_task(folder: Path, parts: dict[str, int]) -> None:
    folder.mkdir(parents=True)
    start = 0
    for part, lines in parts.items():
        entries = [Entry(f"orð{start + number}", ("ɔ", "r", "ð")) for number in range(lines)]
        write_tsv(folder / f"ice_{part}.tsv", entries)
        start += lines


@pytest.mark.parametrize("folder", ["low", "data/low", "."])
def test_the_shared_task_from_a_folder(tmp_path: Path, folder: str) -> None:
    write_task(tmp_path / "copy" / folder, {"train": 20, "dev": 5})
    overrides = ("data.language=ice", "data.size=low", f"data.root={tmp_path / 'copy'}")
    with pytest.raises(UserError, match="its SHA-256 is .*data.verify=false"):
        load_data(compose(tmp_path, "sigmorphon2021", *overrides))
    config = compose(tmp_path, "sigmorphon2021", *overrides, "data.verify=false")
    data = load_data(config)
    assert (len(data.train), len(data.dev), data.test) == (20, 5, None)
    assert (data.language, data.notation) == ("is", "ipa")
    write_task(tmp_path / "other" / folder, {"train": 20, "dev": 5, "test": 7})
    overrides = ("data.language=ice", f"data.root={tmp_path / 'other'}", "data.verify=false")
    assert len(load_data(compose(tmp_path, "sigmorphon2021", *overrides)).test) == 7


def test_the_shared_task_by_download(source: ThreadingHTTPServer, tmp_path: Path) -> None:
    overrides = (
        "data.language=ice",
        f"data.download.url={source.url}",
        "data.verify=false",
    )
    write_task(tmp_path / "low", {"train": 20, "dev": 5})
    source.files = {
        f"/low/{path.name}": path.read_bytes() for path in (tmp_path / "low").iterdir()
    }
    data = load_data(compose(tmp_path, "sigmorphon2021", *overrides))
    # Its source has no test part here, which is no reason to stop.
    assert (len(data.train), len(data.dev), data.test) == (20, 5, None)
    with pytest.raises(UserError, match="could not obtain ice_train.tsv.*SHA-256 differs"):
        (tmp_path / "data/raw/sigmorphon2021/low/ice_train.tsv").unlink()
        load_data(compose(tmp_path, "sigmorphon2021", *overrides, "data.verify=true"))


def test_cmudict_from_a_folder(cmudict_path: Path, tmp_path: Path) -> None:
    config = compose(tmp_path, "cmudict", f"data.root={cmudict_path.parent}")
    assert download_data(config) == cmudict_path
    with pytest.raises(UserError, match="has no cmudict.dict"):
        download_data(compose(tmp_path, "cmudict", f"data.root={tmp_path}"))


def test_scripts_are_found() -> None:
    assert all(len(letters) > 20 for letters in letters_of_all_scripts().values())


@given(word=words())
def test_words_of_every_script_survive(
    word: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = Record(word, ("a", "b"), probability=0.5, score=1.0)
    for name, parse in PARSERS.items():
        read = parse(FORMATTERS[name](record))
        assert (read.spelling, read.phones) == (word, record.phones)
    normalization = Normalization()
    normal = normalization.apply(word)
    for form in ("NFC", "NFD"):
        assert normalization.apply(unicodedata.normalize(form, word)) == normal
    assert normalization.apply(normal) == normal


def test_every_character_of_every_script_comes_back_as_given(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Through infer, with a model that knows none of them, and through a lexicon of them."""
    given_words = [
        "".join(letters[start : start + 30])
        for letters in letters_of_all_scripts().values()
        for start in range(0, min(len(letters), 3000), 30)
    ]
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in given_words), "utf-8")
    done = run_g2p("infer", "--model", tiny_run.model, "--input", tmp_path / "words.txt")
    assert done.returncode == 4
    answered = [line.split("\t")[0] for line in done.stdout.decode().split("\n")[:-1]]
    assert answered == given_words

    lexicon = tmp_path / "dictionary.tsv"
    lexicon.write_text("".join(f"{word}\tS T OW N\n" for word in given_words), "utf-8")
    for form in ("NFC", "NFD"):
        text = "".join(f"{unicodedata.normalize(form, word)}\n" for word in given_words)
        said = run_g2p(
            "infer",
            "--model",
            tiny_run.model,
            "--dictionary",
            lexicon,
            standard_input=text.encode(),
        )
        assert said.returncode == 0
        assert said.stdout.decode() == text.replace("\n", "\tS T OW N\n")
    for name in ("some.pls", "some.jsonl", "lexicon.txt", "back.tsv"):
        converted = run_g2p("convert-lexicon", lexicon, tmp_path / name)
        assert converted.returncode == 0, converted.stderr.decode()
        assert len(read_lexicon(tmp_path / name)) == len(given_words)
    assert (tmp_path / "back.tsv").read_bytes() == lexicon.read_bytes()


#: Lexicons at the edge, and what is said of those that nothing can be learnt from.
ODD_LEXICONS = {
    "five words of five letters": (
        "".join(f"{'abcde'[i:]}{'abcde'[:i]}\ta b\n" for i in range(5)),
        "",
    ),
    "one letter": ("".join(f"{'a' * i}\t{'a ' * i}\n" for i in range(1, 30)), ""),
    "one phone": ("".join(f"w{i % 10}{i // 10}\ta\n" for i in range(100)), ""),
    "very long words": (
        "".join(f"{'ab' * 400}{'ab'[i % 2] * i}\t{'a b ' * 400}\n" for i in range(20)),
        "",
    ),
    "thirty pronunciations": (
        "".join(
            f"abc\ta b {'xyz'[i % 3]} {'xyz' [i // 3 % 3]} {'xyz'[i // 9 % 3]} {i}\n"
            for i in range(30)
        )
        + "ab\ta b\nbc\tb x\nca\tx a\n",
        "",
    ),
    "five words without a letter in common": (
        "ab\ta\ncd\ta\nef\ta\ngh\ta\nij\ta\n",
        "no dev word has only letters that the training words have",
    ),
    "one word": ("ab\ta b\n", "a lexicon of 1 word cannot be divided"),
    "empty pronunciations": ("ab\ta b\nba\t\n", "line 2: 'ba' has no phones"),
    "more phones than letters can take": (
        "".join(f"{letter}\t{'a b ' * 20}\n" for letter in "abcdefgh"),
        "no training word can be aligned",
    ),
}


@pytest.mark.timeout(TINY_RUN_LIMIT_S + 60)
@pytest.mark.parametrize("name", ODD_LEXICONS)
def test_odd_lexicons_train_or_are_refused(tmp_path: Path, name: str) -> None:
    content, refusal = ODD_LEXICONS[name]
    (tmp_path / "odd.tsv").write_text(content)
    done = run_g2p(
        "train",
        "data=lexicon",
        "data.train_path=odd.tsv",
        "logger=none",
        "model.members=1",
        "model.recurrent_layers=1",
        "model.encoder_size=32",
        "model.history_size=16",
        "model.decoder_size=32",
        "model.output_size=32",
        "trainer.lightning.max_epochs=1",
        "export.tolerated_loss=100.0",
        "paths.run_dir=run",
        cwd=tmp_path,
    )
    told = done.stderr.decode()
    if refusal:
        assert done.returncode == 2
        assert refusal in told.splitlines()[-1]
        assert not (tmp_path / "run" / "model.onnx").exists()
        return
    assert done.returncode == 0, told
    word = content.partition("\t")[0]
    said = run_g2p("infer", "--model", "run/model.onnx", word, cwd=tmp_path)
    assert said.returncode == 0
    assert said.stdout.decode().startswith(f"{word}\t")
