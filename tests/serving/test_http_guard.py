"""The guard in front of Triton's HTTP interface, before a server that says what the test wants."""

import asyncio
import io
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from grapheme_to_phoneme.serving.http_guard import GuardSettings, HttpGuard
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.serving.server_log import ServerLog

HOST = "127.0.0.1"

ASK = b"GET /v2/models/g2p/config HTTP/1.1\r\n%s\r\n"


def guarded(body: bytes, talk: Callable[[int], Awaitable[None]]) -> list[dict]:
    """Let somebody talk to a guard whose server answers everything with a body; return its log."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, HOST, 0)
        port = unused_port()
        settings = GuardSettings(2**20, 1, read_timeout_s=30.0, answer_timeout_s=3.0)
        guard = HttpGuard(server.sockets[0].getsockname()[1], "g2p", settings, log)
        await guard.start(HOST, port)
        try:
            await talk(port)
        finally:
            await guard.stop(5.0)
            server.close()

    log = ServerLog(io.StringIO(), "json")
    asyncio.run(run())
    return [json.loads(line) for line in log.stream.getvalue().splitlines()]


async def ask_for_status(port: int, header: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(ASK % header)
    line = await reader.readline()
    writer.close()
    return line.split()[1]


def test_who_does_not_read_is_left() -> None:
    # More than the system keeps for somebody who will read it some day.
    body = b"x" * 2**24

    async def ask_and_read_nothing(port: int) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((HOST, port))
            client.sendall(ASK % b"")
            # The only connection that there may be is free again after a while.
            async with asyncio.timeout(60):
                while await ask_for_status(port) != b"200":
                    await asyncio.sleep(0.1)

    statuses = {event["status"] for event in guarded(body, ask_and_read_nothing)}
    # It is no request that did not arrive in time.
    assert 503 in statuses and 408 not in statuses


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"user-agent: a\tb\r\n", b"200"),
        (b"user-agent:\ta b\t\r\n", b"200"),
        (b"user-agent: a\x0bb\r\n", b"400"),
        (b"user-agent: a\x7fb\r\n", b"400"),
    ],
)
def test_white_space_in_headers(header: bytes, status: bytes) -> None:
    received: list[bytes] = []

    async def ask(port: int) -> None:
        received.append(await ask_for_status(port, header))

    guarded(b"{}", ask)
    assert received == [status]
