"""A plain file server for the page: these files and no others, read and never written."""

import logging
import sys
import webbrowser
from collections.abc import Mapping
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from urllib.parse import unquote, urlsplit

from grapheme_to_phoneme.demo.site import INDEX_NAME
from grapheme_to_phoneme.errors import UserError

LOGGER = logging.getLogger(__name__)

#: The browser itself sees to it that the page, and its worker, talk to this server alone. The
#: page says the same in a <meta> element, for other file servers.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The browser asks whether a file has changed: another model may be under the same name.
    "Cache-Control": "no-cache",
}

#: What a system's own table of types may have otherwise, and browsers insist on.
CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}


class SiteHandler(SimpleHTTPRequestHandler):
    """Answers with the files of a :class:`SiteServer`."""

    server: "SiteServer"
    server_version = "g2p"
    sys_version = ""
    extensions_map = CONTENT_TYPES

    def translate_path(self, path: str) -> str:
        """Return the file behind an address, or a name that no file has."""
        address = unquote(urlsplit(path).path).removeprefix("/") or INDEX_NAME
        return str(self.server.files.get(address, ""))

    def end_headers(self) -> None:
        """Add what every answer says."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep a line for each request out of the terminal."""
        LOGGER.debug(format, *args)


class SiteServer(ThreadingTCPServer):
    """A file server.

    Args:
        files: its files by their addresses.
        host: the address to listen on.
        port: the port; 0 takes any that is free.

    Raises:
        UserError: if it cannot listen there.
    """

    # A server that was just stopped would keep its port for a minute.
    allow_reuse_address = sys.platform != "win32"
    daemon_threads = True

    def __init__(self, files: Mapping[str, Path], host: str, port: int) -> None:
        self.files = files
        try:
            super().__init__((host, port), SiteHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot listen on {host}:{port} ({reason}): say --port with another number"
            ) from error

    @property
    def url(self) -> str:
        """The page's address."""
        host, port = self.server_address
        return f"http://{host}:{port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of browsers that have changed their mind and hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(files: Mapping[str, Path], host: str, port: int, show: bool = False) -> None:
    """Serve files until Ctrl-C.

    Args:
        files: the files by their addresses.
        host: the address to listen on.
        port: the port; 0 takes any that is free.
        show: whether to open the page in the browser as soon as it answers.

    Raises:
        UserError: if the server cannot listen there.
    """
    with SiteServer(files, host, port) as server:
        LOGGER.info("the page is at %s; Ctrl-C ends it", server.url)
        if show:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            LOGGER.info("stopped")
