"""What answers inside MLflow's scoring server.

A registered model carries this module and what it imports, `inference/` and the shared
vocabulary, so that its own requirements are enough to serve it: this package need not be
installed there.
"""

import os
from typing import Any

import pandas
from mlflow.pyfunc import PythonModel, PythonModelContext

from grapheme_to_phoneme.constants import MLFLOW_ARTIFACT
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.pronouncer import (
    Alignment,
    Alternative,
    Pronouncer,
    Pronunciation,
)
from grapheme_to_phoneme.serving.mlflow_guard import WORD_COLUMN, guard_server, refusal

#: MLflow sets it where the model is loaded to be served, and not in somebody's program.
SERVER_VARIABLE = "__pyfunc_model_path__"


class PronunciationModel(PythonModel):
    """Pronounces a column of words; a row of the answer for each, in their order.

    The settings are the group ``serve.scoring`` of the configuration. What is wrong with a
    request is told with the status 400.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model file."""
        self._settings: dict[str, int] = context.model_config
        self._pronouncer = Pronouncer(
            context.artifacts[MLFLOW_ARTIFACT],
            self._settings["threads"],
            self._settings["letters_per_batch"],
            self._settings["longest_piece"],
        )
        if SERVER_VARIABLE in os.environ:
            guard_server(self._settings["most_bytes"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pandas.DataFrame:
        """Pronounce words.

        Args:
            context: not used; MLflow gives it.
            model_input: one column, ``word``.
            params: ``n_best``, ``beam_size`` and ``with_alignment``, as for
                :meth:`Pronouncer.pronounce`.

        Returns:
            For each word ``word``, ``phones`` separated by spaces, ``probability``,
            ``alternatives``, ``unknown_characters`` and ``source``, and with alignment
            ``alignment``.

        Raises:
            MlflowException: if a word is no text, empty or too long, if there are none or too
                many, or if a parameter is out of its range.
        """
        words = self._checked_words(model_input[WORD_COLUMN].tolist())
        options = self._checked_options(params or {})
        try:
            answers = self._pronouncer.pronounce(words, **options)
        except UserError as error:
            raise refusal(str(error)) from error
        rows = [_row(answer, options["with_alignment"]) for answer in answers]
        # pandas' own type for text does not take every text that Python's does.
        return pandas.DataFrame(rows, dtype=object)

    def _checked_words(self, words: list[Any]) -> list[str]:
        most, longest = self._settings["most_words"], self._settings["longest_word"]
        if not words:
            raise refusal("there are no words")
        if len(words) > most:
            raise refusal(f"{len(words)} words are more than the {most} that a request may have")
        for i, word in enumerate(words):
            if not isinstance(word, str):
                # MLflow reads `null`, `NA` and the like in a CSV file as nothing.
                raise refusal(f"word {i} is missing or no text")
            if not _is_unicode(word):
                raise refusal(f"word {i} has half a surrogate pair")
            if not word.strip():
                raise refusal(f"word {i} is empty")
            if len(word) > longest:
                raise refusal(f"word {i} has {len(word)} characters, more than {longest}")
        return words

    def _checked_options(self, params: dict[str, Any]) -> dict[str, Any]:
        n_best = params.get("n_best")
        options = {
            "n_best": 1 if n_best is None else n_best,
            "beam_size": params.get("beam_size"),
            "with_alignment": bool(params.get("with_alignment")),
        }
        for name, most in (("n_best", "most_n_best"), ("beam_size", "most_beam_size")):
            if options[name] is not None and not 1 <= options[name] <= self._settings[most]:
                raise refusal(f"{name} must be from 1 to {self._settings[most]}")
        return options


def _is_unicode(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _row(answer: Pronunciation, with_alignment: bool) -> dict[str, Any]:
    return {
        WORD_COLUMN: answer.word,
        **_choice(answer, with_alignment),
        "alternatives": [_choice(choice, with_alignment) for choice in answer.alternatives],
        "unknown_characters": list(answer.unknown_characters),
        "source": answer.source,
    }


def _choice(choice: Pronunciation | Alternative, with_alignment: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "phones": " ".join(choice.phones),
        "probability": choice.probability,
    }
    if with_alignment:
        fields["alignment"] = _pairs(choice.alignment)
    return fields


def _pairs(alignment: Alignment) -> list[dict[str, str]]:
    return [{"letter": letter, "phones": " ".join(phones)} for letter, phones in alignment]
