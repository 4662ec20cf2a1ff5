"""What lies between a terminal and the commands: the log, flags as they are typed, refusals."""

import errno
import inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from fire.decorators import FIRE_METADATA

from grapheme_to_phoneme.configuration import quoted
from grapheme_to_phoneme.constants import PACKAGE_NAME
from grapheme_to_phoneme.errors import UserError

#: fire splits chained commands at this argument; a lone "-", its default, is standard input.
FIRE_SEPARATOR = "\x1f"

#: What stands before a further line about an argument, in a docstring without its margin.
CONTINUATION = "\n" + 8 * " "

#: The logger that Python gives warnings to where it is told to log them.
WARNINGS_LOGGER = "py.warnings"

#: The flags that fire has itself.
HELP_FLAGS = frozenset({"-h", "--help"})

#: Flags that take a whole number.
NUMBERS = ("n_best", "beam_size", "threads", "port", "workers")

#: Flags that need no value.
SWITCHES = (
    "filtered",
    "multirun",
    "open",
    "resume",
    "segment",
    "show_alignment",
    "show_arguments",
    "show_source",
)


def set_up_logging(prefix: str = "") -> None:
    """Send the package's own messages to the terminal, and warnings, whoever gives them.

    What else libraries tell goes to a run's log file alone; the handler of the root logger
    keeps them, Lightning for one, from adding terminal handlers of their own.

    Args:
        prefix: what every message begins with, where several processes tell theirs.
    """
    logging.captureWarnings(True)
    logging.getLogger().addHandler(logging.NullHandler())
    package_logger = logging.getLogger(PACKAGE_NAME)
    # The further processes of a distributed training would say everything once more.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    package_logger.setLevel(logging.INFO if is_first else logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    # The same handler for both: a server gives it the format of its log.
    for logger in (package_logger, logging.getLogger(WARNINGS_LOGGER)):
        logger.handlers = [handler]


def log_to_file(path: Path) -> None:
    """Also write the log to a file; a resumed run goes on in it.

    Warnings are in the file alone from then on: those of PyTorch, Lightning and the export to
    ONNX, which are about each other's code, would tear the bar of the training to pieces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger(WARNINGS_LOGGER).handlers.clear()


def arguments_for_fire(arguments: Sequence[str], commands: type) -> list[str]:
    """Write what stands behind ``g2p`` in the one way that fire understands as we do.

    Args:
        arguments: as they were typed.
        commands: the class whose methods are the commands.

    Raises:
        UserError: if a flag lacks its value, or something stands where fire's own flags do.
    """
    name = arguments[0].replace("-", "_") if arguments else ""
    command = None if name.startswith("_") else vars(commands).get(name)
    if "--" in arguments:
        for text in arguments[list(arguments).index("--") + 1 :]:
            if text not in HELP_FLAGS:
                raise UserError(
                    f"'{text}' stands after --, where nothing is read: words that begin with a "
                    "hyphen come from a file or, with --input -, from standard input"
                )
    spelled = list(arguments) if command is None else _spell_out(arguments, command)
    if "--" not in spelled and HELP_FLAGS.intersection(spelled):
        # Commands take every flag, to refuse what they do not know, and would take this one.
        spelled = [*(text for text in spelled[:1] if not text.startswith("-")), "--", "--help"]
        _tidy_help(commands)
    flags = [] if "--" in spelled else ["--"]
    return [*spelled, *flags, f"--separator={FIRE_SEPARATOR}"]


def _tidy_help(commands: type) -> None:
    """Let fire's help say of every command what its docstring says, and no more."""
    for method in filter(inspect.isfunction, vars(commands).values()):
        # How values are parsed would be shown as a command of its own.
        vars(method).pop(FIRE_METADATA, None)
        # Flags that are unknown are taken only to be refused; they would be shown as accepted.
        signature = inspect.signature(method)
        known = [
            item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD
        ]
        method.__signature__ = signature.replace(parameters=known)
        # What goes on in a line with a colon would be taken for another flag.
        method.__doc__ = inspect.getdoc(method).replace(CONTINUATION, " ")


