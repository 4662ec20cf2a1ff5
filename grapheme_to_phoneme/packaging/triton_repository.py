"""Writes the model repository that Triton Inference Server reads.

The format: ``docs/user_guide/model_repository.md`` and ``model_configuration.md`` of
github.com/triton-inference-server/server.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from string import Template

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import MODEL_FILENAME, PACKAGE_NAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import CoreAlphabets
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import (
    lexicon_file,
    model_file,
    notices,
    write_manifest,
)
from grapheme_to_phoneme.inference.pronouncer import SOURCE_MODEL, Pronouncer, available_cores
from grapheme_to_phoneme.lexicon.files import sha256_of
from grapheme_to_phoneme.packaging.carried_code import PREDICTION_CODE, copy_code
from grapheme_to_phoneme.packaging.engine_description import (
    PLAN_SUFFIX,
    EngineDescription,
    find_engine,
    read_description,
)
from grapheme_to_phoneme.packaging.model_address import available_model
from grapheme_to_phoneme.serving import triton_protocol as protocol
from grapheme_to_phoneme.serving.triton_engine import RUNNERS, choose_backend, choose_engine

LOGGER = logging.getLogger(__name__)

BACKENDS = ("python", *RUNNERS)
CONFIG_NAME = "config.pbtxt"

#: What Triton's Python backend imports of a version, and what is written there.
PYTHON_MODEL_NAME = "model.py"
PYTHON_MODEL = f'''"""What Triton's Python backend runs."""

from {PACKAGE_NAME}.serving.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

#: What a version has of this package: all that its model imports.
SERVED_CODE = (
    *PREDICTION_CODE,
    "serving/answer_cache.py",
    "serving/triton_model.py",
    "serving/triton_protocol.py",
)

#: What the file of the model that runs the network is called.
RUNNER_FILES = {"onnxruntime": MODEL_FILENAME, "tensorrt": f"model{PLAN_SUFFIX}"}

#: The folder, beside the versions, of words that warm a model up, and their lengths.
WARM_UP_FOLDER = "warmup"
WARM_UP_LENGTHS = (1, 4, 8, 16)

CONFIG = Template("""\
# Written by `g2p export-triton`, which writes it anew for the next version of the model.
name: $name
backend: "python"
# A batch is of words: those of a request, and those of other requests beside them.
max_batch_size: $most_words
input [ { name: "WORD" data_type: TYPE_STRING dims: [ 1 ] } ]
output [
  { name: "PHONES" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "PROBABILITY" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "ALIGNMENT" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "SOURCE" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "UNKNOWN" data_type: TYPE_STRING dims: [ 1 ] }
]
version_policy { latest { num_versions: 1 } }
instance_group [ { count: $instances kind: KIND_CPU } ]
dynamic_batching {
  max_queue_delay_microseconds: $queue_delay_us
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: $queue_timeout_us
    max_queue_size: $queue_requests
  }
}
# The model has a cache of its own: this one overlooks parameters and outputs, and keeps refusals.
response_cache { enable: false }
$warm_ups
$parameters
""")

WARM_UP = Template("""\
model_warmup {
  name: $name
  batch_size: 1
  inputs { key: "WORD" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: $name } }
}""")

GRAPH_WARM_UP = Template("""\
model_warmup {
  name: $name
  inputs { key: "words" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: $name } }
  inputs {
    key: "beam_size" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "beam_size" }
  }
}""")

GRAPH_CONFIG = Template("""\
# Written by `g2p export-triton`. The model beside it asks this one; others should ask that one.
name: $name
backend: "onnxruntime"
default_model_filename: $file
max_batch_size: 0
input [
  { name: "words" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "beam_size" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [
  { name: "pronunciations" data_type: TYPE_STRING dims: [ -1, -1 ] },
  { name: "log_probabilities" data_type: TYPE_FP32 dims: [ -1, -1 ] },
  { name: "chunks" data_type: TYPE_STRING dims: [ -1, -1, -1 ] }
]
# Two: the old version is asked until the new version of the model beside it is there.
version_policy { latest { num_versions: 2 } }
instance_group [ { count: $instances kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
parameters { key: "inter_op_thread_count" value { string_value: "1" } }
$warm_ups
""")

