"""Pronounces words with a model file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.base import (
    SOURCE_DICTIONARY,
    SOURCE_LEXICON,
    SOURCE_MODEL,
    Alignment,
    Alternative,
    Dictionary,
    Pronunciation,
)
from grapheme_to_phoneme.inference.graph import WORDS_INPUT, GraphPronouncer
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import lexicon_file, model_file

__all__ = [
    "SOURCE_DICTIONARY",
    "SOURCE_LEXICON",
    "SOURCE_MODEL",
    "Alignment",
    "Alternative",
    "Dictionary",
    "Pronouncer",
    "Pronunciation",
    "available_cores",
]


class Pronouncer(GraphPronouncer):
    """A loaded model. It may be used from several threads at once.

    Args:
        model: the model file, as ``g2p train`` or ``g2p export`` wrote it, or the folder that
            ``g2p package`` wrote.
        threads: batches that are worked on at once; 0 takes one per core.
        letters_per_batch: most letters in a batch, which bounds the memory; 0 for as many as
            suit the network.
        longest_word: longer words are pronounced piece by piece, in letters.
        dictionary: see :meth:`use_dictionary`.
        use_lexicon: whether a package's lexicon, where it has one, answers for the words that
            it holds and the dictionary does not.
        notation: what the phones of answers are written in, one of
            ``grapheme_to_phoneme.notation.NOTATIONS``; the model's own if None.
        language: which of its languages words are in, for a model of several: a code or a
            BCP 47 tag. If None, every word has the tag of its language in front, see
            :class:`ModelLanguage`.

    Raises:
        UserError: if the file is missing, damaged, or no model of this package's format, as
            :func:`model_file` says of a folder, if a word of the dictionary has no spelling
            or no phones, if a phone of the model has no exact counterpart in ``notation``, or
            if the model does not know the language.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int = 0,
        letters_per_batch: int = 0,
        longest_word: int = 256,
        dictionary: Dictionary | None = None,
        use_lexicon: bool = True,
        notation: str | None = None,
        language: str | None = None,
    ) -> None:
        path = model_file(Path(model))
        options = onnxruntime.SessionOptions()
        # One thread for a batch and batches side by side: threads that share the many small
        # operations of the search would spend half their time waiting for each other.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions for an unreadable file share no base class but this.
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(f"{path} is no ONNX model that can be loaded: {reason}") from error
        # What nobody asks for is not computed, such as the chunks' texts.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        metadata = ModelMetadata.from_properties(
            self._session.get_modelmeta().custom_metadata_map, str(path)
        )
        if self._session.get_inputs()[0].name != WORDS_INPUT:
            raise UserError(
                f"{path} is a core network, which takes ids: the model that takes words is "
                "model.onnx, beside its folder"
            )
        super().__init__(
            metadata,
            threads or available_cores(),
            letters_per_batch,
            longest_word,
            dictionary,
            lexicon_file(Path(model)) if use_lexicon else None,
            notation,
            language,
        )

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        values = self._session.run(
            outputs,
            {
                WORDS_INPUT: np.array(batch, dtype=object),
                "beam_size": np.array([beam_size], dtype=np.int64),
            },
            self._run_options,
        )
        return [value.tolist() for value in values]


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
