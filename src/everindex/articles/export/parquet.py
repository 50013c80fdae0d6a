"""The Parquet writer of an export, by pyarrow; needs the extra `everindex[parquet]`.

Each page of hits is a row group, and leaves memory as soon as it is written. Columns have the types of the table where
Parquet has them; numeric, which is wider than any number there, JSON and every other type are text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from everindex.articles.export.columns import ExportColumn, as_text
from everindex.articles.shape.hit import Hit
from everindex.errors import ExtraMissing

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as exc:
    raise ExtraMissing("parquet", package="pyarrow", exc=exc, what="Parquet") from exc

#: PostgreSQL's type → Arrow's.
_TYPES: dict[str, Callable[[], Any]] = {
    "smallint": pa.int64,
    "integer": pa.int64,
    "bigint": pa.int64,
    "real": pa.float64,
    "double precision": pa.float64,
    "boolean": pa.bool_,
    "date": pa.date32,
    "timestamp without time zone": lambda: pa.timestamp("us"),
    "timestamp with time zone": lambda: pa.timestamp("us", tz="UTC"),
    "text[]": lambda: pa.list_(pa.string()),
    "character varying[]": lambda: pa.list_(pa.string()),
    "integer[]": lambda: pa.list_(pa.int64()),
    "bigint[]": lambda: pa.list_(pa.int64()),
    "double precision[]": lambda: pa.list_(pa.float64()),
}


class ParquetWriter:
    """A Parquet file, compressed with Zstandard."""

    media_type = "application/vnd.apache.parquet"

    def __init__(self, columns: Sequence[ExportColumn]) -> None:
        self._columns = [(column, _TYPES.get(column.kind)) for column in columns]
        fields = [(column.name, pa.string() if kind is None else kind()) for column, kind in self._columns]
        self._schema = pa.schema(fields)
        self._sink = _Drained()
        self._writer: Any = None

    def begin(self) -> bytes:
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        return self._sink.drain()

    def rows(self, hits: Sequence[Hit]) -> bytes:
        if not hits:
            return b""
        arrays = [
            pa.array([_as_is_or_text(column.read(hit), kind) for hit in hits], type=field.type)
            for (column, kind), field in zip(self._columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        return self._sink.drain()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.drain()


def _as_is_or_text(value: Any, kind: Callable[[], Any] | None) -> Any:
    return value if kind is not None or value is None else as_text(value)


class _Drained:
    """A file that hands on what was written into it, and only counts it afterwards."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def drain(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
