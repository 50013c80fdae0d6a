"""The articles of a CSV source: a header row names the columns, and quoted values may span lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping

from everindex.articles.importers.dated_rows import DatedRows
from everindex.articles.importers.detect import UTF8_BOM, is_separator_line, sniff_delimiter
from everindex.articles.importers.header import bad_header, known_columns
from everindex.articles.importers.lines import TOO_LONG, bounded_lines, not_decoded
from everindex.articles.importers.opening import MAX_LINE_BYTES, OpenSource
from everindex.articles.model import Article, RowProblem
from everindex.units import count_text


class _RowTooLongError(Exception):
    """Raised through csv.reader, which starts a new row at the next line."""


class _RowLines:
    """The lines of a source as csv.reader reads them, with the state of the current row."""

    def __init__(self, opened: OpenSource) -> None:
        self._lines = bounded_lines(opened)
        self.number = 0
        self.start_row()

    def start_row(self) -> None:
        self.first_line = 0
        self.is_utf8 = True
        self._size_bytes = 0

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        self.number, data = next(self._lines)
        self.first_line = self.first_line or self.number
        self._size_bytes += MAX_LINE_BYTES + 1 if data is None else len(data)
        if data is None or self._size_bytes > MAX_LINE_BYTES:
            raise _RowTooLongError
        if self.number == 1:
            data = data.removeprefix(UTF8_BOM)
            if is_separator_line(data):
                self.start_row()
                return "\n"
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.is_utf8 = False
            return data.decode("utf-8", "replace")  # keeps the shape of the row; the row itself is refused


def read_csv(opened: OpenSource, *, defaults: Mapping[str, str]) -> Iterator[Article | RowProblem]:
    """One item per non-blank row, with the line number at which the row begins.

    Increases csv's process-wide field size limit to 10 MB, and never lowers it again.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    opened.end_lines_with_line_feeds()
    lines = _RowLines(opened)
    # strict: an unclosed quote is an error instead of a row that swallows the rest of the file
    reader = csv.reader(lines, delimiter=sniff_delimiter(opened.head), strict=True)
    columns = _read_header(opened, reader)
    rows = DatedRows(opened.name, defaults)
    while True:
        lines.start_row()
        try:
            values = next(reader)
        except StopIteration:
            break
        except (_RowTooLongError, csv.Error) as exc:
            yield from rows.pass_on(opened.problem(lines.first_line or lines.number, _reason(exc)))
            continue
        if not any(values):
            continue
        row = _values(opened, lines, columns, values)
        yield from rows.pass_on(row) if isinstance(row, RowProblem) else rows.read(row, lines.first_line)
    yield from rows.finish()
    yield from opened.problem_at_end(lines.number + 1)


def _values(opened: OpenSource, lines: _RowLines, columns: list[str], values: list[str]) -> dict[str, str] | RowProblem:
    if not lines.is_utf8:
        return opened.problem(lines.first_line, not_decoded(opened))
    if len(values) < len(columns) or any(values[len(columns) :]):
        reason = f"{count_text(len(values), 'value')} but the header has {count_text(len(columns), 'column')}"
        return opened.problem(lines.first_line, reason)
    return dict(zip(columns, values, strict=False))  # more values than columns: the empty ones that spreadsheets add


def _read_header(opened: OpenSource, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if any(cells)), [])
    except (_RowTooLongError, csv.Error) as exc:
        raise bad_header(opened, f"the header row cannot be read: {_reason(exc)}.") from exc
    return known_columns(opened, header, what="the header row")


def _reason(exc: Exception) -> str:
    if isinstance(exc, _RowTooLongError):
        return f"the row is {TOO_LONG}"
    if str(exc) == "unexpected end of data":
        return "a quote opened in this row is never closed"
    return f"not CSV: {exc}"