# A batch is of padding alone: what the ids are does not matter to a first run, their number does.
ENGINE_CONFIG = Template("""\
# Written by `g2p export-triton`. The model beside it asks this one; others should ask that one.
name: $name
platform: "tensorrt_plan"
default_model_filename: $file
max_batch_size: $most_words
input [ { name: "letters" data_type: TYPE_INT64 dims: [ -1 ] } ]
output [
  { name: "chunk_ids" data_type: TYPE_INT64 dims: [ $beam_size, -1 ] },
  { name: "log_probabilities" data_type: TYPE_FP32 dims: [ $beam_size ] }
]
# The old version is asked until the new version of the model beside it is there, if it can be.
version_policy { latest { num_versions: $versions } }
instance_group [ { count: 1 kind: KIND_GPU } ]
model_warmup {
  name: "typical"
  batch_size: $words
  inputs { key: "letters" value { data_type: TYPE_INT64 dims: [ $letters ] zero_data: true } }
}
$parameters
""")


@dataclass(frozen=True)
class Repository:
    """A model repository.

    Attributes:
        path: its folder.
        models: the models in Triton to load, in this order.
        version: the newest version of the model.
        is_new: whether that was added now.
    """

    path: Path
    models: tuple[str, ...]
    version: int
    is_new: bool


def find_plan(model: Path, settings: DictConfig) -> Path | None:
    """Return the TensorRT engine of a model: the one that is named, or else the run's.

    Args:
        model: a model file or a package's folder.
        settings: the configuration ``serve``.

    Raises:
        UserError: if there is no such model.
    """
    return find_engine(model_file(model)) if settings.plan is None else Path(settings.plan)


def export_model(config: DictConfig, engine: str | None = None) -> Repository:
    """Add the model that the configuration names to the repository that it names.

    Args:
        config: the configuration; ``serve``, ``paths`` and ``logger`` are used.
        engine: what is to run the server, ``docker`` or ``wheel``; None where that is not known
            yet, which then matters only if ``serve.backend`` does not say what runs the model.

    Raises:
        MissingDependencyError: as :func:`available_model` and :func:`choose_engine` do.
        UserError: as they, :func:`choose_backend` and :func:`export_repository` do.
    """
    settings = config.serve
    with available_model(config, settings.model) as model:
        plan = find_plan(model, settings)
        backend = settings.backend
        if engine is not None or backend == "auto":
            engine = engine or choose_engine(settings)
            backend = choose_backend(settings, engine, plan is not None)
        return export_repository(model, settings, backend, plan)


