"""The detection of a source's format: by its first bytes where they are unambiguous, otherwise by its extension."""

from __future__ import annotations

import csv
import re
from pathlib import PurePath
from typing import Final, Literal

from everindex.articles.importers.opening import OpenSource, unreadable
from everindex.articles.importers.row import FIELD_OF, column_field

Format = Literal["jsonl", "csv", "feed", "parquet", "arrow"]

ENDINGS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".rss": "feed",
    ".atom": "feed",
    ".rdf": "feed",
    ".xml": "feed",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
#: The first bytes of binary formats.
MAGIC: Final[dict[bytes, Literal["parquet", "arrow"]]] = {b"PAR1": "parquet", b"ARROW1\0\0": "arrow"}
DELIMITERS = (",", ";", "\t", "|")
UTF8_BOM = b"\xef\xbb\xbf"
# PHP writes it as https:\/\/jsonfeed.org\/version\/1.1
_JSON_FEED = re.compile(rb'"version"\s*:\s*"https?:\\?/\\?/(?:www\.)?jsonfeed\.org\\?/version')
_JSON_FEED_PARTS = (re.compile(rb'"items"\s*:\s*\['), re.compile(rb'"(?:home_page_url|feed_url)"\s*:\s*"'))
#: The line that tells Excel the delimiter.
_SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?[,;\t]*\r?(?:\n|\Z)', re.IGNORECASE)


def detect_columnar(source: str, head: bytes) -> Literal["parquet", "arrow"] | None:
    """The format of a file of columns, by its first bytes or, of a stream of Arrow's, which has none of its own, by its
    ending; None for text."""
    for magic, format in MAGIC.items():
        if head.startswith(magic):
            return format
    by_ending = ENDINGS.get(PurePath(source.lower().removesuffix(".gz")).suffix)
    return by_ending if by_ending in ("parquet", "arrow") else None


def detect_format(source: str, opened: OpenSource) -> Format:
    """The format of `source`. Raises SourceUnreadable.

    XML and JSON Feed are recognised by their first bytes, whatever the name; otherwise the extension (before `.gz`)
    decides, and without a known one the first bytes do.
    """
    start = _start(opened.head)
    if is_json_feed(start) or start.startswith((b"<?xml", b"<rss", b"<feed", b"<rdf:RDF")):
        return "feed"
    by_ending = ENDINGS.get(PurePath(source.lower().removesuffix(".gz")).suffix)
    found = by_ending or _format_of_bytes(start)
    if found is None:
        raise unreadable(
            opened.name,
            why="neither its extension nor its first bytes are those of JSONL, JSON, CSV, RSS, Atom, Parquet or Arrow.",
            next_step="convert it to one of these; docs/importing.md shows what each looks like.",
        )
    return found


def is_json_feed(head: bytes) -> bool:
    """Whether the first bytes are those of a JSON Feed: its version, or member names that only JSON Feed has."""
    if not _start(head).startswith(b"{"):
        return False
    return _JSON_FEED.search(head) is not None or all(part.search(head) for part in _JSON_FEED_PARTS)


def _start(head: bytes) -> bytes:
    return head.removeprefix(UTF8_BOM).lstrip()


def _format_of_bytes(head: bytes) -> Format | None:
    if b"\0" in head:
        return None
    if head.startswith((b"{", b"[")):
        return "jsonl"
    if head.startswith(b"<"):
        return "feed"
    header = header_cells(head, sniff_delimiter(head))
    return "csv" if "uri" in (FIELD_OF.get(column_field(cell)) for cell in header) else None


def sniff_delimiter(head: bytes) -> str:
    """The delimiter that makes most cells of the header known columns; a comma when none does.

    A delimiter named in a first line `sep=;` wins over equally good ones.
    """
    named = _SEPARATOR_LINE.match(_start(head))
    first = [named[1].decode()] if named and named[1].isascii() else []

    def known(delimiter: str) -> tuple[int, int]:
        cells = header_cells(head, delimiter)
        return sum(column_field(cell) in FIELD_OF for cell in cells), len(cells)

    return max([*first, *DELIMITERS], key=known)


def is_separator_line(line: bytes) -> bool:
    """Whether a line is `sep=;` or the like, which Excel reads but does not show."""
    return _SEPARATOR_LINE.fullmatch(line) is not None


def header_cells(head: bytes, delimiter: str) -> list[str]:
    """The cells of the first non-blank line, as far as `head` contains it."""
    head = _start(head)
    if named := _SEPARATOR_LINE.match(head):
        head = head[named.end() :].lstrip()
    line = re.split(rb"\r?\n|\r", head, maxsplit=1)[0].decode("utf-8", "replace")
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except csv.Error:  # a cell above csv's limit, a carriage return within the line: no header
        return []
