"""Stands in front of Triton's HTTP interface and lets through only what it can bear.

Triton 2.51 ends at once when a body has a hundred thousand nested brackets, and calls malformed
requests its own failure (status 500). What is not sound HTTP/1.1 (RFC 9112) and sound JSON is
refused here, with the status that fits; so are interfaces that the model has no use for. All else
goes through unchanged.
"""

import asyncio
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from grapheme_to_phoneme.serving.server_log import ServerLog

LONGEST_HEAD = 16384
LONGEST_CHUNK_LINE = 256
DEEPEST_JSON = 64
LARGEST_DIMENSION = 2**31 - 1
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])")

#: Paths that are let through, with their methods.
_MODEL = r"/v2/models/[\w.-]+(?:/versions/\d+)?"
PATHS = {
    re.compile(r"/v2/?|/v2/health/(?:live|ready)"): "GET",
    re.compile(rf"{_MODEL}(?:/(?:ready|config|stats))?|/v2/models/stats"): "GET",
    re.compile(rf"{_MODEL}/infer"): "POST",
    re.compile(r"/v2/repository/(?:index|models/[\w.-]+/(?:load|unload))"): "POST",
}

#: Headers that mean something to Triton, or to who asked.
JSON_LENGTH = "inference-header-content-length"
PASSED_HEADERS = ("content-type", JSON_LENGTH)

#: What Triton gives the status of a failure of its own, and the status that fits.
MISTAKEN_STATUS = {
    re.compile(
        rb"[Uu]nable to parse|[Ff]ailed to (?:parse|get request)|attempt to|JSON|unexpected"
    ): HTTPStatus.BAD_REQUEST,
    re.compile(rb"failed to poll"): HTTPStatus.NOT_FOUND,
    re.compile(rb"Stub process .* is not healthy"): HTTPStatus.SERVICE_UNAVAILABLE,
}


