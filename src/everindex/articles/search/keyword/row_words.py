"""The words of a table's rows, read once into this process's memory and compared there: ranking a match needs no parsing.

PostgreSQL says which rows match, in the snapshot of the search; this says which of them are the best, by how often each has
the words. What is
known of a row holds as long as its place (ctid) and its inserting transaction (xmin) do, so no notification is needed when
others write: rows that are not known yet are read then. A background thread reads all of them once, a few blocks at a
time; before it has, and for tables whose words do not fit into MOST_BYTES, every match is read by every search.

Not supported: partitioned tables and those with children, whose rows have no single place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.search.keyword.postings import (
    ROW,
    WORD,
    Best,
    Item,
    Postings,
    Slots,
    joined,
    place_text,
    places_of,
    tid_array,
)
from everindex.articles.search.keyword.state import Known, look_at
from everindex.articles.search.keyword.statements import OF_BLOCKS, OF_PLACES, words_of_rows
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import EverindexError
from everindex.pg import waiting
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: Table, configuration and index are read again after this many seconds.
KNOWN_SECONDS = 5.0
#: Memory limit for the words of all rows: 200,000 texts of 35 different words (docs/measurements/words.md).
MOST_BYTES = 40 * 2**20
#: Below this many rows, reading every match is not noticeable.
FEWEST_ROWS = 1_000
#: The second search of a process shows that it is not a command that ends with its first.
SEARCHES_BEFORE_READING = 2
#: A search reads at most this many unknown rows itself, about 0.1 ms each.
MOST_UNKNOWN = 500
#: Rows read at a time by the background thread: some 40 ms of the server, and a few of this process.
ROWS_AT_A_TIME = 500
#: After a failure, and after a table proved too large, the background thread is not started for this long.
PAUSE_SECONDS = 60.0
#: Reading pauses for this many times as long as each part took, so that it never uses more than two thirds of a core. Until
#: it has ended, a search by words under load takes ten times as long (docs/measurements/words.md).
REST = 0.5
STOP_SECONDS = 5.0
#: Words of queries whose stems are remembered, about 200 bytes each.
MOST_STEMS = 10_000
#: What the server sends of each stem of a query: the number of its word or phrase, from 1, and its hash.
_ITEM_STEM = np.dtype([("number", ">i4"), ("hash", ">u4")])
#: Scoring more than this many matches takes milliseconds.
MANY = 20_000


class RowChanged(Exception):
    """Others have changed a row between two statements of a search."""


class RowWords:
    """The words of one table's rows, and how they are read; safe to use from many threads."""

    def __init__(self, reading: Reading, collection: CollectionSpec, *, text_search: str) -> None:
        """`text_search`: the name of the text search configuration."""
        self._reading = reading
        self._look = partial(look_at, collection=collection, text_search=text_search)
        self._known: tuple[float, Known] | None = None
        self._postings: Postings | None = None
        self._of: object = None
        self._stems: dict[str, tuple[int, ...]] = {}
        self._is_complete = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._searches = 0
        self._not_before = 0.0

    def known(self) -> Known:
        """Table, configuration and index, at most a few seconds old. Raises SettingInvalid, NotMigrated."""
        known = self._known
        if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
            found = self._reading.read(self._look)
            known = self._known = (time.monotonic(), known[1] if known is not None and known[1] == found else found)
        return known[1]

    def look_again(self) -> None:
        """Discards what is known: the next search reads table, configuration and index again."""
        self._known = None

    @property
    def postings(self) -> Postings | None:
        """The words of every row that existed a moment ago; None while they are not in memory."""
        return self._postings if self._is_complete else None

    def known_items(self, queries: Sequence[str]) -> list[Item] | None:
        """The words and phrases of a query, and how many rows have each; None where not all of them were searched for
        before, or the words are not in memory."""
        postings, stems = self.postings, [self._stems.get(query) for query in queries]
        return None if postings is None or None in stems else postings.items(queries, stems)  # type: ignore[arg-type]

    def items(self, stems: Mapping[str, Sequence[int]]) -> list[Item] | None:
        """The same, from the hashes of the stems of each, which are remembered: the same words are searched for again and
        again. None where the words are not in memory."""
        postings = self.postings
        if postings is None:
            return None
        if len(self._stems) > MOST_STEMS:
            self._stems.clear()
        self._stems.update({query: tuple(hashes) for query, hashes in stems.items()})
        return postings.items(list(stems), list(stems.values()))

    def best(
        self,
        connection: Connection,
        known: Known,
        file: int,
        rows: npt.NDArray[Any],
        words: list[int],
        *,
        k: int,
        every: Set[int] = frozenset(),
    ) -> tuple[Best, ...] | None:
        """The k best of the matching rows ((n,) of PLACE, of the table's `file`) for the words with these hashes; where words
        are given as `every`, before it the k best of those rows that have each of these. None where too many of the rows are
        unknown, or the table was rewritten. Raises RowChanged, and what statements raise."""
        found = self._slots_of(connection, known, file, rows)
        if found is None:
            return None
        postings, slots, exists = found
        if not exists.all():
            raise RowChanged
        texts = known.estimated_rows

        def rank() -> tuple[Best, ...]:
            if every:
                return postings.best_with_all(words, every, rows, slots, texts=texts, k=k)
            return (postings.best(words, rows, slots, texts=texts, k=k),)

        # On an event loop, tens of milliseconds are too long.
        return waiting.beside(rank) if len(rows) > MANY else rank()

    @property
    def memory_bytes(self) -> int:
        postings = self._postings
        return 0 if postings is None else postings.memory_bytes

    def of(self, known: Known) -> Postings | None:
        """The postings that hold for this table and configuration; None where there are none yet. Then, or when the process
        searches for the second time, they are read in the background."""
        self._searches += 1
        self._adopt(known)
        if not self._is_complete and self._searches >= SEARCHES_BEFORE_READING:
            self.read_in_background(known)
        return self.postings

    def invalidate(self) -> None:
        """Frees the memory: the words are of another table, or are read in another way."""
        self._is_complete = False
        self._postings = None
        self._stems = {}

    def close(self) -> None:
        """Stops reading."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(STOP_SECONDS)

    def read_in_background(self, known: Known) -> None:
        """Starts reading all rows, unless that is already running, not worthwhile, or has just failed."""
        if not known.has_places or not known.estimated_rows >= FEWEST_ROWS or time.monotonic() < self._not_before:
            return
        self._adopt(known)
        with self._lock:
            if self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._read_all, args=(known,), name="everindex-words", daemon=True)
            self._thread.start()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _slots_of(
        self, connection: Connection, known: Known, file: int, rows: npt.NDArray[Any]
    ) -> tuple[Postings, Slots, npt.NDArray[np.bool_]] | None:
        """Postings that know the rows ((n,) of PLACE), and the slot of each; false for one that has vanished since. Reads those
        that are not known. None where there are too many of these, or the table was rewritten: then all are read again."""
        postings = self.postings
        if postings is None or postings.file != file:
            self._is_complete = False
            return None
        slots, is_known = postings.find(rows)
        unknown = rows[~is_known]
        if not len(unknown):
            return postings, slots, is_known
        if len(unknown) > MOST_UNKNOWN:
            self._is_complete = False
            return None
        read = _read(connection, known, file, [place_text(place) for place in places_of(unknown).tolist()])
        if read is None:
            return None
        postings = self._add(postings, *read)
        return postings, *postings.find(rows)

    def _adopt(self, known: Known) -> None:
        if self._of != (known.table, known.config):
            self.invalidate()
            self._of = (known.table, known.config)

    def _add(self, postings: Postings, rows: npt.NDArray[Any], words: npt.NDArray[Any]) -> Postings:
        with self._lock:
            latest = self._postings
            if latest is None or latest.file != postings.file:
                return postings.with_rows(rows, words)
            self._postings = latest.with_rows(rows, words)
            if self._postings.dead_rows > max(1_000, self._postings.rows // 2):
                self._is_complete = False  # what is left of the dead is read away
            return self._postings

    def _read_all(self, known: Known) -> None:
        started = time.monotonic()
        try:
            postings = self._all(known)
        except (EverindexError, psycopg.Error) as exc:
            log.debug(
                "the words of %s were not read: %s", known.table.spec.table, exc, extra={"event": "words-not-read"}
            )
            postings = None
        if postings is None:
            self._not_before = time.monotonic() + PAUSE_SECONDS
            return
        with self._lock:
            if self._of == (known.table, known.config):
                self._postings, self._is_complete = joined(postings), True
        log.info(
            "words of %d rows of %s in memory: %.1f MB in %.1f s",
            postings.rows, known.table.spec.table, postings.memory_bytes / 1e6, time.monotonic() - started,
         extra={"event": "words-in-memory"})  # fmt: skip

    def _all(self, known: Known) -> Postings | None:
        """The words of all rows; None where they do not fit, or reading was stopped."""
        size = self._reading.read(lambda connection: _size(connection, known))
        if size is None:
            return None
        file, blocks = size
        postings = Postings.none(file)
        step = max(1, round(blocks * ROWS_AT_A_TIME / max(known.estimated_rows, 1)))
        composed = words_of_rows(known, OF_BLOCKS)
        # The last part has no end: rows are appended meanwhile.
        for first in range(0, max(blocks, 1), step):
            beyond = first + step if first + step < blocks else 2**32 - 1
            asked = {"first": f"({first},0)", "beyond": f"({beyond},0)"}
            started = time.monotonic()
            row = self._reading.read(partial(_fetch_one, composed, asked))
            if row is None or row[0] != file:
                return None
            postings = postings.with_rows(*_parsed(row))
            if postings.memory_bytes > MOST_BYTES or self._of != (known.table, known.config):
                return None
            if self._stop.wait((time.monotonic() - started) * REST):
                return None
        return postings


def _fetch_one(composed: sql.Composed, parameters: dict[str, str], connection: Connection) -> tuple[Any, ...] | None:
    return connection.execute(composed, parameters, binary=True).fetchone()


def _size(connection: Connection, known: Known) -> tuple[int, int] | None:
    """Filenode and number of blocks of the table."""
    name = known.table.identifier.as_string(None)
    row = connection.execute(
        "SELECT pg_catalog.pg_relation_filenode(%(name)s::pg_catalog.regclass)::pg_catalog.int8, "
        "pg_catalog.pg_relation_size(%(name)s::pg_catalog.regclass) OPERATOR(pg_catalog./) "
        "pg_catalog.current_setting('block_size')::pg_catalog.int8",
        {"name": name},
    ).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def _read(
    connection: Connection, known: Known, file: int, places: list[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """The words of the rows at these places; None where the table was rewritten meanwhile."""
    text = known.texts.of(("words",), lambda: words_of_rows(known, OF_PLACES))
    [row] = text.run(connection, {"places": tid_array(places)})
    return _parsed(row) if row[0] == file else None


def _parsed(row: tuple[Any, ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return np.frombuffer(row[1] or b"", dtype=ROW), np.frombuffer(row[2] or b"", dtype=WORD)


def stems_of_each(queries: Sequence[str], stems: bytes | None) -> dict[str, list[int]]:
    """The hashes of the stems of each word or phrase, as the statement gives them."""
    hashes: list[list[int]] = [[] for _ in queries]
    for number, stem in np.frombuffer(stems or b"", dtype=_ITEM_STEM).tolist():
        hashes[number - 1].append(stem)
    return dict(zip(queries, hashes, strict=True))
