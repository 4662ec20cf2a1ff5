"""Errors that a user can cause and mend; everything else is a bug and keeps its traceback."""

from importlib.util import find_spec

from grapheme_to_phoneme.constants import DISTRIBUTION_NAME


class UserError(Exception):
    """A mistake in the input, the configuration or the surroundings.

    The message is one line that says what is wrong and what to do about it. The command
    line prints it to standard error and exits with ``exit_status``.
    """

    exit_status = 2


class MissingDependencyError(UserError):
    """An optional package, a device or a server that the command needs is not there."""

    exit_status = 3


class InterruptedTrainingError(UserError):
    """Ctrl-C ended a training that can go on; the message says by which command."""

    exit_status = 130


def require(module: str, extra: str) -> None:
    """Refuse to go on without an optional package.

    Args:
        module: what is imported of it.
        extra: the extra of this package that brings it.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    if find_spec(module) is None:
        raise MissingDependencyError(
            f"this command needs {module}: pip install '{DISTRIBUTION_NAME}[{extra}]'"
        )