class Refusal(Exception):
    """A request that is not let through.

    Args:
        status: what its sender is told.
        reason: why, in a sentence.
        closes: whether the rest of the connection cannot be made sense of.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        closes: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.closes = closes
        self.headers = headers or {}


@dataclass(frozen=True)
class GuardSettings:
    """What the guard bears.

    Attributes:
        most_bytes: of a body.
        most_connections: at a time.
        read_timeout_s: that a request may take to arrive.
        answer_timeout_s: that an answer may take to come from Triton, and again to be taken.
    """

    most_bytes: int
    most_connections: int
    read_timeout_s: float
    answer_timeout_s: float


@dataclass
class Request:
    """A request that can be passed on."""

    method: str
    target: str
    headers: dict[str, str]
    keeps_alive: bool
    body: bytes = b""


@dataclass
class Answer:
    """An answer, and whether the connection that it came on can be used again."""

    status: int
    headers: dict[str, str]
    body: bytes
    keeps_alive: bool = True


@dataclass
class _Upstream:
    """A connection to Triton."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class HttpGuard:
    """Takes connections, and passes sound requests on to Triton.

    Attributes:
        port: of Triton's own HTTP interface, on this machine.
        model: the model whose readiness is the server's. Triton's own includes versions that were
            refused, though the one before them is there.
        settings: what is borne.
        log: refused requests are written to it.
    """

    port: int
    model: str
    settings: GuardSettings
    log: ServerLog
    _connections: set[asyncio.Task] = field(default_factory=set)
    _busy: set[asyncio.Task] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _is_stopping: bool = False

    @property
    def is_listening(self) -> bool:
        """Whether it was started."""
        return self._server is not None

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: if that is not possible, because the port is taken for example.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=LONGEST_HEAD)

    async def stop(self, timeout_s: float) -> None:
        """Take no more connections, answer the requests in flight, and close."""
        self._is_stopping = True
        self._server.close()
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=timeout_s)
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(set(self._connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        # What is written is waited for until the system has all of it.
        writer.transport.set_write_buffer_limits(0)
        is_welcome = len(self._connections) < self.settings.most_connections
        self._connections.add(task)
        upstream: list[_Upstream] = []
        try:
            if is_welcome:
                while (
                    await self._serve_request(reader, writer, upstream) and not self._is_stopping
                ):
                    pass
            else:
                reason = "too many connections: try again later"
                refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason)
                await self._refuse(writer, refusal, None, time.perf_counter())
        except (ConnectionError, asyncio.CancelledError):
            # Whoever asked is gone, or the server stops.
            pass
        finally:
            self._connections.discard(task)
            self._busy.discard(task)
            for connection in upstream:
                connection.writer.close()
            writer.close()

    async def _serve_request(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: list[_Upstream],
    ) -> bool:
        """Answer the next request of a connection; tell whether another may follow."""
        head = await self._read_head(reader, writer)
        if head is None:
            return False
        task = asyncio.current_task()
        self._busy.add(task)
        started = time.perf_counter()
        request = None
        try:
            async with asyncio.timeout(self.settings.read_timeout_s):
                request, length = _parse_head(head)
                _check_target(request)
                if request.target == "/v2/health/ready":
                    request.target = f"/v2/models/{self.model}/ready"
                request.body = await _read_body(
                    reader, writer, request, length, self.settings.most_bytes
                )
            _check_body(request)
            answer = await self._ask(request, upstream)
            return await self._send(writer, answer, request.keeps_alive)
        except Refusal as refusal:
            return await self._refuse(writer, refusal, request, started)
        except TimeoutError:
            refusal = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
            return await self._refuse(writer, refusal, request, started)
        except asyncio.IncompleteReadError:
            return False
        finally:
            self._busy.discard(task)

    async def _read_head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Return the next request's line and headers; nothing where none comes."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.settings.read_timeout_s):
                return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            refusal = Refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers are longer than {LONGEST_HEAD} bytes",
            )
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            refusal = Refusal(HTTPStatus.BAD_REQUEST, "the request ends in its headers")
        except TimeoutError:
            return None
        await self._refuse(writer, refusal, None, started)
        return None

    async def _ask(self, request: Request, upstream: list[_Upstream]) -> Answer:
        """Return Triton's answer, over the connection that this client's requests had before."""
        try:
            async with asyncio.timeout(self.settings.answer_timeout_s):
                answer = await self._exchange(request, upstream)
        except TimeoutError as error:
            _drop(upstream)
            raise Refusal(
                HTTPStatus.GATEWAY_TIMEOUT, "the model did not answer in time", closes=False
            ) from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _drop(upstream)
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "the model is not ready: try again", closes=False
            ) from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                fitting = [
                    fit for sign, fit in MISTAKEN_STATUS.items() if sign.search(answer.body)
                ]
                answer.status = next(iter(fitting), answer.status)
            self.log.write(
                "WARNING",
                "http",
                f"{request.method} {request.target} refused by Triton",
                status=int(answer.status),
                reason=answer.body[:300].decode(errors="replace"),
            )
        return answer

    async def _exchange(self, request: Request, upstream: list[_Upstream]) -> Answer:
        is_reused = bool(upstream)
        if not upstream:
            upstream.append(await self._connect())
        try:
            return await _exchange(request, upstream)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            # Triton may have closed a connection that was idle, before it saw the request.
            if not is_reused or getattr(error, "partial", b""):
                raise
            _drop(upstream)
            upstream.append(await self._connect())
            return await _exchange(request, upstream)

    async def _connect(self) -> _Upstream:
        return _Upstream(
            *await asyncio.open_connection("127.0.0.1", self.port, limit=LONGEST_HEAD)
        )

    async def _refuse(
        self,
        writer: asyncio.StreamWriter,
        refusal: Refusal,
        request: Request | None,
        started: float,
    ) -> bool:
        """Say why a request is not let through; tell whether another may follow."""
        what = f"{request.method} {request.target}" if request else "a connection"
        self.log.write(
            "WARNING",
            "http",
            f"{what[:200]} refused",
            status=int(refusal.status),
            reason=str(refusal),
            seconds=round(time.perf_counter() - started, 4),
        )
        body = json.dumps({"error": str(refusal)}).encode()
        headers = {"content-type": "application/json", **refusal.headers}
        if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = "1"
        keeps_alive = not refusal.closes and request is not None and request.keeps_alive
        with suppress(ConnectionError):
            answer = Answer(refusal.status, headers, body)
            return await self._send(writer, answer, keeps_alive)
        return False

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer, keeps_alive: bool) -> bool:
        """Send an answer; tell whether another request may follow."""
        try:
            async with asyncio.timeout(self.settings.answer_timeout_s):
                await _write_answer(writer, answer, keeps_alive)
        except TimeoutError:
            # Who does not read would keep one of the connections for ever.
            writer.transport.abort()
            return False
        return keeps_alive


def _parse_head(head: bytes) -> tuple[Request, int | None]:
    """Return a request without its body, and the body's length; None where it comes in chunks."""
    line, *lines = head[:-4].split(b"\r\n")
    found = REQUEST_LINE.fullmatch(line)
    if not found:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the request line is no HTTP/1.1 request's")
    headers: dict[str, str] = {}
    for field_line in lines:
        name, colon, value = field_line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise Refusal(HTTPStatus.BAD_REQUEST, "a header is malformed")
        key, text = name.decode().lower(), value.decode("latin-1").strip(" \t")
        if not text.replace("\t", " ").isprintable():
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the header {key} has control characters")
        if headers.setdefault(key, text) != text:
            if key in ("content-length", "transfer-encoding", "host", JSON_LENGTH):
                raise Refusal(HTTPStatus.BAD_REQUEST, f"the header {key} is there twice")
    is_persistent = found[3] == b"1"
    wish = headers.get("connection", "keep-alive" if is_persistent else "close").lower()
    request = Request(found[1].decode(), found[2].decode(), headers, wish != "close")
    return request, _body_length(headers)


