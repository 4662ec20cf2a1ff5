"""Runs Triton until it is told to stop: starts it, watches it, guards its HTTP interface."""

import asyncio
import http.client
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.serving.http_guard import GuardSettings, HttpGuard
from grapheme_to_phoneme.serving.ports import check_port, unused_port
from grapheme_to_phoneme.serving.server_log import ServerLog
from grapheme_to_phoneme.serving.triton_engine import Command, docker_command, server_options
from grapheme_to_phoneme.serving.triton_wheel import prepare_wheel_server

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

PAUSE_S = 0.2
PROBE_TIMEOUT_S = 2.0

#: That what is in flight may take when the server is stopped because a part of it died.
BROKEN_STOP_S = 2.0

#: Beyond what requests in flight may take: that the server needs to end itself.
STOP_MARGIN_S = 10.0

#: Lines of the log to look for a reason in.
LAST_LINES = 200
LONGEST_LINE = 2**20


def serve(settings: DictConfig, models: Sequence[str], engine: str) -> None:
    """Serve a model repository; come back when SIGTERM or Ctrl-C says so.

    Requests that are in flight then are answered first. A server that dies, or of which a process
    with the model dies, is started again.

    Args:
        settings: the configuration ``serve``.
        models: the models to load from ``settings.repository``.
        engine: ``docker`` or ``wheel``.

    Raises:
        MissingDependencyError: if the engine is not to be had here.
        UserError: if a port is taken, or the server does not start or keeps dying.
    """
    for name in ("http_port", "grpc_port", "metrics_port"):
        check_port(settings.host, settings[name], name)
    http_port = unused_port()
    if engine == "docker":
        command = docker_command(settings, models, secrets.token_hex(), http_port)
    else:
        command = _wheel_command(settings, models, http_port)
    log = ServerLog(sys.stderr, settings.log_format)
    asyncio.run(_Supervisor(settings, models, command, http_port, log).run())


