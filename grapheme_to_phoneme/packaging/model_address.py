"""Models that lie in MLflow, by their address: fetched for as long as they are used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import MLFLOW_ARTIFACT
from grapheme_to_phoneme.errors import MissingDependencyError, UserError, require
from grapheme_to_phoneme.mlflow_connection import answers, patience, prepare_client
from grapheme_to_phoneme.runs import model_path

#: What an address begins with: a registered model, or something that a run logged.
SCHEMES = ("models:/", "runs:/")

#: The file that makes a folder a model of MLflow's.
DESCRIPTION_NAME = "MLmodel"


def is_model_address(model: str | Path | None) -> bool:
    """Return whether ``model`` names something in MLflow rather than a file or folder."""
    return isinstance(model, str) and model.startswith(SCHEMES)


@contextmanager
def fetched(address: str, config: DictConfig) -> Iterator[Path]:
    """Fetch what an address names into a folder that goes away afterwards.

    Args:
        address: such as ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` or ``runs:/ID/PATH``.
        config: the group ``logger``, which says where MLflow is.

    Yields:
        A model of MLflow's, a folder; or whatever else a run logged there.

    Raises:
        MissingDependencyError: if no server answers.
        UserError: if there is nothing at the address.
    """
    connect(config)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory(prefix="g2p-") as folder:
        try:
            with patience(config.register_timeout_s):
                path = download_artifacts(address, dst_path=folder)
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"cannot fetch {address} from {config.tracking_uri}: {reason}"
            ) from error
        yield Path(path)


@contextmanager
def available_model(config: DictConfig, given: str | None) -> Iterator[Path]:
    """Give the model to use; one that is in MLflow is here only until it is loaded.

    Args:
        config: the configuration; ``paths`` and ``logger`` are used.
        given: a model file, the folder of a package or an address; None for the newest
            trained model.

    Raises:
        MissingDependencyError: if MLflow is not installed or no server answers.
        UserError: if there is nothing at the address, or no trained model.
    """
    if is_model_address(given):
        require("mlflow", "tracking")
        with fetched_model(given, config.logger) as path:
            yield path
    else:
        yield model_path(config, given)


@contextmanager
def fetched_model(address: str, config: DictConfig) -> Iterator[Path]:
    """Fetch a model file or a package's folder, as :func:`fetched` does."""
    with fetched(address, config) as path:
        yield packaged_model(path, address)


def packaged_model(path: Path, address: str) -> Path:
    """Return the package, or the model file, inside a model of MLflow's.

    Nothing that came with it is run.

    Args:
        path: what :func:`fetched` gave; a model file or a package is returned as it is.
        address: for the message.

    Raises:
        UserError: if it is another kind of model.
    """
    if not (path / DESCRIPTION_NAME).is_file():
        return path
    from mlflow.models import Model

    flavor = Model.load(path).flavors.get("python_function", {})
    artifact = (flavor.get("artifacts") or {}).get(MLFLOW_ARTIFACT)
    if artifact is None:
        raise UserError(f"{address} is a model, but none that `g2p register` or `g2p train` made")
    found = path / artifact["path"]
    if not found.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{address} is damaged: register the model again")
    return found


def connect(config: DictConfig) -> None:
    """Point MLflow's client at the tracking server.

    Raises:
        MissingDependencyError: if no server answers.
    """
    prepare_client(config)
    if not answers(config.tracking_uri, config.probe_timeout_s):
        raise MissingDependencyError(
            f"no MLflow server answers at {config.tracking_uri}: start one, or say "
            "logger.tracking_uri=ADDRESS"
        )
    import mlflow

    mlflow.set_tracking_uri(config.tracking_uri)
