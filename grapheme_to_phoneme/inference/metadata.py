"""What a model file says about itself, in the metadata properties of its ONNX file."""

import json
from dataclasses import dataclass, field

from grapheme_to_phoneme.constants import GRAPHEME_TO_PHONEME, PHONEME_TO_GRAPHEME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.normalization import Normalization

#: Raised when a file that this version writes could be misread by an older one.
FORMAT_VERSION = 1

#: The property that tells a model file of this package from any other ONNX file.
FORMAT_PROPERTY = "grapheme_to_phoneme.format_version"

#: The property that holds everything else, as JSON.
DESCRIPTION_PROPERTY = "grapheme_to_phoneme.description"


@dataclass(frozen=True)
class ModelMetadata:
    """The facts that travel inside a model file.

    Attributes:
        letters: the letters that the model knows.
        phones: the phones that it can say.
        normalization: what a spelling goes through before the model sees it.
        language: a BCP 47 tag; ``und`` where it is not known.
        notation: what the phones are written in, such as ``arpabet`` or ``ipa``.
        split_sha256: hash of every part of the lexicon, by its name.
        scores: error rates in percent, such as ``dev_wer``.
        git_commit: commit of the code that trained the model, or ``unknown``.
        git_dirty: ``true`` where tracked files differed from the commit.
        package_version: version of this package that wrote the file.
        training: what else is worth knowing of the training, such as seed and epochs.
        precision: what the arithmetic is done in, ``float32``, ``float16`` or ``int8``.
        direction: ``grapheme-to-phoneme``; or ``phoneme-to-grapheme``, where letters stand for
            the phones that are read, by ``normalization.symbols``, and ``phones`` are letters.
    """

    letters: tuple[str, ...]
    phones: tuple[str, ...]
    normalization: Normalization
    language: str
    notation: str
    split_sha256: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    git_commit: str = "unknown"
    git_dirty: str = "unknown"
    package_version: str = "unknown"
    training: dict[str, str | int | float] = field(default_factory=dict)
    precision: str = "float32"
    direction: str = GRAPHEME_TO_PHONEME

    @property
    def spells(self) -> bool:
        """Whether the model reads phones and gives spellings."""
        return self.direction == PHONEME_TO_GRAPHEME

    def require_pronunciations(self, what: str) -> None:
        """Refuse a model that spells where only pronunciations make sense.

        Args:
            what: what is asked for, to begin the message with.

        Raises:
            UserError: if the model spells.
        """
        if self.spells:
            raise UserError(
                f"{what} needs a model that pronounces, and this one spells "
                f"(direction={PHONEME_TO_GRAPHEME}): it works with infer, evaluate and export"
            )

    def to_properties(self) -> dict[str, str]:
        """Return the metadata properties of the ONNX file."""
        description = {
            **vars(self),
            "letters": list(self.letters),
            "phones": list(self.phones),
            "normalization": self.normalization.to_dict(),
        }
        return {
            FORMAT_PROPERTY: str(FORMAT_VERSION),
            DESCRIPTION_PROPERTY: json.dumps(description, ensure_ascii=False),
        }

    @classmethod
    def from_properties(cls, properties: dict[str, str], source: str) -> "ModelMetadata":
        """Read what :meth:`to_properties` wrote.

        Args:
            properties: the metadata properties of an ONNX file.
            source: the file's name, for the messages.

        Raises:
            UserError: if the file is no model of this package or of another format version.
        """
        version = properties.get(FORMAT_PROPERTY)
        if version is None:
            raise UserError(f"{source} is an ONNX file, but no model that `g2p export` wrote")
        if version != str(FORMAT_VERSION):
            raise UserError(
                f"{source} has format version {version}, this program reads {FORMAT_VERSION}: "
                "export the model again, or install the version of the program that wrote it"
            )
        try:
            description = json.loads(properties[DESCRIPTION_PROPERTY])
            description["letters"] = tuple(description["letters"])
            description["phones"] = tuple(description["phones"])
            description["normalization"] = Normalization.from_dict(description["normalization"])
            return cls(**description)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source} is damaged: its description cannot be read") from error
