"""The checks and the report of one index, of the articles or of a collection: run in the background, and cached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from everindex.articles.instance import Instance
from everindex.articles.searchable import Searchable
from everindex.articles.verification import read_state
from everindex.pg.sqlstate import translate_errors
from everindex.web.http.cached import AsyncCache
from everindex.web.reports.index_report import IndexReport, read_index_report
from everindex.web.reports.proofs import BackgroundProofs

#: Runs work in a thread for the database; raises ServerBusy.
InDatabase = Callable[[Callable[[], Any]], Awaitable[Any]]


class IndexWatch:
    """What the page about an index shows; one for each collection that somebody looks at."""

    def __init__(
        self,
        instance: Instance,
        searched: Searchable,
        in_database: InDatabase,
        *,
        index_seconds: float,
        verification_seconds: float,
    ) -> None:
        self.searched = searched
        self.proofs = BackgroundProofs(searched.verify, seconds=verification_seconds)
        self._instance = instance
        self._in_database = in_database
        self._report: AsyncCache[IndexReport] = AsyncCache(
            lambda: in_database(lambda: read_index_report(instance, searched)), seconds=index_seconds
        )

    async def catalog(self) -> str:
        """The current state of declaration and catalog, with which checks and report are marked."""
        found: str = await self._in_database(self._read_state)
        return found

    def _read_state(self) -> str:
        with self._instance.connection() as connection, translate_errors("reading the catalog"):
            return read_state(connection, self.searched.spec, floor=self._instance.settings.recall_floor)

    async def report(self, catalog: str, *, wait_seconds: float | None = None) -> IndexReport:
        """The report on the index, for this state of the catalog or a later one. Raises TimeoutError if it takes longer."""
        report = await self._report.get(wait_seconds=wait_seconds)
        if report.catalog != catalog:
            self._report.invalidate()
            report = await self._report.get(wait_seconds=wait_seconds)
        return report
