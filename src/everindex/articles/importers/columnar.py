"""The rows of a Parquet or Arrow file, by pyarrow; needs the extra `everindex[parquet]`.

A file is read batch by batch, and of its columns only those that are wanted. One that is packed, or comes from standard
input, is read as a whole, since the list of its parts stands at its end.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from everindex.articles.importers.dated_rows import DatedRows
from everindex.articles.importers.header import known_columns
from everindex.articles.importers.lines import TOO_LONG
from everindex.articles.importers.opening import MAX_LINE_BYTES, OpenSource, unreadable
from everindex.articles.importers.row import FIELD_OF
from everindex.articles.model import Article, RowProblem
from everindex.errors import ExtraMissing

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as exc:
    raise ExtraMissing("parquet", package="pyarrow", exc=exc, what="an import of Parquet or Arrow files") from exc

Columnar = Literal["parquet", "arrow"]
#: Rows that are in memory at once.
BATCH_ROWS = 500


def read_columnar(
    opened: OpenSource, format: Columnar, *, defaults: Mapping[str, str]
) -> Iterator[Article | RowProblem]:
    """One item per row, with the number of the row, from 1; columns are named as those of a CSV."""
    file = _opened(opened, format)
    columns = known_columns(opened, file.names, what="the file")
    by_name = {name: column for name, column in zip(file.names, columns, strict=True) if column in FIELD_OF}
    rows = DatedRows(opened.name, defaults)
    for number, values in _rows(opened, file, by_name):
        if isinstance(values, RowProblem):
            yield from rows.pass_on(values)
        else:
            yield from rows.read({by_name[name]: value for name, value in values.items()}, number)
    yield from rows.finish()


def columnar_objects(opened: OpenSource, format: Columnar) -> Iterator[tuple[int, dict[str, Any]] | RowProblem]:
    """(number, row) for each row, with every column that has a value in it."""
    file = _opened(opened, format)
    for number, values in _rows(opened, file, file.names):
        yield values if isinstance(values, RowProblem) else (number, values)


class _Parquet:
    def __init__(self, source: Any) -> None:
        self._file = pq.ParquetFile(source)
        self.names: list[str] = self._file.schema_arrow.names

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        yield from self._file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))


class _Arrow:
    def __init__(self, source: Any) -> None:
        """Raises ArrowInvalid for what is neither a file nor a stream of Arrow's format."""
        try:
            self._file = pa.ipc.open_file(source)
            self._count: int | None = self._file.num_record_batches
        except pa.ArrowInvalid:
            source.seek(0)
            self._file = pa.ipc.open_stream(source)
            self._count = None
        self.names: list[str] = self._file.schema.names

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        whole = self._file if self._count is None else map(self._file.get_batch, range(self._count))
        for batch in whole:
            wanted = batch.select(list(columns))
            for start in range(0, wanted.num_rows, BATCH_ROWS):
                yield wanted.slice(start, BATCH_ROWS)


def _opened(opened: OpenSource, format: Columnar) -> _Parquet | _Arrow:
    """Raises SourceUnreadable."""
    try:
        source = io.BytesIO(opened.read_whole()) if opened.path is None else pa.memory_map(opened.path)
        return _Parquet(source) if format == "parquet" else _Arrow(source)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise unreadable(
            opened.name,
            why=f"it is damaged, or no {format.capitalize()} file: {_said(exc)}.",
            next_step="write or download it again.",
        ) from exc


def _rows(
    opened: OpenSource, file: _Parquet | _Arrow, columns: Collection[str]
) -> Iterator[tuple[int, dict[str, Any] | RowProblem]]:
    """(number, values that are not null), or why a row has none; after damage the rest is left out."""
    number = 0
    try:
        for batch in file.batches(list(columns)):
            for row in _without_nanoseconds(batch).to_pylist():
                number += 1
                yield number, _row(opened, number, row)
    except (pa.ArrowException, OSError, ValueError) as exc:
        yield number + 1, opened.problem(number + 1, f"the rest could not be read: {_said(exc)}")


def _row(opened: OpenSource, number: int, row: Mapping[str, Any]) -> dict[str, Any] | RowProblem:
    try:
        values = {name: _plain(value) for name, value in row.items() if value is not None}
    except UnicodeDecodeError:
        return opened.problem(number, "contains bytes that are not UTF-8")
    if sum(len(value) for value in values.values() if isinstance(value, str)) > MAX_LINE_BYTES:
        return opened.problem(number, f"the row is {TOO_LONG}")
    return values


def _plain(value: Any) -> Any:
    """A value as JSON would have it."""
    match value:
        case bytes():  # a text that its writer did not mark as such
            return value.decode()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case Decimal():
            return _number(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case _:
            return value


def _number(value: Decimal) -> int | float | str:
    """The number as JSON would have it; as text where that would not be the same number."""
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _without_nanoseconds(batch: Any) -> Any:
    """The batch with its times in microseconds, as Python has them."""
    for at, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            plain = batch.column(at).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(at, field.name, plain)
    return batch


def _said(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300].rstrip(".")
