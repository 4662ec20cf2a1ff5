"""What lies beside a TensorRT engine and says what it fits; needs neither TensorRT nor a GPU."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from grapheme_to_phoneme.constants import CORE_DIRECTORY
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import Profile
from grapheme_to_phoneme.lexicon.files import sha256_of

LOGGER = logging.getLogger(__name__)

#: The name of an engine, in the folder of the core network that it was built from.
PLAN_SUFFIX = ".plan"

#: Added to an engine's name for its description.
DESCRIPTION_SUFFIX = ".yaml"


@dataclass(frozen=True)
class EngineDescription:
    """What lies beside an engine.

    Attributes:
        plan_sha256: hash of the engine's file.
        core_sha256: hash of the core network that it was built from.
        tensorrt_version: the only version of TensorRT that can load it.
        gpu: the only model of GPU that it runs on.
        profile: the shapes that it takes.
        beam_size: hypotheses that it gives for every word.
        agreement: share of the sample's words whose phones were ONNX Runtime's, when checked.
        worst_difference: of the log probabilities, where the phones were the same.
        properties: the metadata properties of the core network.
    """

    plan_sha256: str
    core_sha256: str
    tensorrt_version: str
    gpu: str
    profile: Profile
    beam_size: int
    agreement: float
    worst_difference: float
    properties: dict[str, str]

    def write(self, engine: Path) -> None:
        """Write the description of the engine in the file ``engine``."""
        OmegaConf.save(OmegaConf.create(asdict(self)), description_path(engine))

    @classmethod
    def read(cls, engine: Path) -> "EngineDescription":
        """Read what lies beside an engine.

        Raises:
            UserError: if it is missing or damaged.
        """
        path = description_path(engine)
        if not path.is_file():
            raise UserError(
                f"{path} must lie beside the engine and is missing: copy both, or make them with "
                "`g2p export-tensorrt`"
            )
        try:
            values = OmegaConf.to_container(OmegaConf.load(path))
            shapes = {name: tuple(shape) for name, shape in values.pop("profile").items()}
            return cls(profile=Profile(**shapes), **values)
        # What PyYAML, OmegaConf and missing fields raise shares no base class but this.
        except Exception as error:
            raise UserError(f"{path} is damaged: copy it again") from error


def description_path(engine: Path) -> Path:
    """Return where the description of an engine lies."""
    return engine.with_name(engine.name + DESCRIPTION_SUFFIX)


def read_description(engine: Path) -> EngineDescription:
    """Read what lies beside an engine, and make sure that it is of this engine.

    Raises:
        UserError: if one of the two is missing, or the description damaged or of another engine.
    """
    if not engine.is_file():
        raise UserError(f"there is no engine {engine}: make one with `g2p export-tensorrt`")
    description = EngineDescription.read(engine)
    if sha256_of(engine) != description.plan_sha256:
        raise UserError(f"{engine} is not the engine that lies described beside it")
    return description


def find_engine(model_file: Path) -> Path | None:
    """Return the engine of a run's model: of its float16 network, or else of another one.

    One that was built from other networks than the run has now is told of and left out.
    """
    for engine in sorted(model_file.with_name(CORE_DIRECTORY).glob(f"*{PLAN_SUFFIX}")):
        core = engine.with_suffix(".onnx")
        try:
            description = read_description(engine)
        except UserError as error:
            LOGGER.warning("%s", error)
            continue
        if core.is_file() and sha256_of(core) == description.core_sha256:
            return engine
        LOGGER.warning("%s was not built from %s: build it again", engine, core.name)
    return None