def _body_length(headers: dict[str, str]) -> int | None:
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length", "0" if coding is None else None)
    if coding is None:
        if not (length.isascii() and length.isdecimal() and len(length) < 19):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the header content-length is no length")
        return int(length)
    if length is not None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a body has a length or comes in chunks, not both")
    if coding.lower() != "chunked":
        raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "of transfer encodings, only chunked is known")
    return None


def _check_target(request: Request) -> None:
    """Let through the paths that the model needs, with their methods."""
    path = request.target.partition("?")[0]
    methods = [method for pattern, method in PATHS.items() if pattern.fullmatch(path)]
    if not methods:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no {path[:100]}")
    if request.method not in methods:
        allowed = {"allow": ", ".join(methods)}
        reason = f"{path[:100]} takes {' or '.join(methods)}"
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, headers=allowed)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "bodies must not be compressed")


async def _read_body(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: Request,
    length: int | None,
    most_bytes: int,
) -> bytes:
    too_long = Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {most_bytes} bytes: send less"
    )
    if length is not None and length > most_bytes:
        raise too_long
    if request.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if length is not None:
        return await reader.readexactly(length)
    parts = []
    left = most_bytes
    while size := await _read_chunk_size(reader):
        left -= size
        if left < 0:
            raise too_long
        parts.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise Refusal(HTTPStatus.BAD_REQUEST, "a chunk is longer than it says")
    # Trailers, of which none is used.
    for _ in range(len(PASSED_HEADERS) * 16):
        if await _read_line(reader) == b"":
            return b"".join(parts)
    raise Refusal(HTTPStatus.BAD_REQUEST, "too many trailers")


async def _read_chunk_size(reader: asyncio.StreamReader) -> int:
    digits = (await _read_line(reader)).partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits):
        raise Refusal(HTTPStatus.BAD_REQUEST, "a chunk has no size")
    return int(digits, 16)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a line between chunks is too long") from error
    if len(line) > LONGEST_CHUNK_LINE:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a line between chunks is too long")
    return line[:-2]


def _check_body(request: Request) -> None:
    """Refuse a body whose JSON, all of it or what is before binary tensors, is not sound."""
    if request.method != "POST" or not request.body:
        return
    length = request.headers.get(JSON_LENGTH)
    if length is not None and not re.fullmatch(r"[0-9]{1,10}", length):
        raise _unsound(f"the header {JSON_LENGTH} is no length")
    text = request.body if length is None else request.body[: int(length)]
    try:
        document = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _unsound("the JSON is nested too deep") from error
    except ValueError as error:
        raise _unsound(f"the body is no JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise _unsound("the body must be a JSON object")
    if _is_deep(document):
        raise _unsound("the JSON is nested too deep")
    _check_shapes(document)


def _check_shapes(document: dict) -> None:
    """Refuse dimensions that Triton would cut to 32 bits."""
    inputs = document.get("inputs")
    for tensor in inputs if isinstance(inputs, list) else ():
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        for dimension in shape if isinstance(shape, list) else ():
            if not (isinstance(dimension, int) and 0 <= dimension <= LARGEST_DIMENSION):
                raise _unsound(f"an input's shape has the dimension {dimension}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _is_deep(document: object) -> bool:
    level = [document]
    for _ in range(DEEPEST_JSON):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def _unsound(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason, closes=False)


async def _exchange(request: Request, upstream: list[_Upstream]) -> Answer:
    (connection,) = upstream
    lines = [f"{request.method} {request.target} HTTP/1.1", "host: 127.0.0.1"]
    lines += [
        f"{name}: {request.headers[name]}" for name in PASSED_HEADERS if name in request.headers
    ]
    lines += [f"content-length: {len(request.body)}", "", ""]
    connection.writer.write("\r\n".join(lines).encode("latin-1") + request.body)
    await connection.writer.drain()
    status_line, *lines = (await connection.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
    if headers.get("connection", "").lower() == "close":
        _drop(upstream)
    passed = {name: headers[name] for name in PASSED_HEADERS if name in headers}
    return Answer(int(status_line.split()[1]), passed, body)


async def _write_answer(writer: asyncio.StreamWriter, answer: Answer, keeps_alive: bool) -> None:
    status = HTTPStatus(answer.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += [f"content-length: {len(answer.body)}"]
    lines += [f"connection: {'keep-alive' if keeps_alive else 'close'}", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + answer.body)
    await writer.drain()


def _drop(upstream: list[_Upstream]) -> None:
    while upstream:
        upstream.pop().writer.close()
