"""Composes the Hydra configuration: one place that knows where the YAML files are."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from grapheme_to_phoneme.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

RESOLVED_CONFIG_NAME = "config.yaml"
OVERRIDES_NAME = "overrides.yaml"

#: The keys below are other libraries', with kinds of values of their own.
FOREIGN = ("trainer.lightning.", "multirun.settings.")

#: Each key of this one is a training's settings or the folder of one that has ended.
TEACHERS = "distillation.teachers"

#: Keys of this one are null where that is their default and nowhere else.
INFER = "infer."

#: What is null by default takes a text otherwise, but for these, which take whole numbers, and
#: those that take several values.
NUMBERS_OR_NULL = frozenset(
    {
        "alignment.max_phones_per_letter",
        "data.entries",
        "data.size_bytes",
        "evaluate.beam_size",
        "infer.beam_size",
        "multirun.threads",
    }
)
SEVERAL_OR_NULL = frozenset({"data.lexicons", "data.split_sha256", "data.unicode_forms"})

#: What a message calls the kinds of values.
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def config_directory() -> Path:
    """Return the folder of the YAML configs: the wheel's own, or the repository's.

    Raises:
        UserError: if neither is there, which means a broken installation.
    """
    package_directory = Path(__file__).resolve().parent
    for candidate in (package_directory / "configs", package_directory.parent / "configs"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise UserError("the configs/ folder is missing: install the package again")


def compose_config(
    overrides: Sequence[str], root: str = "config", flags: Sequence[str] = ()
) -> "DictConfig":
    """Compose the configuration with Hydra overrides such as ``seed=3``.

    Args:
        overrides: the overrides.
        root: the root file's name: ``config``, or ``prediction`` for its groups alone.
        flags: further overrides that a command made of its flags, whose values it knows to be
            of the right kind: checking costs a twentieth of a second.

    Raises:
        UserError: if an override names a key or a choice that does not exist, with
            Hydra's own first line of explanation, or gives a value of the wrong kind.
    """
    from hydra import compose, initialize_config_dir

    choices, values = _separate(overrides)
    with (
        explained(),
        initialize_config_dir(config_dir=str(config_directory()), version_base="1.3"),
    ):
        config = compose(config_name=root, overrides=[*overrides, *flags])
        if values:
            _check_kinds(config, compose(config_name=root, overrides=choices), values)
        return config


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Hydra raises for a wrong configuration into a UserError of one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # What follows is where Hydra looked.
        told = str(error).partition("Config search path:")[0]
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        further = " ".join(line for line in lines[1:] if not line.startswith("See "))
        explanation = "; ".join(filter(None, (*lines[:1], further))) or type(error).__name__
        raise UserError(f"configuration: {explanation}") from error


def named_keys(overrides: Iterable[str]) -> set[str]:
    """Return the groups and keys that overrides are about, such as ``data.format``."""
    return {text.partition("=")[0].lstrip("+~") for text in overrides}


def quoted(text: str) -> str:
    """Return a text as Hydra wants it in an override, where it stays one whatever is in it."""
    # A backslash is itself but for before "${", to OmegaConf, and before a quote, to Hydra.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f"'{text}'"


def _separate(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides that choose among files, and the keys whose values others give."""
    directory = config_directory()
    choices, keys = [], []
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        if (directory / key).is_dir():
            choices.append(text)
        else:
            keys.append(key)
    return choices, keys


def _check_kinds(config: "DictConfig", default: "DictConfig", keys: Sequence[str]) -> None:
    """Refuse a value of another kind than the one that it replaces.

    Hydra takes any, and the mistake would show much later. Other libraries check theirs
    themselves.
    """
    from omegaconf import OmegaConf

    for key in keys:
        if key.startswith(FOREIGN) or key.rpartition(".")[0] == TEACHERS:
            continue
        kind, example = _expected_kind(default, key)
        given = OmegaConf.select(config, key)
        may_be_null = not example or not key.startswith(INFER)
        if kind is None or (given is None and may_be_null):
            continue
        if type(given) is not kind and not (kind is float and type(given) is int):
            shown = "null" if given is None else given
            hint = ""
            if kind is str and type(given) in (int, float):
                # What Hydra makes of a folder called 2024.
                hint = f": a file or folder of that name is ./{given}"
            raise UserError(
                f"{key} takes {KINDS.get(kind, 'several values')}{example}, not {shown}{hint}"
            )


def _expected_kind(default: "DictConfig", key: str) -> tuple[type | None, str]:
    """Return what values a key takes, None where that is not known, and words on its default."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    expected = OmegaConf.select(default, key)
    if expected is not None:
        return type(expected), f", such as {expected}"
    group = OmegaConf.select(default, parent) if parent else default
    is_added = not OmegaConf.is_dict(group) or name not in group
    # A companion is a network's settings, of a network that may have a companion itself.
    if is_added or key in SEVERAL_OR_NULL or name == "companion":
        return None, ""
    return (int if key in NUMBERS_OR_NULL else str), ""


def save_config(config: "DictConfig", overrides: Sequence[str], run_directory: Path) -> None:
    """Write the resolved configuration and the overrides it came from beside a run."""
    from omegaconf import OmegaConf

    from grapheme_to_phoneme.lexicon.files import replacing

    # A run whose settings are cut off could not go on.
    with replacing(run_directory / RESOLVED_CONFIG_NAME) as stream:
        stream.write(OmegaConf.to_yaml(config, resolve=True).encode())
    with replacing(run_directory / OVERRIDES_NAME) as stream:
        stream.write(OmegaConf.to_yaml(OmegaConf.create(list(overrides))).encode())


def load_overrides(run_directory: Path) -> list[str]:
    """Read the overrides of a run that :func:`save_config` wrote.

    Raises:
        UserError: if ``run_directory`` holds no run.
    """
    from omegaconf import OmegaConf

    path = run_directory / OVERRIDES_NAME
    if not path.is_file():
        raise UserError(f"{run_directory} is no training run: it has no {OVERRIDES_NAME}")
    return list(OmegaConf.load(path))


def flatten(config: "DictConfig") -> dict[str, object]:
    """Return every value of a configuration by its dotted name."""
    from omegaconf import OmegaConf

    flat: dict[str, object] = {}

    def visit(prefix: str, node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(f"{prefix}{key}.", value)
        else:
            flat[prefix.removesuffix(".")] = node

    visit("", OmegaConf.to_container(config, resolve=True, throw_on_missing=False))
    return flat
