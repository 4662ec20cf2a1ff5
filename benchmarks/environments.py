"""Makes an environment for every system that is measured, each with its own pinned packages."""

import hashlib
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "benchmarks" / "requirements"

#: What is made stays here, and is made anew where its requirements have changed.
DIRECTORY = REPOSITORY / ".benchmark"

#: CMUdict's spelling of a further pronunciation.
FURTHER = re.compile(r"(?P<word>.+)\((?P<number>\d+)\)")


@dataclass(frozen=True)
class Training:
    """A trained model.

    Attributes:
        model: its file.
        seconds: how long the training took.
    """

    model: Path
    seconds: float


def make_environment(name: str) -> Path:
    """Make the environment of a system and return its interpreter.

    ``ours`` gets the base install of this repository as it is now, in the versions of
    ``poetry.lock``; the others what ``requirements/NAME.txt`` pins.
    """
    folder = DIRECTORY / "environments" / name
    python = folder / "bin" / "python"
    stamp = folder / "requirements.txt"
    if name == "ours":
        lock = tomllib.loads((REPOSITORY / "poetry.lock").read_text(encoding="utf-8"))
        pins = "".join(f"{item['name']}=={item['version']}\n" for item in lock["package"])
    else:
        pins = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    is_new = not stamp.is_file() or stamp.read_text(encoding="utf-8") != pins
    if is_new:
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder)
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    if name == "ours":
        constraints = DIRECTORY / "constraints.txt"
        constraints.write_text(pins, encoding="utf-8")
        if is_new:
            _run(*install, "--constraint", constraints, REPOSITORY)
        else:
            # Only the code may have changed, not its version.
            _run(*install, "--no-deps", "--force-reinstall", REPOSITORY)
    elif is_new:
        _run(*install, "--requirement", REQUIREMENTS / f"{name}.txt")
    stamp.write_text(pins, encoding="utf-8")
    return python


def train_phonetisaurus(python: Path, lexicon: Path) -> Training:
    """Train Phonetisaurus' 8-gram model, unless it has been trained on these very entries.

    Args:
        python: the interpreter of its environment.
        lexicon: the entries, ``spelling<TAB>phones``.
    """
    digest = hashlib.sha256(lexicon.read_bytes()).hexdigest()
    model = DIRECTORY / "phonetisaurus" / f"{digest[:16]}.fst"
    record = model.with_suffix(".seconds")
    if not record.is_file():
        model.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        _run(python, "-m", "phonetisaurus", "train", "--model", model, lexicon)
        # Written last, so that a model without it is none.
        record.write_text(f"{time.perf_counter() - started:.1f}\n", encoding="utf-8")
    return Training(model, float(record.read_text(encoding="utf-8")))


def make_nltk_data(raw_lexicon: Path) -> Path:
    """Write what g2p_en wants of NLTK's downloads, so that it starts without a network.

    The dictionary is CMUdict in NLTK's form. The tagger's archive is empty: g2p_en looks whether
    it is there, and needs it for sentences alone.

    Args:
        raw_lexicon: CMUdict's own file.
    """
    folder = DIRECTORY / "nltk_data"
    for name, content in (
        ("corpora/cmudict.zip", {"cmudict/cmudict": nltk_lexicon(raw_lexicon)}),
        ("taggers/averaged_perceptron_tagger.zip", {}),
    ):
        archive = folder / name
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for inner, text in content.items():
                file.writestr(inner, text)
    return folder


def nltk_lexicon(raw_lexicon: Path) -> str:
    """Return CMUdict as NLTK has it: ``WORD number phones…``, a line each."""
    lines = []
    for line in raw_lexicon.read_text(encoding="utf-8").splitlines():
        word, *phones = line.partition("#")[0].split()
        further = FURTHER.fullmatch(word)
        number = further["number"] if further else "1"
        lines.append(" ".join((further["word"] if further else word, number, *phones)).upper())
    return "\n".join(lines) + "\n"


def _run(*command: str | Path) -> None:
    """Run a command; its output is shown only where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shown = " ".join(map(str, command))
        raise SystemExit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nfailed: {shown}")
