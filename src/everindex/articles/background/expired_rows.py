"""The keeper's task that deletes rows that have expired, where EVERINDEX_KEEP_EXPIRED=delete."""

from __future__ import annotations

import logging
import threading

from everindex.articles.collections.registry import read_collections
from everindex.articles.declared import ARTICLES
from everindex.articles.ingest.delete import delete_rows
from everindex.articles.search.filters import expired
from everindex.articles.table import read_table
from everindex.errors import ColumnMismatch, NotMigrated
from everindex.index.keeper.round import KeptIndex
from everindex.pg.connections import connect
from everindex.units import count_text

log = logging.getLogger(__name__)


class ExpiredRowsTask:
    """Deletes the expired articles, and the expired rows of every collection, in each round of the keeper."""

    index = "rows that have expired"

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """One transaction for each collection. Raises what `delete_rows` raises."""
        did: list[str] = []
        with connect(self._conninfo, application_name="everindex keeper") as connection:
            for spec in (ARTICLES, *read_collections(connection)):
                if stop.is_set():
                    break
                try:
                    table = read_table(connection, spec)
                except (
                    NotMigrated,
                    ColumnMismatch,
                ):  # no table, or not as declared: another part of the keeper says so
                    continue
                count = delete_rows(connection, table, None, filters=expired()) if table.can_expire else 0
                if count:
                    did.append(f"deleted {count_text(count, 'row')} of {spec.name} that had expired")
                    log.info("keeper: %s", did[-1], extra={"event": "keeper-expired-deleted"})
        return KeptIndex(index=self.index, outcome="deleted", did=tuple(did)) if did else None
