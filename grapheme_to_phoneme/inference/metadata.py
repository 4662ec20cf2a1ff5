"""What a model file says about itself, in the metadata properties of its ONNX file."""

import json
from dataclasses import dataclass, field, fields
from functools import cached_property

from grapheme_to_phoneme.constants import GRAPHEME_TO_PHONEME, PHONEME_TO_GRAPHEME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.normalization import Normalization

#: Raised when a file that this version writes could be misread by an older one.
FORMAT_VERSION = 1

#: The property that tells a model file of this package from any other ONNX file.
FORMAT_PROPERTY = "grapheme_to_phoneme.format_version"

#: The property that says how many letters a batch should have.
BATCH_PROPERTY = "grapheme_to_phoneme.letters_per_batch"

#: Letters in a batch where a file does not say how many suit its network.
USUAL_LETTERS_PER_BATCH = 1024

#: The property that holds everything else, as JSON.
DESCRIPTION_PROPERTY = "grapheme_to_phoneme.description"


#: First and last of the characters that tell languages apart: the private use area of the Basic
#: Multilingual Plane, which no text that people write has.
FIRST_TAG, LAST_TAG = "\ue000", "\uf8ff"


def is_tag(character: str) -> bool:
    """Return whether a character can be the tag of a language."""
    return FIRST_TAG <= character <= LAST_TAG


@dataclass(frozen=True)
class ModelLanguage:
    """A language of a model of several.

    Attributes:
        code: what users call it, such as ``ita``.
        tag: the character that the model sees in front of its words, of a private use area.
        language: a BCP 47 tag.
        normalization: what its spellings go through before the model sees them.
        scores: error rates in percent, such as ``dev_wer``.
    """

    code: str
    tag: str
    language: str
    normalization: Normalization
    scores: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Return plain values that :meth:`from_dict` accepts."""
        return {**vars(self), "normalization": self.normalization.to_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> "ModelLanguage":
        """Rebuild a language from :meth:`to_dict`'s values."""
        return cls(**{**values, "normalization": Normalization.from_dict(values["normalization"])})


@dataclass(frozen=True)
class ModelMetadata:
    """The facts that travel inside a model file.

    Attributes:
        letters: the letters that the model knows.
        phones: the phones that it can say.
        normalization: what a spelling goes through before the model sees it, unless its
            language says otherwise.
        language: a BCP 47 tag; ``und`` where it is not known, ``mul`` for several.
        notation: what the phones are written in, such as ``arpabet`` or ``ipa``.
        split_sha256: hash of every part of the lexicon, by its name.
        scores: error rates in percent, such as ``dev_wer``.
        git_commit: commit of the code that trained the model, or ``unknown``.
        git_dirty: ``true`` where tracked files differed from the commit.
        package_version: version of this package that wrote the file.
        training: what else is worth knowing of the training, such as seed and epochs.
        precision: what the arithmetic is done in, ``float32``, ``float16`` or ``int8``.
        languages: what a model of several languages knows; empty for a model of one.
        direction: ``grapheme-to-phoneme``; or ``phoneme-to-grapheme``, where letters stand for
            the phones that are read, by ``normalization.symbols``, and ``phones`` are letters.
        letters_per_batch: letters in a batch that the network is fast with on a processor.
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
    languages: tuple[ModelLanguage, ...] = ()

    @cached_property
    def languages_by_tag(self) -> dict[str, ModelLanguage]:
        """The languages of a model of several by their tags."""
        return {language.tag: language for language in self.languages}

    @property
    def first_tag(self) -> str:
        """What an example word needs in front: a tag where the model knows several languages."""
        return self.languages[0].tag if self.languages else ""

    def normalize(self, word: str) -> str:
        """Return the spelling that the model sees of a word; empty where nothing is left of it.

        Args:
            word: as people write it; for a model of several languages with the tag of its
                language in front.

        Raises:
            UserError: if the model knows several languages and no tag says which.
        """
        if not self.languages:
            return self.normalization.apply(word)
        language = self.languages_by_tag.get(word[:1])
        if language is None:
            raise UserError(
                "the model knows several languages: put the tag of one, which its description "
                f"has, in front of each word, or {self._choices()}"
            )
        spelling = language.normalization.apply(word[1:])
        return spelling and language.tag + spelling

    def find_language(self, wanted: str) -> ModelLanguage | None:
        """Return the language that is meant, None where the model knows it alone.

        Args:
            wanted: a code or a BCP 47 tag, in any case.

        Raises:
            UserError: if the model does not know it.
        """
        name = wanted.lower()
        if not self.languages and name == self.language.lower():
            return None
        for attribute in ("code", "language"):
            for language in self.languages:
                if getattr(language, attribute).lower() == name:
                    return language
        if not self.languages:
            raise UserError(f"the model knows no language '{wanted}', it is of {self.language}")
        raise UserError(f"the model knows no language '{wanted}': {self._choices()}")

    def require_one_language(self, setting: str) -> None:
        """Refuse a model of several languages where none was said.

        Args:
            setting: what says it, for the message.

        Raises:
            UserError: if the model knows several languages.
        """
        if self.languages:
            raise UserError(f"the model knows several languages: {self._choices()} with {setting}")

    def _choices(self) -> str:
        return f"say one of {', '.join(language.code for language in self.languages)}"

    direction: str = GRAPHEME_TO_PHONEME
    letters_per_batch: int = USUAL_LETTERS_PER_BATCH

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
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "letters": list(self.letters),
            "phones": list(self.phones),
            "normalization": self.normalization.to_dict(),
        }
        # A property of its own is one that older versions need not understand.
        del description["languages"], description["letters_per_batch"]
        # A file of one language is one that older versions read.
        if self.languages:
            description["languages"] = [language.to_dict() for language in self.languages]
        return {
            FORMAT_PROPERTY: str(FORMAT_VERSION),
            BATCH_PROPERTY: str(self.letters_per_batch),
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
            description["languages"] = tuple(
                map(ModelLanguage.from_dict, description.get("languages", ()))
            )
            letters_per_batch = int(properties.get(BATCH_PROPERTY, USUAL_LETTERS_PER_BATCH))
            return cls(**description, letters_per_batch=letters_per_batch)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source} is damaged: its description cannot be read") from error
