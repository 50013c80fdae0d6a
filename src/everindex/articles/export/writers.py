"""The writers of an export: rows of CSV, JSONL or Parquet as bytes, a few hits at a time.

A text of CSV that a spreadsheet would take for a formula gets an apostrophe before it, so that opening the file runs nothing
(OWASP, "CSV Injection"). Numbers and what stands in JSONL and Parquet are as they are stored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal, Protocol, assert_never, get_args

from pydantic_core import to_json

from everindex.articles.export.columns import ExportColumn, as_text
from everindex.articles.shape.hit import Hit

ExportFormat = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
#: Also the full-width forms, which some spreadsheets read as the plain ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class ExportWriter(Protocol):
    """Writes the parts of one file in this order: `begin`, `rows` as often as there are some, `end`. Not thread-safe."""

    media_type: str

    def begin(self) -> bytes: ...

    def rows(self, hits: Sequence[Hit]) -> bytes: ...

    def end(self) -> bytes: ...


def writer_for(format: ExportFormat, columns: Sequence[ExportColumn]) -> ExportWriter:
    """A new writer. Raises ExtraMissing for Parquet without pyarrow."""
    match format:
        case "csv":
            return CsvWriter(columns)
        case "jsonl":
            return JsonlWriter(columns)
        case "parquet":
            # Imported here, since pyarrow is an extra and takes a second.
            from everindex.articles.export.parquet import ParquetWriter

            return ParquetWriter(columns)
        case _:
            assert_never(format)


class CsvWriter:
    """CSV as RFC 4180 has it: a header row, commas, CRLF, UTF-8 without a byte order mark; nothing for a null."""

    media_type = "text/csv; charset=utf-8"

    def __init__(self, columns: Sequence[ExportColumn]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        return _csv([[_harmless(column.name) for column in self._columns]])

    def rows(self, hits: Sequence[Hit]) -> bytes:
        return _csv([[_cell(column.read(hit)) for column in self._columns] for hit in hits])

    def end(self) -> bytes:
        return b""


class JsonlWriter:
    """One JSON object a line, with every column."""

    media_type = "application/x-ndjson"

    def __init__(self, columns: Sequence[ExportColumn]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        return b""

    def rows(self, hits: Sequence[Hit]) -> bytes:
        return b"".join(
            to_json({each.name: each.read(hit) for each in self._columns}, fallback=str) + b"\n" for hit in hits
        )

    def end(self) -> bytes:
        return b""


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    match value:
        case None | int() | float() if not isinstance(value, bool):
            return value
        case str():
            return _harmless(value)
        case bool():
            return "true" if value else "false"
        case _:
            return _harmless(as_text(value))


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
