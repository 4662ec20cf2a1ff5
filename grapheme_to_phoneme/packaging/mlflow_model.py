"""Puts a model into MLflow, in the form that its scoring server runs.

The form is a pyfunc from code: a short script makes the object of
:class:`~grapheme_to_phoneme.serving.mlflow_pyfunc.PronunciationModel`, whose source goes along
with that of `inference/`. Nothing is pickled.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.constants import MLFLOW_ARTIFACT, PACKAGE_NAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import model_file
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.mlflow_connection import patience, recorded_run
from grapheme_to_phoneme.packaging.carried_code import PREDICTION_CODE, copy_code
from grapheme_to_phoneme.packaging.model_address import connect
from grapheme_to_phoneme.packaging.package import CARD_NAME, package_file, write_package

if TYPE_CHECKING:
    import pandas
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

LOGGER = logging.getLogger(__name__)

#: A model's name inside a run.
MODEL_NAME = "model"

#: What a served model needs installed. mlflow-skinny is MLflow without its tracking server.
REQUIREMENTS = ("mlflow-skinny", "numpy", "onnxruntime", "pandas")

#: The parts of this package that go along with a model.
CARRIED = (*PREDICTION_CODE, "serving/mlflow_guard.py", "serving/mlflow_pyfunc.py")

#: MLflow runs it to get the model.
SCRIPT_NAME = "served_model.py"
SCRIPT = f"""from mlflow.models import set_model

from {PACKAGE_NAME}.serving.mlflow_pyfunc import PronunciationModel

set_model(PronunciationModel())
"""

EXAMPLE_WORDS = ("kubernetes", "tensor")
#: Of a model that cannot spell those.
EXAMPLE_LETTERS = 5


class Registration(NamedTuple):
    """A version of a registered model.

    Attributes:
        address: what `g2p infer --model` and `g2p serve mlflow --model` take.
        tracking_uri: the store that it is in.
    """

    address: str
    tracking_uri: str


def save_model(model: Path, target: Path, scoring: DictConfig) -> None:
    """Write a model in MLflow's form, without a server.

    Args:
        model: a model file or a package's folder.
        target: the folder to write, empty or not there.
        scoring: the group ``serve.scoring``.

    Raises:
        UserError: as :class:`Pronouncer` does.
    """
    with _model_arguments(model, scoring) as arguments:
        # It takes seconds, which a mistake in the model's name shall not.
        import mlflow

        mlflow.pyfunc.save_model(target, **arguments)


def register_run(run_directory: Path, config: DictConfig, alias: str | None) -> Registration:
    """Register a run's model: its package, in MLflow's form.

    Where the store has the run, the model belongs to it there.

    Args:
        run_directory: a finished run.
        config: the run's configuration.
        alias: a name that shall stand for this version from now on.

    Raises:
        MissingDependencyError: if no MLflow server answers.
        UserError: as :func:`write_package` does, or if MLflow refuses the model.
    """
    connect(config.logger)
    run_id = recorded_run(run_directory, config.logger.tracking_uri)
    with TemporaryDirectory(prefix="g2p-") as folder:
        package = Path(folder) / MLFLOW_ARTIFACT
        write_package(run_directory, config, package)
        return _register(package, config, run_id, alias)


def register_model(model: Path, config: DictConfig, alias: str | None) -> Registration:
    """Register a package, or a model file, which is packaged for it.

    Args:
        model: the file or the folder.
        config: the configuration.
        alias: a name that shall stand for this version from now on.

    Raises:
        MissingDependencyError: if no MLflow server answers.
        UserError: as :func:`package_file` does, or if MLflow refuses the model.
    """
    path = model_file(model)
    connect(config.logger)
    with TemporaryDirectory(prefix="g2p-") as folder:
        package = model
        if model.is_file():
            package = Path(folder) / MLFLOW_ARTIFACT
            package_file(path, config, package)
        return _register(package, config, None, alias)


def _register(
    package: Path, config: DictConfig, run_id: str | None, alias: str | None
) -> Registration:
    name = config.logger.registered_model
    if not name:
        raise UserError("say which name the model shall have: logger.registered_model=NAME")
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    metadata = Pronouncer(package, threads=1).metadata
    client = mlflow.MlflowClient()
    try:
        with (
            patience(config.logger.register_timeout_s),
            _model_arguments(package, config.serve.scoring) as arguments,
        ):
            mlflow.set_experiment(experiment_id=_experiment(client, config.logger))
            logged = Model.log(
                artifact_path=None,
                name=MODEL_NAME,
                flavor=mlflow.pyfunc,
                run_id=run_id,
                **arguments,
            )
            number = _add_version(client, name, logged.model_uri, run_id, metadata, package)
            if alias:
                client.set_registered_model_alias(name, alias, number)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        uri = config.logger.tracking_uri
        raise UserError(f"MLflow at {uri} did not take the model: {reason}") from error
    return Registration(f"models:/{name}/{number}", config.logger.tracking_uri)


def _experiment(client: "MlflowClient", config: DictConfig) -> str:
    """Return the id of the experiment that trainings log to."""
    experiment = client.get_experiment_by_name(config.experiment_name)
    if experiment is not None:
        return experiment.experiment_id
    # A server decides for itself where its artifacts go; without one they go beside the store.
    is_server = config.tracking_uri.startswith("http")
    location = None if is_server else Path(config.fallback_artifacts).resolve().as_uri()
    return client.create_experiment(config.experiment_name, artifact_location=location)


def _add_version(
    client: "MlflowClient",
    name: str,
    source: str,
    run_id: str | None,
    metadata: ModelMetadata,
    package: Path,
) -> str:
    """Make what was logged the next version of a registered model; return its number."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    facts = {
        "git_commit": metadata.git_commit,
        "language": metadata.language,
        "notation": metadata.notation,
        "precision": metadata.precision,
        **metadata.scores,
    }
    created = client.create_model_version(
        name,
        source,
        run_id=run_id,
        tags={key: str(value) for key, value in facts.items()},
        description=_card(package),
        model_id=source.rpartition("/")[2],
    )
    return str(created.version)


