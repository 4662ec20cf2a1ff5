"""Pronounces words with a model in a running Triton, as if it were here."""

import http.client
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np

from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.inference.base import (
    SOURCE_LEXICON,
    SOURCE_MODEL,
    Alternative,
    BasePronouncer,
    Dictionary,
)
from grapheme_to_phoneme.inference.metadata import FORMAT_PROPERTY, ModelMetadata
from grapheme_to_phoneme.serving import triton_protocol as protocol

SCHEMES = ("grpc", "http", "https")

#: A server that is busy or starts again is asked again after these pauses, in seconds.
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)

#: Words of a request, and requests at a time: the server puts requests together by itself.
WORDS_PER_REQUEST = 64
REQUESTS_AT_A_TIME = 32


class ServerBusy(Exception):
    """The server cannot answer now; it may soon."""


class Transport(ABC):
    """The way to a server.

    Args:
        address: the server's host and port.
        model: the model's name.
        timeout_s: that an answer may take.
    """

    def __init__(self, address: SplitResult, model: str, timeout_s: float) -> None:
        self._address = address
        self._model = model
        self._timeout_s = timeout_s

    @abstractmethod
    def parameters(self) -> dict[str, str]:
        """Return the parameters of the model's configuration.

        Raises:
            ServerBusy: if the server cannot answer now.
            UserError: if it will not.
        """

    def infer(self, words: Sequence[str], options: protocol.Options) -> list[list[Alternative]]:
        """Return the pronunciations of words, those that exist.

        Raises:
            ServerBusy: if the server cannot answer now.
            UserError: if it will not, or answers what no model of this package does.
        """
        answer = self._request(words, options)
        try:
            rows = self._rows(answer, options)
            found = protocol.decode_answers(
                rows[protocol.PHONES], rows[protocol.PROBABILITY], rows.get(protocol.ALIGNMENT)
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._stranger() from error
        if len(found) != len(words):
            raise self._stranger()
        return found

    @abstractmethod
    def _request(self, words: Sequence[str], options: protocol.Options) -> Any:
        """Ask for words; return what the server says."""

    @abstractmethod
    def _rows(self, answer: Any, options: protocol.Options) -> dict[str, list[list]]:
        """Return the values of an answer's outputs by their names, those of a word together.

        What this raises where the answer is of another kind is left to the caller.
        """

    def _stranger(self) -> UserError:
        return UserError(f"what answers at {self._address.geturl()} is no Triton")


class HttpTransport(Transport):
    """HTTP with JSON, by the standard library alone; may be used from several threads."""

    def __init__(self, address: SplitResult, model: str, timeout_s: float) -> None:
        super().__init__(address, model, timeout_s)
        self._own = threading.local()

    def parameters(self) -> dict[str, str]:
        config = self._ask("GET", f"{self._path}/config")
        try:
            given = config.get("parameters", {})
            return {name: value["string_value"] for name, value in given.items()}
        except (AttributeError, KeyError, TypeError) as error:
            raise self._stranger() from error

    def _request(self, words: Sequence[str], options: protocol.Options) -> dict:
        tensor = {
            "name": protocol.WORD,
            "datatype": "BYTES",
            "shape": [len(words), 1],
            "data": list(words),
        }
        document = {
            "inputs": [tensor],
            "outputs": [{"name": name} for name in _wanted(options)],
            "parameters": options.to_parameters(),
        }
        return self._ask("POST", f"{self._path}/infer", document)

    def _rows(self, answer: dict, options: protocol.Options) -> dict[str, list[list]]:
        rows = {}
        for output in answer["outputs"]:
            data, n_best = output["data"], output["shape"][-1]
            rows[output["name"]] = [
                data[start : start + n_best] for start in range(0, len(data), n_best)
            ]
        return rows

    @property
    def _path(self) -> str:
        return f"{self._address.path.rstrip('/')}/v2/models/{self._model}"

    def _ask(self, method: str, path: str, document: dict | None = None) -> dict:
        body = None if document is None else json.dumps(document, ensure_ascii=False).encode()
        try:
            connection = self._connection()
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._own.connection = None
            raise ServerBusy(str(error) or type(error).__name__) from error
        try:
            told = json.loads(content) if content else {}
        except ValueError as error:
            raise self._stranger() from error
        if answer.status == http.HTTPStatus.OK:
            return told
        reason = told.get("error", answer.reason) if isinstance(told, dict) else answer.reason
        if answer.status in (
            http.HTTPStatus.TOO_MANY_REQUESTS,
            http.HTTPStatus.SERVICE_UNAVAILABLE,
        ):
            raise ServerBusy(reason)
        raise UserError(f"the server refuses, status {answer.status}: {reason}")

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPConnection
            if self._address.scheme == "https":
                kind = http.client.HTTPSConnection
            host, port = self._address.hostname, self._address.port
            connection = self._own.connection = kind(host, port, timeout=self._timeout_s)
        return connection


class GrpcTransport(Transport):
    """gRPC, by the package tritonclient; may be used from several threads."""

    def __init__(self, address: SplitResult, model: str, timeout_s: float) -> None:
        super().__init__(address, model, timeout_s)
        try:
            from tritonclient import grpc as triton
        except ImportError as error:
            raise MissingDependencyError(
                "grpc:// needs the extra serve: pip install grapheme-to-phoneme[serve], "
                "or use http:// and the server's HTTP port"
            ) from error
        self._triton = triton
        self._client = triton.InferenceServerClient(address.netloc)

    def parameters(self) -> dict[str, str]:
        config = self._ask(self._client.get_model_config, self._model).config
        return {name: value.string_value for name, value in config.parameters.items()}

    def _request(self, words: Sequence[str], options: protocol.Options) -> Any:
        tensor = self._triton.InferInput(protocol.WORD, [len(words), 1], "BYTES")
        contents = [[word.encode()] for word in words]
        tensor.set_data_from_numpy(np.array(contents, dtype=object))
        wanted = [self._triton.InferRequestedOutput(name) for name in _wanted(options)]
        return self._ask(
            self._client.infer,
            self._model,
            [tensor],
            outputs=wanted,
            parameters=options.to_parameters(),
        )

    def _rows(self, answer: Any, options: protocol.Options) -> dict[str, list[list]]:
        rows = {}
        for name in _wanted(options):
            values = answer.as_numpy(name).tolist()
            rows[name] = values if name == protocol.PROBABILITY else _decode(values)
        return rows

    def _ask(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return method(*arguments, **named, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"):
                raise ServerBusy(error.message()) from error
            raise UserError(f"the server refuses, {status}: {error.message()}") from error


def connect(server: str, model: str, timeout_s: float) -> Transport:
    """Return the way to a server.

    Args:
        server: ``grpc://HOST:PORT``, ``http://HOST:PORT`` or ``https://HOST:PORT``.
        model: the model's name in Triton.
        timeout_s: that an answer may take.

    Raises:
        MissingDependencyError: if what gRPC needs is not installed.
        UserError: if ``server`` is no such address, or ``timeout_s`` no time.
    """
    if not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise UserError(
            f"infer.server_timeout_s must be above 0 and at most {threading.TIMEOUT_MAX:.0f}, "
            f"not {timeout_s}"
        )
    try:
        address = urlsplit(server)
        is_address = address.scheme in SCHEMES and address.hostname and address.port
    except ValueError:
        is_address = False
    if not is_address:
        raise UserError(
            f"'{server}' is no server's address: write grpc://HOST:PORT or http://HOST:PORT"
        )
    kind = GrpcTransport if address.scheme == "grpc" else HttpTransport
    return kind(address, model, timeout_s)


class RemotePronouncer(BasePronouncer):
    """A model in Triton. It may be used from several threads at once.

    Words are normalised, the user's dictionary is asked, and phones are written in another
    notation, here. The server is asked for what its lexicon has, where it has one, and gets
    letters that the model knows for all else: it answers as the library does.

    Args:
        server: see :func:`connect`.
        model: the model's name in Triton.
        timeout_s: that an answer may take.
        longest_word: longer words are pronounced piece by piece, in letters.
        dictionary: see :meth:`BasePronouncer.use_dictionary`.
        use_lexicon: whether the lexicon beside that model, where it has one, answers for the
            words that it holds and the dictionary does not.
        notation: see :class:`BasePronouncer`.
        language: likewise.

    Raises:
        MissingDependencyError: if what gRPC needs is not installed, or no server answers.
        UserError: if the server has no such model, or it is none of this package's format, or
            as :class:`BasePronouncer` does.
    """

    def __init__(
        self,
        server: str,
        model: str = "g2p",
        timeout_s: float = 60.0,
        longest_word: int = 256,
        dictionary: Dictionary | None = None,
        use_lexicon: bool = True,
        notation: str | None = None,
        language: str | None = None,
    ) -> None:
        self._server = server
        self._transport = connect(server, model, timeout_s)
        parameters = self._ask_again(self._transport.parameters, PAUSES[:1])
        if FORMAT_PROPERTY not in parameters:
            raise UserError(f"{model} at {server} is no model that `g2p export-triton` wrote")
        metadata = ModelMetadata.from_properties(parameters, f"{model} at {server}")
        try:
            limits = protocol.Limits.from_text(parameters[protocol.LIMITS_PARAMETER])
            search = protocol.Search.from_text(parameters[protocol.SEARCH_PARAMETER])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{model} at {server} was made by another version of g2p") from error
        longest_word = min(longest_word, limits.longest_word)
        super().__init__(metadata, longest_word, dictionary, notation=notation, language=language)
        self._has_lexicon = use_lexicon and search.has_lexicon
        self._longest_in_request = limits.longest_word
        self._words_per_request = min(WORDS_PER_REQUEST, limits.most_words)
        self._requests = ThreadPoolExecutor(REQUESTS_AT_A_TIME)

    def _look_up(
        self, spellings: Sequence[str], n_best: int
    ) -> Mapping[str, Sequence[Alternative]]:
        if not self._has_lexicon:
            return {}
        options = protocol.Options(n_best, are_normalized=True, source=SOURCE_LEXICON)
        sendable = [spelling for spelling in spellings if self._is_sendable(spelling)]
        found = self._ask_for(sendable, options)
        return {spelling: choices for spelling, choices in found.items() if choices}

    def _is_sendable(self, spelling: str) -> bool:
        """Return whether a request may have a spelling; what is no text, no lexicon has."""
        try:
            spelling.encode()
        except UnicodeEncodeError:
            return False
        return 0 < len(spelling) <= self._longest_in_request

    def _search_words(
        self, spellings: Sequence[str], n_best: int, beam_size: int, with_alignment: bool
    ) -> Mapping[str, Sequence[Alternative]]:
        options = protocol.Options(n_best, beam_size, with_alignment, True, SOURCE_MODEL)
        return self._ask_for(spellings, options)

    def _ask_for(
        self, spellings: Sequence[str], options: protocol.Options
    ) -> dict[str, Sequence[Alternative]]:
        # Words of one length are what the server can work on together.
        ordered = sorted(spellings, key=len)
        size = self._words_per_request
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]

        def ask(batch: Sequence[str]) -> list[list[Alternative]]:
            return self._ask_again(lambda: self._transport.infer(batch, options), PAUSES)

        answers = map(ask, batches) if len(batches) == 1 else self._requests.map(ask, batches)
        return {
            spelling: choices
            for batch, found in zip(batches, answers, strict=True)
            for spelling, choices in zip(batch, found, strict=True)
        }

    def _ask_again(self, ask: Callable[[], Any], pauses: Sequence[float]) -> Any:
        """Ask, and ask again after each pause while the server cannot answer."""
        for pause in pauses:
            try:
                return ask()
            except ServerBusy:
                time.sleep(pause)
        try:
            return ask()
        except ServerBusy as error:
            raise MissingDependencyError(
                f"the server {self._server} does not answer ({error}): "
                "start it with `g2p serve triton`, or name another with --server"
            ) from error


def _wanted(options: protocol.Options) -> tuple[str, ...]:
    """Return the outputs to ask for."""
    wanted = (protocol.PHONES, protocol.PROBABILITY)
    return (*wanted, protocol.ALIGNMENT) if options.with_alignment else wanted


def _decode(rows: Sequence[Sequence[bytes]]) -> list[list[str]]:
    return [[content.decode() for content in row] for row in rows]
