"""Drives one system behind a line protocol that is the same for all of them.

``python -P benchmarks/adapter.py SYSTEM [MODEL]`` runs in the system's own environment, so it
needs nothing but Python and that system. A request is a line of JSON on standard input: a list
of calls, each a list of words. The answer is a line of JSON on standard output: ``answers``, the
phones of every word in order, separated by spaces, and ``seconds``, how long each call took,
without the protocol.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

#: Gives the phones of each word, separated by spaces.
Pronounce = Callable[[Sequence[str]], list[str]]


def load_ours(model: str) -> Pronounce:
    """Load this project's library; it takes the cores that the process may use."""
    # Modules are imported by name: each environment holds one system alone.
    pronouncer = importlib.import_module("grapheme_to_phoneme").Pronouncer(model)
    return lambda words: [" ".join(answer.phones) for answer in pronouncer.pronounce(words)]


def load_phonetisaurus(model: str) -> Pronounce:
    """Take Phonetisaurus' own function, which starts its decoder for every call.

    The decoder reads all words before it answers any, so that it cannot be kept running.
    """
    predict = importlib.import_module("phonetisaurus").predict

    def pronounce(words: Sequence[str]) -> list[str]:
        # Words that it has nothing to say to are left out.
        said = {word: " ".join(phones) for word, phones in predict(words, model)}
        return [said.get(word, "") for word in words]

    return pronounce


def load_espeak_ng() -> Pronounce:
    """Load espeak-ng as a library through phonemizer."""
    loader = importlib.import_module("espeakng_loader")
    wrapper = importlib.import_module("phonemizer.backend.espeak.wrapper").EspeakWrapper
    wrapper.set_library(loader.get_library_path())
    wrapper.set_data_path(loader.get_data_path())
    backend = importlib.import_module("phonemizer.backend").EspeakBackend(
        "en-us", with_stress=True
    )
    separator = importlib.import_module("phonemizer.separator").Separator(phone=" ", word="| ")
    return lambda words: backend.phonemize(list(words), separator=separator, strip=True)


def load_g2p_en() -> Pronounce:
    """Load g2p_en; its network is asked, not the dictionary that it consults before."""
    model = importlib.import_module("g2p_en").G2p()
    return lambda words: [" ".join(model.predict(word)) for word in words]


def load_gruut() -> Pronounce:
    """Load the tagger of gruut's English; it is asked, not the lexicon before it."""
    folder = importlib.import_module("gruut_lang_en").get_lang_dir()
    tagger = importlib.import_module("gruut.g2p").GraphemesToPhonemes
    model = tagger(folder / "g2p" / "model.crf")
    return lambda words: [" ".join(model(word)) for word in words]


def load_hama() -> Pronounce:
    """Load hama's network."""
    model = importlib.import_module("hama").G2PModel()
    return lambda words: [" ".join(model.predict(word).ipa.split()) for word in words]


LOADERS: dict[str, Callable[..., Pronounce]] = {
    "ours": load_ours,
    "phonetisaurus": load_phonetisaurus,
    "espeak_ng": load_espeak_ng,
    "g2p_en": load_g2p_en,
    "gruut": load_gruut,
    "hama": load_hama,
}


def serve(pronounce: Pronounce, requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for request in requests:
        said: list[str] = []
        seconds = []
        for words in json.loads(request):
            started = time.perf_counter()
            spoken = pronounce(words)
            seconds.append(time.perf_counter() - started)
            said.extend(spoken)
        answers.write(json.dumps({"answers": said, "seconds": seconds}) + "\n")
        answers.flush()


def main() -> None:
    """Load the system that the command line names, and serve it."""
    system, *arguments = sys.argv[1:]
    # What the system itself prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    serve(LOADERS[system](*arguments), sys.stdin, answers)


if __name__ == "__main__":
    main()