def _card(package: Path) -> str | None:
    path = package / CARD_NAME
    return path.read_text(encoding="utf-8") if path.is_file() else None


@contextmanager
def _model_arguments(model: Path, scoring: DictConfig) -> Iterator[dict[str, Any]]:
    """Give what MLflow wants to know of a model, with files that go away afterwards."""
    metadata = Pronouncer(model, threads=1).metadata
    metadata.require_pronunciations("MLflow")
    with TemporaryDirectory(prefix="g2p-") as folder:
        # MLflow takes paths for addresses, in which `#` and `%` mean something.
        copy = Path(folder) / MLFLOW_ARTIFACT
        if model.is_dir():
            shutil.copytree(model, copy)
        else:
            shutil.copyfile(model, copy)
        script = Path(folder) / SCRIPT_NAME
        script.write_text(SCRIPT, encoding="utf-8")
        yield {
            "python_model": str(script),
            "code_paths": [str(copy_code(CARRIED, Path(folder)))],
            "artifacts": {MLFLOW_ARTIFACT: str(copy)},
            "signature": _signature(),
            "input_example": (_example(metadata), {"n_best": 2}),
            "pip_requirements": [f"{name}=={version(name)}" for name in REQUIREMENTS],
            "model_config": OmegaConf.to_container(scoring, resolve=True),
        }


def _example(metadata: ModelMetadata) -> "pandas.DataFrame":
    import pandas

    from grapheme_to_phoneme.serving.mlflow_guard import WORD_COLUMN

    words = EXAMPLE_WORDS
    if not set("".join(words)) <= set(metadata.letters):
        words = ("".join(metadata.letters[:EXAMPLE_LETTERS]),)
    return pandas.DataFrame({WORD_COLUMN: [metadata.first_tag + word for word in words]})


def _signature() -> "ModelSignature":
    """Return what goes in and out; :class:`PronunciationModel` says what it means."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import (
        Array,
        ColSpec,
        Object,
        ParamSchema,
        ParamSpec,
        Property,
        Schema,
    )

    from grapheme_to_phoneme.serving.mlflow_guard import WORD_COLUMN

    alignment = Array(Object([Property("letter", "string"), Property("phones", "string")]))
    choice = Object(
        [
            Property("phones", "string"),
            Property("probability", "double"),
            Property("alignment", alignment, required=False),
        ]
    )
    return ModelSignature(
        inputs=Schema([ColSpec("string", WORD_COLUMN)]),
        outputs=Schema(
            [
                ColSpec("string", WORD_COLUMN),
                ColSpec("string", "phones"),
                ColSpec("double", "probability"),
                ColSpec(Array(choice), "alternatives"),
                ColSpec(Array("string"), "unknown_characters"),
                ColSpec("string", "source"),
                ColSpec(alignment, "alignment", required=False),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("n_best", "long", 1),
                ParamSpec("beam_size", "long", None),
                ParamSpec("with_alignment", "boolean", False),
            ]
        ),
    )