def export_repository(
    model: Path, settings: DictConfig, backend: str, plan: Path | None = None
) -> Repository:
    """Add a model to a repository as its newest version, unless it is that already.

    A version has everything that it needs and is never changed; a server that reads the repository
    takes it when it is told to, and keeps what it has if it cannot.

    Args:
        model: a model file or a package's folder.
        settings: the configuration ``serve``.
        backend: what runs the model, one of ``BACKENDS``.
        plan: the TensorRT engine for the backend ``tensorrt``; its description lies beside it.

    Raises:
        UserError: if there is no such model, backend or engine, or the engine is of another model.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend '{backend}': choose {' or '.join(BACKENDS)}")
    file = model_file(model)
    pronouncer = Pronouncer(model, threads=1)
    pronouncer.metadata.require_pronunciations("Triton")
    words = warm_up_words(pronouncer.metadata)
    pronouncer.pronounce(words.values(), source=SOURCE_MODEL)
    properties = pronouncer.metadata.to_properties()
    limits = protocol.Limits(**settings.limits)
    engine = None
    if backend == "tensorrt":
        engine = _read_engine(plan, pronouncer.metadata, file)
        file, properties = plan, engine.properties
        limits = _within(limits, engine)
    path = Path(settings.repository)
    runner = f"{settings.name}_{RUNNERS[backend]}" if backend in RUNNERS else ""
    # What runs the network first: the model beside it asks it.
    models = (runner, settings.name) if runner else (settings.name,)
    folders = [path / name for name in reversed(models)]
    scratch = path.with_name(path.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    contents = [_model_contents(scratch / settings.name, model, backend)]
    if runner:
        contents.append(_runner_contents(scratch / runner, file, RUNNER_FILES[backend]))
    if engine is not None:
        engine.write(contents[-1] / RUNNER_FILES[backend])
    version, is_new = _choose_version(folders, contents)
    search = protocol.Search(
        settings.threads,
        settings.letters_per_batch,
        settings.cached_words,
        runner,
        has_lexicon=lexicon_file(model) is not None,
        profile=None if engine is None else asdict(engine.profile),
    )
    # Triton loads models side by side: one that asks another cannot be warmed up by its own words.
    texts = [_config(settings, search, limits, properties, {} if runner else words)]
    if engine is not None:
        versions = 1 + _has_like(folders[-1], version, engine)
        texts.append(_engine_config(runner, engine, versions))
    elif runner:
        texts.append(_graph_config(settings, runner, words))
    for folder, new, text in reversed(list(zip(folders, contents, texts, strict=True))):
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            new.replace(folder / str(version))
        _write(folder / CONFIG_NAME, text.encode())
    _write_warm_ups(folders[-1] / WARM_UP_FOLDER, words if engine is None else {}, backend)
    shutil.rmtree(scratch)
    what = "added" if is_new else "it has this model already,"
    LOGGER.info("%s: %s version %d of %s", path, what, version, settings.name)
    return Repository(path, models, version, is_new)


def _write_warm_ups(folder: Path, words: Mapping[str, str], backend: str) -> None:
    """Write what the configuration lets Triton ask before it says that a model is ready."""
    for name, word in words.items():
        _write(folder / name, _serialize(word))
    if backend == "onnxruntime":
        _write(folder / "beam_size", (1).to_bytes(8, "little"))


def warm_up_words(metadata: ModelMetadata) -> dict[str, str]:
    """Return words of several lengths, made of the model's own letters, by names for them."""
    letters = "".join(letter for letter in metadata.letters if not letter.isspace())
    spellings = {f"word_{length}": (letters * length)[:length] for length in WARM_UP_LENGTHS}
    return {name: metadata.first_tag + spelling for name, spelling in spellings.items()}


def _versions(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]


def _within(limits: protocol.Limits, engine: EngineDescription) -> protocol.Limits:
    """Return limits that an engine can keep, the number of whose hypotheses is fixed."""
    return replace(
        limits,
        most_n_best=min(limits.most_n_best, engine.beam_size),
        most_beam_size=min(limits.most_beam_size, engine.beam_size),
    )


def _choose_version(folders: Sequence[Path], contents: Sequence[Path]) -> tuple[int, bool]:
    """Return the version of new contents, and whether it is new: the last one may hold them."""
    last = max((version for folder in folders for version in _versions(folder)), default=0)
    is_there = last > 0 and all(
        _digests(new) == _digests(folder / str(last))
        for new, folder in zip(contents, folders, strict=True)
    )
    return (last, False) if is_there else (last + 1, True)


def _model_contents(scratch: Path, model: Path, backend: str) -> Path:
    """Write what a version of the model consists of; return its folder."""
    scratch.mkdir(parents=True)
    copy_code(SERVED_CODE, scratch)
    (scratch / PYTHON_MODEL_NAME).write_text(PYTHON_MODEL, encoding="utf-8")
    package = scratch / protocol.PACKAGE_FOLDER
    package.mkdir()
    for path in (lexicon_file(model), *notices(model)):
        if path is not None:
            shutil.copyfile(path, package / path.name)
    if backend == "python":
        shutil.copyfile(model_file(model), package / MODEL_FILENAME)
        # A copy that is not whole is then no version that can be loaded.
        write_manifest(package, MODEL_FILENAME)
    return scratch


def _runner_contents(scratch: Path, file: Path, name: str) -> Path:
    scratch.mkdir(parents=True)
    shutil.copyfile(file, scratch / name)
    return scratch


def _read_engine(plan: Path | None, metadata: ModelMetadata, model: Path) -> EngineDescription:
    """Read the description of an engine; refuse the engine of another model."""
    if plan is None:
        raise UserError(
            f"{model} has no TensorRT engine in core/ beside it: build one with "
            "`g2p export-tensorrt`, or say serve.plan=FILE"
        )
    engine = read_description(plan)
    own = CoreAlphabets.from_properties(engine.properties, str(plan)).metadata
    # The variants of a model differ in precision, and so in scores.
    if replace(own, precision=metadata.precision, scores=metadata.scores) != metadata:
        raise UserError(f"{plan} is the engine of another model than {model}")
    LOGGER.info("%s is for TensorRT %s on %s alone", plan, engine.tensorrt_version, engine.gpu)
    return engine


