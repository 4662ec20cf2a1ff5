"""The model that Triton's Python backend runs: a pronouncer between tensors.

Triton imports it in a process of its own, from a copy that lies beside the model file in the model
repository; see :mod:`grapheme_to_phoneme.packaging.triton_repository`.
"""

import json
import traceback
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.base import BasePronouncer
from grapheme_to_phoneme.inference.core import (
    CHUNK_IDS,
    LETTERS,
    LOG_PROBABILITIES,
    CoreAlphabets,
    Profile,
)
from grapheme_to_phoneme.inference.graph import ALIGNMENT_OUTPUT, OUTPUTS, GraphPronouncer
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import LEXICON_NAME
from grapheme_to_phoneme.serving import triton_protocol as protocol
from grapheme_to_phoneme.serving.answer_cache import AnswerCache

#: A word, and how it is to be pronounced.
Question = tuple[protocol.Options, str]


class TritonPythonModel:
    """What Triton's Python backend looks for: one instance of the model, in its own process."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the model; an exception refuses this version of it.

        Args:
            arguments: Triton's, with the configuration as JSON.
        """
        config = json.loads(arguments["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        version = arguments["model_version"]
        folder = Path(arguments["model_repository"]) / version
        search = protocol.Search.from_text(parameters[protocol.SEARCH_PARAMETER])
        self._limits = protocol.Limits.from_text(parameters[protocol.LIMITS_PARAMETER])
        self._pronouncer = _load(folder, version, search, parameters, self._limits)
        self._cache = AnswerCache(search.cached_words, self._pronounce)
        pb_utils.Logger.log_info(
            f"version {version}: {self._pronouncer.metadata.language}, trained at commit "
            f"{self._pronouncer.metadata.git_commit}"
        )

    def execute(self, requests: Sequence) -> list:
        """Answer requests; the words of all of them are pronounced together."""
        responses: list = [None] * len(requests)
        accepted: dict[int, list[Question]] = {}
        for i, request in enumerate(requests):
            try:
                options = self._options(request)
                tensor = pb_utils.get_input_tensor_by_name(request, protocol.WORD).as_numpy()
                words = protocol.read_words(
                    tensor,
                    self._limits,
                    self._pronouncer.metadata.normalize,
                    options.are_normalized,
                )
            except UserError as error:
                responses[i] = _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
            else:
                accepted[i] = [(options, word) for word in words]
        try:
            answers = self._cache.answer(
                question for questions in accepted.values() for question in questions
            )
        # Whatever it is, the requests must be answered, and the next ones too.
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            message = "the model failed: see the server's log"
            for i in accepted:
                responses[i] = _refusal(message, pb_utils.TritonError.INTERNAL)
            return responses
        for i, questions in accepted.items():
            wanted = requests[i].requested_output_names()
            outputs = protocol.to_tensors([answers[question] for question in questions], wanted)
            responses[i] = _response(outputs)
        return responses

    def _pronounce(self, questions: Sequence[Question]) -> list[protocol.EncodedAnswer]:
        by_options: dict[protocol.Options, list[str]] = defaultdict(list)
        for options, word in questions:
            by_options[options].append(word)
        answers = {
            (options, word): protocol.encode_answer(answer, options)
            for options, words in by_options.items()
            for word, answer in zip(
                words, self._pronouncer.pronounce(words, *options), strict=True
            )
        }
        return [answers[question] for question in questions]

    def _options(self, request) -> protocol.Options:
        parameters = request.parameters()
        if parameters in ("", "{}"):
            return protocol.DEFAULT_OPTIONS
        return protocol.read_options(json.loads(parameters), self._limits)


class TritonGraphPronouncer(GraphPronouncer):
    """Lets another model of the same server, one of the ONNX Runtime backend, run the graph.

    Args:
        graph: that model's name.
        version: its version.
        metadata: see :class:`GraphPronouncer`.
        search: likewise.
        longest_word: likewise.
        lexicon: likewise.
    """

    def __init__(
        self,
        graph: str,
        version: int,
        metadata: ModelMetadata,
        search: protocol.Search,
        longest_word: int,
        lexicon: Path | None,
    ) -> None:
        super().__init__(
            metadata, search.threads, search.letters_per_batch, longest_word, lexicon=lexicon
        )
        self._graph = graph
        self._version = version

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        words = np.array([word.encode() for word in batch], dtype=object)
        inputs = {"words": words, "beam_size": np.array([beam_size], dtype=np.int64)}
        values = []
        for value in self._ask(inputs, outputs):
            if value.dtype == np.object_:
                value = np.vectorize(bytes.decode, otypes=[object])(value)
            values.append(value.tolist())
        return values

    def _ask(self, inputs: dict[str, NDArray], outputs: Sequence[str]) -> list[NDArray]:
        request = pb_utils.InferenceRequest(
            model_name=self._graph,
            model_version=self._version,
            requested_output_names=list(outputs),
            inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
            # Where a GPU answers, NumPy could not read what stays there.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise RuntimeError(response.error().message())
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs]


class TritonEnginePronouncer(TritonGraphPronouncer):
    """Lets another model of the same server, a TensorRT engine, run the core network.

    The engine always searches with its own number of hypotheses.

    Args:
        engine: that model's name.
        version: its version.
        alphabets: what its ids mean.
        search: see :class:`TritonGraphPronouncer`.
        longest_word: likewise; at most what the engine takes.
        lexicon: likewise.
    """

    def __init__(
        self,
        engine: str,
        version: int,
        alphabets: CoreAlphabets,
        search: protocol.Search,
        longest_word: int,
        lexicon: Path | None,
    ) -> None:
        self._profile = Profile(**search.profile)
        longest_word = min(longest_word, self._profile.largest[1])
        super().__init__(engine, version, alphabets.metadata, search, longest_word, lexicon)
        self._alphabets = alphabets

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        texts = self._alphabets.chunk_texts
        chunks: list[list[list[str]]] = []
        scores: list[list[float]] = []
        most = self._profile.largest[0]
        for start in range(0, len(batch), most):
            part = batch[start : start + most]
            letters = self._profile.pad(self._alphabets.encode_spellings(part))
            chunk_ids, values = self._ask({LETTERS: letters}, (CHUNK_IDS, LOG_PROBABILITIES))
            paths = chunk_ids[: len(part)].tolist()
            chunks += [[[texts[index] for index in path] for path in word] for word in paths]
            scores += values[: len(part)].tolist()
        spoken = [[" ".join(filter(None, path)) for path in word] for word in chunks]
        given = dict(zip((*OUTPUTS, ALIGNMENT_OUTPUT), (spoken, scores, chunks), strict=True))
        return [given[name] for name in outputs]


def _load(
    folder: Path,
    version: str,
    search: protocol.Search,
    parameters: dict[str, str],
    limits: protocol.Limits,
) -> BasePronouncer:
    package = folder / protocol.PACKAGE_FOLDER
    if search.graph:
        lexicon = package / LEXICON_NAME if search.has_lexicon else None
        rest = (search, limits.longest_word, lexicon)
        if search.profile:
            alphabets = CoreAlphabets.from_properties(parameters, str(folder))
            return TritonEnginePronouncer(search.graph, int(version), alphabets, *rest)
        metadata = ModelMetadata.from_properties(parameters, str(folder))
        return TritonGraphPronouncer(search.graph, int(version), metadata, *rest)
    # Where another model runs the graph, there is no ONNX Runtime for Python.
    from grapheme_to_phoneme.inference.pronouncer import Pronouncer

    return Pronouncer(package, search.threads, search.letters_per_batch, limits.longest_word)


def _response(outputs: dict[str, NDArray]):
    tensors = [pb_utils.Tensor(name, values) for name, values in outputs.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _refusal(message: str, code: int):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
