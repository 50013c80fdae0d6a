"""The checks and the report of one index, of the articles or of a collection: run in the background, and cached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from everindex.articles.collections.registry import declared_indexes
from everindex.articles.instance import Instance
from everindex.articles.searchable import Searchable
from everindex.articles.verification import read_state
from everindex.doctor.examine import examine
from everindex.doctor.rule import Report
from everindex.index.activity.running_builds import RunningBuild, running_builds
from everindex.index.catalog.effective_spec import effective_spec
from everindex.pg.connections import connect
from everindex.pg.sqlstate import translate_errors
from everindex.web.http.cached import AsyncCache
from everindex.web.index_actions import IndexActions
from everindex.web.reports.index_report import IndexReport, read_index_report
from everindex.web.reports.operations_report import OperationsReport, read_operations
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
        self.actions = IndexActions(searched)
        self.proofs = BackgroundProofs(searched.verify, seconds=verification_seconds)
        self._instance = instance
        self._in_database = in_database
        self._report: AsyncCache[IndexReport] = AsyncCache(
            lambda: in_database(lambda: read_index_report(instance, searched)), seconds=index_seconds
        )
        self._operations: AsyncCache[OperationsReport] = AsyncCache(
            lambda: in_database(lambda: read_operations(instance, searched)), seconds=index_seconds
        )
        self._doctor: AsyncCache[Report] = AsyncCache(lambda: in_database(self._examine), seconds=verification_seconds)

    async def catalog(self) -> str:
        """The current state of declaration and catalog, with which checks and report are marked."""
        found: str = await self._in_database(self._read_state)
        return found

    async def now(self) -> tuple[str, list[RunningBuild]]:
        """The same, and the builds that run now."""
        found: tuple[str, list[RunningBuild]] = await self._in_database(self._read_now)
        return found

    async def builds(self) -> list[RunningBuild]:
        """The builds that run on the table now."""
        return (await self.now())[1]

    def _read_state(self) -> str:
        with self._instance.connection() as connection, translate_errors("reading the catalog"):
            return read_state(connection, self.searched.spec, floor=self._instance.settings.recall_floor)

    def _read_now(self) -> tuple[str, list[RunningBuild]]:
        with self._instance.connection() as connection, translate_errors("reading the catalog"):
            state = read_state(connection, self.searched.spec, floor=self._instance.settings.recall_floor)
            return state, running_builds(connection, self.searched.engine.known()[0].index)

    async def operations(self, *, wait_seconds: float | None = None) -> OperationsReport:
        """History, memory, slow searches and settings, at most as old as the report. Raises TimeoutError if it takes longer."""
        return await self._operations.get(wait_seconds=wait_seconds)

    async def doctor(self, *, wait_seconds: float | None = None) -> Report:
        """The findings of the doctor, cached like the checks. Raises TimeoutError if it takes longer."""
        return await self._doctor.get(wait_seconds=wait_seconds)

    def _examine(self) -> Report:
        with connect(self.searched.direct_conninfo, application_name="everindex doctor") as connection:
            floor = self._instance.settings.recall_floor
            specs = [
                effective_spec(connection, replace(spec, recall_floor=floor)) for spec in declared_indexes(connection)
            ]
            return examine(connection, tuple(specs), max_seconds=1.0)

    async def report(self, catalog: str, *, wait_seconds: float | None = None) -> IndexReport:
        """The report on the index, for this state of the catalog or a later one. Raises TimeoutError if it takes longer."""
        report = await self._report.get(wait_seconds=wait_seconds)
        if report.catalog != catalog:
            self._report.invalidate()
            report = await self._report.get(wait_seconds=wait_seconds)
        return report