def _digests(folder: Path) -> dict[str, str]:
    """Return the hash of every file that is exported; a server leaves bytecode beside them."""
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            digests[str(path.relative_to(folder))] = sha256_of(path)
    return digests


def _config(
    settings: DictConfig,
    search: protocol.Search,
    limits: protocol.Limits,
    properties: dict[str, str],
    warm_ups: Iterable[str],
) -> str:
    metadata = ModelMetadata.from_properties(properties, settings.name)
    parameters = {
        protocol.LIMITS_PARAMETER: limits.to_text(),
        protocol.SEARCH_PARAMETER: search.to_text(),
        # For people who look; the properties that follow have everything.
        "language": metadata.language,
        "notation": metadata.notation,
        "precision": metadata.precision,
        "git_commit": metadata.git_commit,
        "package_version": metadata.package_version,
        **{name: str(value) for name, value in metadata.scores.items()},
        **properties,
    }
    return CONFIG.substitute(
        name=_quote(settings.name),
        most_words=limits.most_words,
        instances=_instances(settings),
        queue_delay_us=settings.queue_delay_us,
        queue_timeout_us=settings.queue_timeout_ms * 1000,
        queue_requests=settings.queue_requests,
        warm_ups=_format_warm_ups(WARM_UP, warm_ups),
        parameters=format_parameters(parameters),
    )


def _has_like(folder: Path, version: int, engine: EngineDescription) -> bool:
    """Return whether the version before can be loaded beside this one, by the same configuration.

    Triton refuses a model of which a version cannot be loaded.
    """

    def needs(one: EngineDescription) -> tuple:
        return one.tensorrt_version, one.gpu, one.beam_size, one.profile.largest[0]

    before = max((number for number in _versions(folder) if number < version), default=0)
    plan = folder / str(before) / RUNNER_FILES["tensorrt"]
    return before > 0 and needs(EngineDescription.read(plan)) == needs(engine)


def _engine_config(name: str, engine: EngineDescription, versions: int) -> str:
    words, letters = engine.profile.typical
    parameters = {
        "tensorrt_version": engine.tensorrt_version,
        "gpu": engine.gpu,
        **{key: "x".join(map(str, shape)) for key, shape in asdict(engine.profile).items()},
    }
    return ENGINE_CONFIG.substitute(
        name=_quote(name),
        file=_quote(RUNNER_FILES["tensorrt"]),
        most_words=engine.profile.largest[0],
        beam_size=engine.beam_size,
        versions=versions,
        words=words,
        letters=letters,
        parameters=format_parameters(parameters),
    )


def _graph_config(settings: DictConfig, name: str, warm_ups: Iterable[str]) -> str:
    return GRAPH_CONFIG.substitute(
        name=_quote(name),
        file=_quote(RUNNER_FILES["onnxruntime"]),
        instances=_instances(settings),
        warm_ups=_format_warm_ups(GRAPH_WARM_UP, warm_ups),
    )


def _format_warm_ups(template: Template, names: Iterable[str]) -> str:
    return "\n".join(template.substitute(name=_quote(name)) for name in names)


def _instances(settings: DictConfig) -> int:
    # With a single one, Triton 2.51 lets a request lie for half a second now and then.
    return settings.instances or max(2, available_cores())


def format_parameters(parameters: Mapping[str, str]) -> str:
    """Return parameters of a model as its configuration has them."""
    return "\n".join(
        f"parameters {{ key: {_quote(name)} value {{ string_value: {_quote(value)} }} }}"
        for name, value in parameters.items()
    )


def _quote(text: str) -> str:
    """Return a string as the text format of protocol buffers has it.

    That knows JSON's escapes but those of UTF-16 code units: what is no ASCII stays as it is.
    """
    return json.dumps(text, ensure_ascii=False)


def _serialize(word: str) -> bytes:
    """Return a tensor of one string as the protocol has it: after its length in four bytes."""
    content = word.encode()
    return len(content).to_bytes(4, "little") + content


def _write(path: Path, content: bytes) -> None:
    """Put a file into place at once: a server may be reading."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