class _Supervisor:
    """Starts Triton behind the HTTP guard, starts it again where it dies, and ends both.

    Args:
        settings: the configuration ``serve``.
        models: the models to load.
        command: what starts Triton.
        http_port: where Triton listens for the guard, on loopback.
        log: takes Triton's lines and the supervisor's.
    """

    def __init__(
        self,
        settings: DictConfig,
        models: Sequence[str],
        command: Command,
        http_port: int,
        log: ServerLog,
    ) -> None:
        self._settings = settings
        self._models = models
        self._command = command
        self._port = http_port
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._starts: list[float] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run the server, again where it dies, until a signal comes.

        Raises:
            UserError: if it does not start, keeps dying, or the guard cannot listen.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop.set)
        settings = self._settings
        bounds = GuardSettings(**settings.http)
        guard = HttpGuard(self._port, settings.name, bounds, self._log)
        process = await self._start()
        try:
            await self._until_ready(process)
            await self._listen(guard)
            while not self._stop.is_set():
                self._log.write(
                    "INFO",
                    "g2p",
                    f"ready: {', '.join(self._models)}",
                    http=f"http://{settings.host}:{settings.http_port}",
                    grpc=f"grpc://{settings.host}:{settings.grpc_port}",
                    metrics=f"http://{settings.host}:{settings.metrics_port}/metrics",
                )
                reason = await self._watch(process)
                if reason is not None:
                    self._log.write("ERROR", "g2p", f"{reason}: starting the server again")
                    await self._end(process, BROKEN_STOP_S)
                    self._check_restarts(reason)
                    process = await self._start()
                    await self._until_ready(process)
            self._log.write("INFO", "g2p", "stopping: requests in flight are answered first")
        finally:
            if guard.is_listening:
                await guard.stop(settings.stop_timeout_s)
            await self._end(process, settings.stop_timeout_s + STOP_MARGIN_S)
        self._log.write("INFO", "g2p", "stopped")

    async def _listen(self, guard: HttpGuard) -> None:
        host, port = self._settings.host, self._settings.http_port
        try:
            await guard.start(host, port)
        except OSError as error:
            raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}") from error

    async def _start(self) -> Process:
        self._starts.append(time.monotonic())
        process = await asyncio.create_subprocess_exec(
            *self._command.arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=self._command.environment,
            limit=LONGEST_LINE,
            # The server's Python looks for modules here first, before those of the model.
            cwd=self._settings.repository,
            # Ctrl-C is for this process, which tells the server.
            start_new_session=True,
        )
        asyncio.get_running_loop().create_task(self._pass_on_log(process))
        return process

    async def _pass_on_log(self, process: Process) -> None:
        while True:
            # Whatever comes is taken, since the server waits where nobody does.
            try:
                content = await process.stdout.readline()
            except ValueError:  # a line beyond any length
                continue
            if not content:
                return
            line = content.decode(errors="replace")
            self._last_lines.append(line)
            self._log.write_triton(line)

    async def _until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + self._settings.start_timeout_s
        while not self._stop.is_set():
            if process.returncode is not None:
                raise UserError(
                    f"the server ended while it started, with status {process.returncode}: "
                    + self._reason()
                )
            if time.monotonic() > deadline:
                raise UserError(
                    f"the server is not ready after {self._settings.start_timeout_s} s: "
                    "give it longer with serve.start_timeout_s"
                )
            if await asyncio.to_thread(_are_ready, self._port, self._models):
                return
            await asyncio.sleep(PAUSE_S)

    def _reason(self) -> str:
        """Return what the log says of a failed start."""
        for sign in ("failed to load", "error:", " E "):
            found = [line for line in self._last_lines if sign in line]
            if found:
                return found[0].strip()[:500]
        return "see its log above"

    async def _watch(self, process: Process) -> str | None:
        """Return why the server must be started again; nothing where it is to stop."""
        dead: set[int] = set()
        while not self._stop.is_set():
            if process.returncode is not None:
                return f"the server died with status {process.returncode}"
            if self._command.has_stubs:
                # A process that ends as it should is waited for before the second look.
                before, dead = dead, _dead_children(process.pid)
                if before & dead:
                    return "a process with the model died"
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PAUSE_S)
        return None

    def _check_restarts(self, reason: str) -> None:
        settings = self._settings.restarts
        since = time.monotonic() - settings.within_s
        if sum(start > since for start in self._starts) > settings.most:
            raise UserError(
                f"{reason}, and the server was started {settings.most} times again within "
                f"{settings.within_s} s: see its log above"
            )

    async def _end(self, process: Process, timeout_s: float) -> None:
        """Let the server finish what is in flight and end; make it end after the time."""
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            deadline = time.monotonic() + timeout_s
            # Waiting for the process itself would be waiting for whatever holds its output, too.
            while process.returncode is None and time.monotonic() < deadline:
                await asyncio.sleep(PAUSE_S)
        # Its processes with the model are in its session, and may outlive it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _wheel_command(settings: DictConfig, models: Sequence[str], http_port: int) -> Command:
    server = prepare_wheel_server(settings.wheel)
    ports = (http_port, settings.grpc_port, settings.metrics_port)
    arguments = (
        str(server.binary),
        f"--model-repository={Path(settings.repository).resolve()}",
        f"--backend-directory={server.backends}",
        "--http-address=127.0.0.1",
        *server_options(settings, models, secrets.token_hex(), ports, settings.host),
    )
    return Command(arguments, server.environment, has_stubs=True)


def _are_ready(port: int, models: Sequence[str]) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
    try:
        for model in models:
            connection.request("GET", f"/v2/models/{model}/ready")
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.HTTPStatus.OK:
                return False
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _dead_children(pid: int) -> set[int]:
    """Return the children of a process that died and that it has not waited for."""
    dead = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        # Processes come and go.
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything.
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if int(parent) == pid and state == "Z":
                dead.add(int(path.parent.name))
    return dead
