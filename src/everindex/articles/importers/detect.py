"""Of which format is a source? Its ending says it, else its first bytes do."""

from __future__ import annotations

import csv
from pathlib import PurePath
from typing import Final, Literal

from everindex.articles.importers.opening import UTF16_BOMS, OpenSource, unreadable
from everindex.articles.importers.row import FIELD_OF, column_field

Format = Literal["jsonl", "csv", "feed"]

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
}
DELIMITERS = (",", ";", "\t")
UTF8_BOM = b"\xef\xbb\xbf"


def detect_format(source: str, opened: OpenSource) -> Format:
    """The format by the ending of `source` (before `.gz`), else by the first bytes. Raises SourceUnreadable."""
    by_ending = ENDINGS.get(PurePath(source.lower().removesuffix(".gz")).suffix)
    found = by_ending or _format_of_bytes(opened.head)
    if found is None:
        raise unreadable(
            opened.name,
            why="neither its ending nor its first bytes are those of JSONL, JSON, CSV, RSS or Atom.",
            next_step="convert it to one of these; docs/importing.md shows what each looks like.",
        )
    if found != "feed" and opened.head.startswith(UTF16_BOMS):
        raise unreadable(
            opened.name,
            why="it is encoded in UTF-16, and articles are read as UTF-8.",
            next_step=f"convert it: iconv -f UTF-16 -t UTF-8 < FILE | everindex import --format {found} -",
        )
    return found


def _format_of_bytes(head: bytes) -> Format | None:
    if head.startswith(UTF16_BOMS):
        return "feed" if head[2:].decode("utf-16-le", "replace").lstrip()[:1] in ("<", "㰀") else "csv"
    head = head.removeprefix(UTF8_BOM).lstrip()
    if b"\0" in head:
        return None
    if head.startswith((b"{", b"[")):
        return "jsonl"
    if head.startswith(b"<"):
        return "feed"
    header = header_cells(head, sniff_delimiter(head))
    return "csv" if "uri" in (FIELD_OF.get(column_field(cell)) for cell in header) else None


def sniff_delimiter(head: bytes) -> str:
    """The delimiter that makes most cells of the header known columns; a comma when none does."""

    def known(delimiter: str) -> tuple[int, int]:
        cells = header_cells(head, delimiter)
        return sum(column_field(cell) in FIELD_OF for cell in cells), len(cells)

    return max(DELIMITERS, key=known)


def header_cells(head: bytes, delimiter: str) -> list[str]:
    """The cells of the first line that is not blank, as far as `head` holds it."""
    line = head.removeprefix(UTF8_BOM).lstrip().partition(b"\n")[0].decode("utf-8", "replace")
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except csv.Error:  # a cell above csv's limit, a carriage return within the line: no header
        return []
