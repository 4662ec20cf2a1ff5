"""The lexicons of a model of several languages: which there are, and what tells their words apart.

The model sees a tag in front of each word, one character of a private use area for each language.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grapheme_to_phoneme.configuration import config_directory
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import (
    FIRST_TAG,
    LAST_TAG,
    ModelLanguage,
    ModelMetadata,
    is_tag,
)
from grapheme_to_phoneme.lexicon.entries import Entry

#: ``data.source`` of a model of several languages.
SEVERAL_LANGUAGES = "languages"

#: The group of a lexicon that is given by its file alone.
FILE_GROUP = "lexicon"


def language_configs(config: DictConfig) -> dict[str, DictConfig]:
    """Return a whole configuration for the lexicon of each language, by the language's code.

    They are ``config`` with another group ``data``, and with the language's own normalisation.

    Args:
        config: the whole configuration, of ``data=multilingual``.

    Raises:
        UserError: if there are no languages, or one comes twice, or is given by settings that
            its group does not have.
    """
    data = config.data
    lexicons = data.lexicons or {}
    chosen: dict[str, dict | DictConfig] = {}
    for code in data.languages:
        if str(code) in chosen or code in lexicons:
            raise UserError(f"the language '{code}' comes twice in the group data")
        chosen[str(code)] = {"group": data.group, "language": str(code), "root": data.root}
    for code, given in lexicons.items():
        is_path = isinstance(given, str)
        chosen[str(code)] = {"group": FILE_GROUP, "train_path": given} if is_path else given
    if not chosen:
        raise UserError(
            "data=multilingual needs languages: say data.languages=[ita,fra], or "
            "data.lexicons={ita: FILE, fra: FILE}"
        )
    if len(chosen) > ord(LAST_TAG) - ord(FIRST_TAG) + 1:
        raise UserError(f"{len(chosen)} languages are more than there are tags")
    unknown = [code for code in data.unicode_forms or () if code not in chosen]
    if unknown:
        raise UserError(f"data.unicode_forms names a language that is not there: {unknown[0]}")
    return {code: _language_config(config, code, given) for code, given in chosen.items()}


def _language_config(config: DictConfig, code: str, given: Mapping) -> DictConfig:
    settings = dict(given) if isinstance(given, Mapping | DictConfig) else {}
    group = settings.pop("group", None)
    path = config_directory() / "data" / f"{group}.yaml"
    if group is None or not path.is_file() or group == config.data.name:
        raise UserError(
            f"data.lexicons.{code} must be a file, or settings with a group of the "
            "configuration's data, such as {group: wikipron}"
        )
    own = OmegaConf.load(path)
    if "catalogue" in own or group == FILE_GROUP:
        settings.setdefault("language", code)
    OmegaConf.set_struct(own, True)
    whole = deepcopy(config)
    OmegaConf.set_struct(whole, False)
    try:
        whole.data = OmegaConf.merge(own, settings)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"data.lexicons.{code}: {reason}") from error
    form = (config.data.unicode_forms or {}).get(code)
    if form is not None:
        whole.preprocessing.normalization.unicode_form = form
    return whole


def tags_of(codes: Iterable[str]) -> dict[str, str]:
    """Return a tag for each language, by their codes in order."""
    return {code: chr(ord(FIRST_TAG) + index) for index, code in enumerate(codes)}


def retag_entries(
    entries: Iterable[Entry], languages: Iterable[ModelLanguage], metadata: ModelMetadata
) -> list[Entry]:
    """Return tagged entries with a model's own tags of their languages.

    Raises:
        UserError: if the model does not know one of the languages, or knows one alone.
    """
    if not metadata.languages:
        raise UserError("the model is of one language: say data of that one to score it on")
    tags = {}
    for language in languages:
        known = metadata.find_language(language.code)
        tags[language.tag] = known.tag
    return [Entry(tags[entry.spelling[0]] + entry.spelling[1:], entry.phones) for entry in entries]


def tag_entries(entries: Iterable[Entry], tag: str) -> list[Entry]:
    """Put the tag of their language in front of the spellings.

    Raises:
        UserError: if a spelling has characters that could be taken for tags.
    """
    tagged = []
    for entry in entries:
        if any(map(is_tag, entry.spelling)):
            raise UserError(
                f"'{entry.spelling}' has a character of a private use area, which a model of "
                "several languages needs for itself"
            )
        tagged.append(Entry(tag + entry.spelling, entry.phones))
    return tagged
