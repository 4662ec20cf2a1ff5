"""Errors that a user can cause and mend; everything else is a bug and keeps its traceback."""


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
