"""The sign bits of a table's vectors, cached in this process and compared while no vector index is available.

Reading every vector of a table costs 4 to 6 µs per row, since each is stored in TOAST: a third of a second for 60,000
articles. Their bits (pgvector's binary_quantize, 1/32 of the vector) are read once and cached; a search compares all of
them and ranks the nearest CODES_PER_ROW × k by their vectors (docs/measurements/filtered.md: recall@10 and times).

No notification is needed when rows change. Each search reads which rows exist, in the snapshot in which it ranks them.
The cached bits are valid for a row whose position (ctid) and inserting transaction (xmin) are known, since an UPDATE
makes a new row; the bits of other rows are read. A rewrite of the table (VACUUM FULL, CLUSTER, TRUNCATE) changes its
filenode, and all bits are read again.

Partitioned and foreign tables, connections through a pooler, and tables with more rows than fit into MOST_BYTES are not
supported: `nearest` then returns None.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from everindex.articles.search.filters import AnyFilters, where
from everindex.articles.search.request.search_request import Page
from everindex.articles.search.vector import statement
from everindex.articles.table import CollectionTable
from everindex.pg.connections import Connection
from everindex.pg.pooler import route_of

#: Memory limit for the bits and positions of all rows: 200,000 rows of 1,536 dimensions.
MOST_BYTES = 40 * 2**20
#: Below this many rows, reading all vectors takes about 20 milliseconds.
FEWEST_ROWS = 5_000
#: For each requested row, this many are ranked by their vectors.
CODES_PER_ROW = 20
FEWEST_RANKED = 200
#: Above this share of unknown rows, all are read again.
STALE_SHARE = 0.2

_HEADER_BYTES = 19  # signature, flags, length of an extension that is not used (PostgreSQL docs: COPY, binary format)
_PLACE = np.dtype([("block", ">u4"), ("offset", ">u2"), ("xmin", ">u4")])


@dataclass(frozen=True, slots=True)
class _Codes:
    """Rows ordered by position."""

    file: int
    places: npt.NDArray[np.uint64]
    xmins: npt.NDArray[np.uint32]
    bits: npt.NDArray[np.uint64]
    """(rows, words)"""


class RowCodes:
    """The bits of one table; safe to use from many threads."""

    def __init__(self) -> None:
        self._codes: _Codes | None = None
        self._lock = threading.Lock()
        #: Rows whose vectors were read so far.
        self.rows_read = 0

    @property
    def rows_kept(self) -> int:
        """Rows whose bits are in memory."""
        codes = self._codes
        return 0 if codes is None else len(codes.places)

    def invalidate(self) -> None:
        """Frees the memory, since an index is available."""
        self._codes = None

    def nearest(
        self,
        connection: Connection,
        table: CollectionTable,
        page: Page,
        vectors: Sequence[npt.NDArray[np.float32]],
        *,
        estimated_rows: int,
    ) -> list[list[tuple[Any, ...]]] | None:
        """The usable rows of `page` nearest to each of `vectors`; None where the table does not support it.

        Takes ACCESS SHARE; one transaction in REPEATABLE READ for each. The first call reads every vector.
        """
        found = []
        for vector in vectors:
            rows = self._nearest(
                connection, table, page.request.filters, vector, k=page.rows, estimated_rows=estimated_rows
            )
            if rows is None:
                return None
            found.append(page.usable(rows))
        return found

    def _nearest(
        self,
        connection: Connection,
        table: CollectionTable,
        filters: AnyFilters,
        vector: npt.NDArray[np.float32],
        *,
        k: int,
        estimated_rows: int,
    ) -> list[tuple[Any, ...]] | None:
        most_rows = MOST_BYTES // ((table.dimensions or 0) // 8 + _PLACE.itemsize + 2)
        if table.spec.metric != "cosine" or table.vector_type != "vector":
            return None  # sign bits order directions, not lengths
        if not FEWEST_ROWS <= estimated_rows <= most_rows or route_of(connection).is_pooled:
            return None
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            there = self._there(connection, table, filters)
            if there is None or not FEWEST_ROWS <= len(there[1]) <= most_rows:
                return None
            file, found = there
            places, xmins = _places(found), found["xmin"].astype(np.uint32)
            codes, positions = self._codes_of(connection, table, file, places, xmins)
            query = _words(np.packbits(vector > 0)[np.newaxis])[0]
            differing = np.bitwise_count(codes.bits[positions] ^ query).sum(axis=1, dtype=np.int32)
            ranked = min(max(FEWEST_RANKED, CODES_PER_ROW * k), len(differing))
            chosen = np.argpartition(differing, ranked - 1)[:ranked]
            return connection.execute(
                statement.nearest_of_rows(table, k=k),
                {"vector": vector, "rows": [_text(place) for place in places[chosen].tolist()]},
                binary=True,
            ).fetchall()

    def _there(
        self, connection: Connection, table: CollectionTable, filters: AnyFilters
    ) -> tuple[int, npt.NDArray[Any]] | None:
        condition, parameters = where(table, filters)
        row = connection.execute(
            sql.SQL(
                "SELECT (SELECT pg_catalog.pg_relation_filenode(c.oid)::int8 FROM pg_catalog.pg_class c "
                "WHERE c.oid = {name}::pg_catalog.regclass AND c.relkind IN ('r', 'm')), "
                "pg_catalog.string_agg(pg_catalog.tidsend(ctid) || pg_catalog.xidsend(xmin), ''::bytea) "
                "FROM {table} WHERE {vector} IS NOT NULL{condition}"
            ).format(
                name=sql.Literal(table.identifier.as_string(None)),
                table=table.identifier,
                vector=table.vector,
                condition=condition,
            ),
            parameters,
            binary=True,
        ).fetchone()
        if row is None or row[0] is None or row[1] is None:
            return None
        return row[0], np.frombuffer(row[1], dtype=_PLACE)

    def _codes_of(
        self,
        connection: Connection,
        table: CollectionTable,
        file: int,
        places: npt.NDArray[np.uint64],
        xmins: npt.NDArray[np.uint32],
    ) -> tuple[_Codes, npt.NDArray[np.intp]]:
        """Codes that include all of `places`, and the position of each in them."""
        with self._lock:
            codes = self._codes
            positions, is_known = _find(codes, file, places, xmins)
            unknown = int(len(places) - is_known.sum())
            if codes is None or codes.file != file or unknown > STALE_SHARE * len(places):
                codes = self._codes = self._read(connection, table, file, None)
                positions, is_known = _find(codes, file, places, xmins)
            elif unknown:
                codes = self._codes = _merged(codes, self._read(connection, table, file, places[~is_known]))
                positions, is_known = _find(codes, file, places, xmins)
        assert is_known.all()  # read in the same snapshot
        return codes, positions

    def _read(
        self, connection: Connection, table: CollectionTable, file: int, only: npt.NDArray[np.uint64] | None
    ) -> _Codes:
        codes = _read(connection, table, file, only)
        self.rows_read += len(codes.places)
        return codes


def _find(
    codes: _Codes | None, file: int, places: npt.NDArray[np.uint64], xmins: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    if codes is None or codes.file != file or not len(codes.places):
        return np.zeros(len(places), dtype=np.intp), np.zeros(len(places), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(codes.places, places), len(codes.places) - 1)
    return positions, (codes.places[positions] == places) & (codes.xmins[positions] == xmins)


def _read(connection: Connection, table: CollectionTable, file: int, only: npt.NDArray[np.uint64] | None) -> _Codes:
    """The codes of all rows, or of those at the places `only`."""
    width = table.dimensions or 0
    code = table.code(table.vector, "bit")
    chosen = (
        sql.SQL("")
        if only is None
        else sql.SQL(" AND ctid = ANY({}::pg_catalog.tid[])").format(
            sql.Literal("{" + ",".join(f'"{_text(place)}"' for place in only.tolist()) + "}")
        )
    )
    every = sql.SQL(
        "COPY (SELECT ctid, xmin, {code} FROM {table} WHERE {vector} IS NOT NULL{chosen}) TO STDOUT (FORMAT BINARY)"
    ).format(code=code, table=table.identifier, vector=table.vector, chosen=chosen)
    with connection.cursor().copy(every) as copy:
        data = b"".join(copy)
    size = (width + 7) // 8
    record = np.dtype(
        [
            ("fields", ">i2"), ("tid", ">i4"), ("block", ">u4"), ("offset", ">u2"), ("xid", ">i4"), ("xmin", ">u4"),
            ("bit", ">i4"), ("width", ">i4"), ("bits", "u1", (size,)),
        ]
    )  # fmt: skip
    count = (len(data) - _HEADER_BYTES) // record.itemsize
    rows = np.frombuffer(data, dtype=record, count=count, offset=_HEADER_BYTES)
    places = _places(rows)
    order = np.argsort(places)
    return _Codes(file, places[order], rows["xmin"].astype(np.uint32)[order], _words(rows["bits"])[order])


def _merged(codes: _Codes, more: _Codes) -> _Codes:
    """Both together; where a place is in both, that of `more`."""
    kept = ~np.isin(codes.places, more.places)
    places = np.concatenate([codes.places[kept], more.places])
    order = np.argsort(places)
    return _Codes(
        codes.file,
        places[order],
        np.concatenate([codes.xmins[kept], more.xmins])[order],
        np.concatenate([codes.bits[kept], more.bits])[order],
    )


def _places(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Block and offset as one number, in table order."""
    return np.asarray(rows["block"].astype(np.uint64) << np.uint64(16) | rows["offset"].astype(np.uint64))


def _words(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """(n, bytes) as (n, words), so that eight bytes are compared at once."""
    missing = -bits.shape[1] % 8
    if missing:
        bits = np.pad(bits, ((0, 0), (0, missing)))
    return np.ascontiguousarray(bits).view(np.uint64)


def _text(place: int) -> str:
    return f"({place >> 16},{place & 0xFFFF})"
