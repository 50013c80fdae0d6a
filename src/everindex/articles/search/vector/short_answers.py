"""Short answers: searches for which the index returned fewer rows than exist. Each is counted, logged and journaled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from everindex.articles.search.filters import AnyFilters, names_of
from everindex.articles.search.vector.strategy import SearchPlan

log = logging.getLogger("everindex.search")

#: The journal gets at most one line in this many seconds; counting continues in between.
JOURNAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortAnswer:
    """An index search that found less than the exact search that replaced it. Contains nothing of the query."""

    strategy: str
    index_name: str | None
    ef_search: int | None
    filters: tuple[str, ...]
    """The names of the filters, without their values."""

    wanted: int
    found: int
    existing: int
    """What the exact search found, at most `wanted`."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class ShortAnswers:
    """The incidents of one engine since its start; safe to use from many threads."""

    def __init__(self, journal: Callable[[ShortAnswer, int], None] | None = None) -> None:
        """`journal(last_incident, incidents_since_last_line)` writes a line; it is called at most once a minute."""
        self._journal = journal
        self._lock = threading.Lock()
        self._unwritten = 0
        self._written_at = float("-inf")
        self.count = 0
        self.last: ShortAnswer | None = None

    def note(
        self,
        search_plan: SearchPlan,
        index_name: str | None,
        filters: AnyFilters,
        *,
        wanted: int,
        found: int,
        existing: int,
    ) -> None:
        """Counts and logs one short answer."""
        incident = ShortAnswer(
            strategy=search_plan.strategy,
            index_name=index_name,
            ef_search=search_plan.ef_search,
            filters=names_of(filters),
            wanted=wanted,
            found=found,
            existing=existing,
        )
        with self._lock:
            self.count += 1
            self.last = incident
            self._unwritten += 1
            is_due = self._journal is not None and time.monotonic() - self._written_at >= JOURNAL_SECONDS
            unwritten = self._unwritten
            if is_due:
                self._written_at = time.monotonic()
                self._unwritten = 0
        log.warning(
            "short-answer: the index returned %d of %d rows (strategy %s, ef_search %s, filters %s); an exact search "
            "found %d",
            found,
            wanted,
            search_plan.strategy,
            search_plan.ef_search,
            ",".join(incident.filters) or "-",
            existing,
            extra={
                "event": "short-answer",
                "strategy": search_plan.strategy,
                "ef_search": search_plan.ef_search,
                "filters": list(incident.filters),
                "wanted": wanted,
                "found": found,
                "existing": existing,
            },
        )
        if is_due and self._journal is not None:
            self._journal(incident, unwritten)
