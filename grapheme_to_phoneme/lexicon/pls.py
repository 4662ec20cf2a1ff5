"""W3C Pronunciation Lexicon Specification 1.0: XML with graphemes and phonemes.

https://www.w3.org/TR/pronunciation-lexicon/. The file is never held in memory. Entities are
refused where they are declared, and nothing outside of the file is ever looked for.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.records import Header, LineFault, Record, quote

NAMESPACE = "http://www.w3.org/2005/01/pronunciation-lexicon"

#: How much is parsed at once, and the most that a tag, an attribute or a comment may take.
CHUNK_BYTES = 1 << 16
LONGEST_TOKEN_BYTES = 1 << 18

#: A lexicon is four levels deep.
DEEPEST_LEVEL = 32

#: Each grapheme of a lexeme goes with each phoneme.
MOST_RECORDS_OF_A_LEXEME = 128
LONGEST_TEXT = 1 << 16

#: What has text that counts; of other elements, only the number is told.
TEXT_ELEMENTS = ("grapheme", "phoneme")
LEFT_OUT_ELEMENTS = ("alias", "example", "meta", "metadata")

#: What the attributes are called whose namespaces are bound by the XML specification.
LANGUAGE_ATTRIBUTE = "http://www.w3.org/XML/1998/namespace lang"
NAMESPACE_SEPARATOR = " "

#: What each alphabet that is none of the specification's begins with.
VENDOR_PREFIX = "x-"


def read_pls(file: BinaryIO, path: Path, header: Header) -> Iterator[tuple[int, Record]]:
    """Yield the line number and record of every grapheme with every phoneme.

    The phones of a phoneme are separated by white space in it. Where there is none, the
    phoneme is one phone here, and :class:`LexiconReader` divides it.

    Args:
        file: the file, from its beginning.
        path: its name, for the messages.
        header: receives language and alphabet before the first record comes.

    Raises:
        UserError: with a line number, if the file is no XML, declares entities, is no
            pronunciation lexicon, or has a tag, text or lexeme larger than any real one.
    """
    handler = _Handler(header)
    try:
        while chunk := file.read(CHUNK_BYTES):
            handler.feed(chunk)
            yield from handler.take()
        handler.parser.Parse(b"", True)
        yield from handler.take()
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise UserError(
            f"{path}, line {error.lineno}: no well-formed XML ({reason}); mend it"
        ) from error
    except LineFault as fault:
        line = handler.parser.CurrentLineNumber
        raise UserError(f"{path}, line {line}: {fault}; mend it") from fault
    except (LookupError, ValueError) as error:
        # expat asks Python for encodings that it does not know, and Python may not know them.
        raise UserError(f"{path}, line 1: its encoding is not known ({error})") from error


class _Handler:
    """Collects the records of the lexemes that ended since they were last taken."""

    def __init__(self, header: Header) -> None:
        self.parser = expat.ParserCreate(namespace_separator=NAMESPACE_SEPARATOR)
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.CommentHandler = self._note_event
        self.parser.EntityDeclHandler = self._refuse_entity
        self.parser.SkippedEntityHandler = self._refuse_entity
        self.parser.ExternalEntityRefHandler = self._refuse_entity
        self._header = header
        self._depth = 0
        self._ready: list[tuple[int, Record]] = []
        self._graphemes: list[str] = []
        self._phonemes: list[tuple[tuple[str, ...], bool]] = []
        self._role = ""
        self._line = 0
        self._text_parts: list[str] | None = None
        self._text_length = 0
        self._is_preferred = False
        self._fed = 0
        self._last_event = 0

    def feed(self, chunk: bytes) -> None:
        self._fed += len(chunk)
        self.parser.Parse(chunk, False)
        if self._fed - self._last_event > LONGEST_TOKEN_BYTES:
            raise LineFault(f"a tag or comment has more than {LONGEST_TOKEN_BYTES:,} bytes")

    def take(self) -> list[tuple[int, Record]]:
        ready, self._ready = self._ready, []
        return ready

    def _note_event(self, *_: object) -> None:
        self._last_event = self._fed

    def _refuse_entity(self, name: str | None, *_: object) -> int:
        raise LineFault(f"entities are not allowed ({quote(str(name))})")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._note_event()
        self._depth += 1
        if self._depth > DEEPEST_LEVEL:
            raise LineFault(f"more than {DEEPEST_LEVEL} elements inside one another")
        # Lexicons without the namespace, or in one of their own, are common.
        element = name.rpartition(NAMESPACE_SEPARATOR)[2]
        if self._depth == 1:
            if element != "lexicon":
                raise LineFault(f"the first element is {quote(element)}, not 'lexicon'")
            self._header.language = attributes.get(LANGUAGE_ATTRIBUTE, "")
            self._header.alphabet = attributes.get("alphabet", "")
        elif element == "lexeme":
            self._graphemes, self._phonemes = [], []
            self._role = " ".join(attributes.get("role", "").split())
            self._line = self.parser.CurrentLineNumber
        elif element in TEXT_ELEMENTS:
            alphabet = attributes.get("alphabet", self._header.alphabet)
            if alphabet != self._header.alphabet:
                raise LineFault(
                    f"a phoneme in {quote(alphabet)} in a lexicon in "
                    f"{quote(self._header.alphabet)}: give one alphabet to a file"
                )
            self._text_parts = []
            self._text_length = 0
            self._is_preferred = attributes.get("prefer", "") in ("true", "1")
        elif element in LEFT_OUT_ELEMENTS:
            self._header.left_out[element] += 1

    def _text(self, text: str) -> None:
        self._note_event()
        if self._text_parts is not None:
            self._text_length += len(text)
            if self._text_length > LONGEST_TEXT:
                raise LineFault(f"a text has more than {LONGEST_TEXT:,} characters")
            self._text_parts.append(text)

    def _end(self, name: str) -> None:
        self._note_event()
        self._depth -= 1
        element = name.rpartition(NAMESPACE_SEPARATOR)[2]
        if element in TEXT_ELEMENTS and self._text_parts is not None:
            text = "".join(self._text_parts)
            if element == "grapheme":
                self._graphemes.append(" ".join(text.split()))
            else:
                self._phonemes.append((tuple(text.split()), self._is_preferred))
            self._text_parts = None
            if len(self._graphemes) * len(self._phonemes) > MOST_RECORDS_OF_A_LEXEME:
                raise LineFault(f"a lexeme of more than {MOST_RECORDS_OF_A_LEXEME:,} entries")
            if len(self._graphemes) + len(self._phonemes) > 2 * MOST_RECORDS_OF_A_LEXEME:
                raise LineFault(f"a lexeme of more than {MOST_RECORDS_OF_A_LEXEME:,} spellings")
        elif element == "lexeme":
            for spelling in self._graphemes:
                for phones, is_preferred in self._phonemes:
                    record = Record(spelling, phones, preferred=is_preferred, role=self._role)
                    self._ready.append((self._line, record))
            self._graphemes, self._phonemes = [], []


def pls_lines(
    records: Iterable[Record], language: str, alphabet: str, separator: str = " "
) -> Iterator[str]:
    """Yield the lines of a lexicon without their line ends.

    Neighbouring records of one spelling and role become one lexeme.

    Args:
        records: what :func:`check_pls_record` accepts.
        language: a BCP 47 tag.
        alphabet: ``ipa``, or another one, whose name gets ``x-`` before it.
        separator: what is put between phones; with white space they stay apart.
    """
    if alphabet != "ipa" and not alphabet.startswith(VENDOR_PREFIX):
        alphabet = VENDOR_PREFIX + alphabet
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f"<lexicon version={quoteattr('1.0')} xmlns={quoteattr(NAMESPACE)}"
        f" alphabet={quoteattr(alphabet)} xml:lang={quoteattr(language)}>"
    )
    for (spelling, role), group in groupby(records, lambda item: (item.spelling, item.role)):
        yield f"  <lexeme role={quoteattr(role)}>" if role else "  <lexeme>"
        yield f"    <grapheme>{_escape(spelling)}</grapheme>"
        for record in group:
            mark = ' prefer="true"' if record.preferred else ""
            yield f"    <phoneme{mark}>{_escape(separator.join(record.phones))}</phoneme>"
        yield "  </lexeme>"
    yield "</lexicon>"


def check_pls_record(record: Record) -> None:
    """Check that XML and the specification can say a record.

    Raises:
        LineFault: if a character is none of XML 1.0, or white space in the spelling is none
            that XML keeps apart.
    """
    for text in (record.spelling, *record.phones, record.role):
        for character in text:
            if not _is_xml(character):
                raise LineFault(f"XML has no character U+{ord(character):04X}")
    if " ".join(record.spelling.split()) != record.spelling:
        raise LineFault("its white space is not single spaces")


def _is_xml(character: str) -> bool:
    code = ord(character)
    if code < 0x20:
        return character in "\t\n\r"
    return not (0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF))


def _escape(text: str) -> str:
    # A carriage return as it is would be read as a line feed.
    return escape(text, {"\r": "&#13;"})