def _spell_out(arguments: Sequence[str], command: Callable) -> list[str]:
    """Return a command's arguments with the long names of flags, each with a value.

    Short flags, which fire's help offers where a letter is unique, fire itself would give to
    the parameter that collects unknown flags. For a flag that needs no value it would take the
    next word, and for one that lacks its value "True".
    """
    parameters = inspect.signature(command).parameters.values()
    names = [item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY]
    initials = Counter(name[0] for name in names)
    flags = {f"-{name[0]}": f"--{name}" for name in names if initials[name[0]] == 1}
    spelled = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        flag, equals, value = argument.partition("=")
        flag = flags.get(flag, flag)
        if not equals and flag.startswith("-"):
            name = flag.lstrip("-").replace("-", "_")
            if name in SWITCHES:
                equals, value = "=", "true"
            elif name in names and following.startswith("--"):
                raise UserError(f"{flag} takes a value: write {flag}=VALUE")
        spelled.append(flag + equals + value)
    return spelled


def check_arguments(command: str, overrides: Iterable[str], unknown: Mapping[str, str]) -> None:
    """Refuse what a command does not understand.

    Args:
        command: the command, as it is typed.
        overrides: what stands where Hydra overrides do.
        unknown: the flags that it does not have.

    Raises:
        UserError: if there is such a flag, or an override that sets nothing.
    """
    if unknown:
        flags = ", ".join("--" + name.replace("_", "-") for name in unknown)
        raise UserError(f"{command} does not know {flags}: see `g2p {command} --help`")
    for text in overrides:
        if "=" not in text:
            raise UserError(
                f"'{text}' is no setting: write group=choice or key=value, see `g2p config`"
            )


def as_overrides(group: str, values: Mapping[str, str]) -> list[str]:
    """Turn flags into Hydra overrides, quoted as Hydra wants it.

    Args:
        group: the group of the configuration that has keys of the flags' names.
        values: the flags' values; an empty one was not given.

    Raises:
        UserError: if the value of a flag is of the wrong kind.
    """
    overrides = []
    for name, value in values.items():
        if value:
            flag = "--" + name.replace("_", "-")
            if name in NUMBERS and not value.isdecimal():
                raise UserError(f"{flag} takes a whole number, not '{value}'")
            if name in SWITCHES and value.lower() not in ("true", "false"):
                raise UserError(f"{flag} takes no value, or {flag}=false, not '{value}'")
            if name not in (*NUMBERS, *SWITCHES):
                # A text stays one, also where it looks like a number.
                value = quoted(value)
            elif name in NUMBERS:
                # Hydra takes 05 for a text.
                value = str(int(value))
            overrides.append(f"{group}.{name}={value}")
    return overrides


def is_on(name: str, value: str) -> bool:
    """Return whether a flag that needs no value was given.

    Raises:
        UserError: if it has a value other than true or false.
    """
    as_overrides("", {name: value})
    return value.lower() == "true"


def fail(message: str, status: int) -> NoReturn:
    """Tell in a line why the command ends, and end it with a status."""
    sys.stderr.write(f"g2p: error: {message}\n")
    raise SystemExit(status)


def fail_for_system(error: OSError) -> None:
    """End a command that the system has refused a file or a device; raise a bug on.

    Args:
        error: what the command has not expected.
    """
    if error.filename is not None:
        fail(f"cannot use {error.filename}: {error.strerror}", UserError.exit_status)
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
        raise error
    # Python flushes once more at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # Where the reader is gone, `head` for one, it has what it wants.
    if error.errno == errno.ENOSPC:
        # Standard output or a file: only opening one names it.
        fail(f"cannot write: {error.strerror}", UserError.exit_status)
