"""Counts of the rows that pass a filter, up to a limit and cached for a while: only the choice of the plan depends on them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from everindex.articles.model import Filters
from everindex.articles.search.filters import AnyFilters, key_of
from everindex.articles.search.vector import statement
from everindex.articles.table import CollectionTable
from everindex.pg.connections import Connection
from everindex.pg.statement_texts import text_of

#: How long a count is used. Whatever it says, the answer is correct: an exact search reads all rows that pass, and
#: follows an index scan that returns too few. A count of 0 is never cached, since it is itself the answer.
CACHED_SECONDS = 30.0
#: The number of filters cached; the least recently used is evicted first.
CACHED_FILTERS = 512


class PassingRows:
    """The counts of one engine; safe to use from many threads."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[Filters | bytes, int], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, connection: Connection, table: CollectionTable, filters: AnyFilters, *, up_to: int) -> int:
        """The number of rows with a vector that pass `filters`, at most `up_to` + 1. One round trip where it is not
        cached."""
        key = (key_of(filters), up_to)
        with self._lock:
            cached = self._counts.get(key)
            if cached is not None and time.monotonic() - cached[0] <= CACHED_SECONDS:
                self._counts.move_to_end(key)
                return cached[1]
        composed, parameters = statement.count_passing(table, filters, limit=up_to + 1)
        passing = int(text_of(composed).run(connection, parameters)[0][0])
        if passing:
            with self._lock:
                self._counts[key] = (time.monotonic(), passing)
                while len(self._counts) > CACHED_FILTERS:
                    self._counts.popitem(last=False)
        return passing

    def invalidate(self) -> None:
        """Discards all counts, after this process has written."""
        with self._lock:
            self._counts.clear()
