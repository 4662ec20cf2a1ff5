"""The ports of the servers that are started here."""

import socket

from grapheme_to_phoneme.errors import UserError

#: The system would take the last 16 bits of a larger one, which are another port.
LARGEST_PORT = 2**16 - 1


def check_port(host: str, port: int, name: str) -> None:
    """Refuse a port that nobody can listen on; a server would say so when much has been done.

    Args:
        host: the address to listen on, or its name.
        port: the port.
        name: of its setting in the group ``serve``.

    Raises:
        UserError: if there is no such port or address, or another program has it.
    """
    if not 1 <= port <= LARGEST_PORT:
        raise UserError(f"serve.{name} must be 1 to {LARGEST_PORT}, not {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port}: {error.strerror}; "
            f"choose with serve.host=ADDRESS serve.{name}=PORT"
        ) from error


def unused_port() -> int:
    """Return a port of the loopback address that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
