"""Slow searches: a log line for each, and the latest ones in memory; time, shape and plan, never the query itself."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from everindex.articles.connections.reading import Reading
from everindex.articles.model import Answer
from everindex.errors import EverindexError
from everindex.index.recall.explain import Settings, explain

log = logging.getLogger("everindex.search")


#: Slow searches that a process remembers.
MOST_REMEMBERED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowSearch:
    """A search that took longer than EVERINDEX_SLOW_QUERY_MS. Contains nothing of the query."""

    at: datetime
    collection: str
    mode: str
    strategy: str
    reason: str
    """Why this strategy was chosen, for people."""

    duration_ms: float
    k: int
    rows: int
    ef_search: int | None
    filters: tuple[str, ...]
    """Their names, without values."""

    plan: str
    """The server's plan, in words."""


_SLOW: WeakKeyDictionary[Reading, deque[SlowSearch]] = WeakKeyDictionary()


def slow_searches(reading: Reading, collection: str) -> list[SlowSearch]:
    """The latest slow searches of a collection in this process, the newest first; at most MOST_REMEMBERED of all of them."""
    return [each for each in reversed(list(_SLOW.get(reading, ()))) if each.collection == collection]


def log_slow(reading: Reading, collection: str, answer: Answer, filters: Sequence[str], *, plan: str) -> None:
    """Writes one WARNING line, with the names of the filters (`names_of`) but not their values, and remembers the search."""
    _SLOW.setdefault(reading, deque(maxlen=MOST_REMEMBERED)).append(
        SlowSearch(
            at=datetime.now(UTC), collection=collection, mode=answer.mode, strategy=answer.strategy,
            reason=answer.reason, duration_ms=answer.elapsed_ms, k=answer.k, rows=len(answer.hits),
            ef_search=answer.ef_search, filters=tuple(filters), plan=plan,
        )
    )  # fmt: skip
    log.warning(
        "slow-query: %.1f ms, k=%d rows=%d strategy=%s ef_search=%s filters=%s plan: %s",
        answer.elapsed_ms,
        answer.k,
        len(answer.hits),
        answer.strategy,
        answer.ef_search,
        ",".join(filters) or "-",
        plan,
        extra={
            "event": "slow-query",
            "duration_ms": round(answer.elapsed_ms, 1),
            "k": answer.k,
            "rows": len(answer.hits),
            "mode": answer.mode,
            "strategy": answer.strategy,
            "filters": list(filters),
            "plan": plan,
        },
    )


def plan_summary(
    reading: Reading, statement: Callable[[], tuple[str, Mapping[str, Any]]], *, settings: Settings = ()
) -> str:
    """A summary of the server's plan for a statement with its parameters. The answer is ready, so that it does not fail where
    its plan cannot be read."""
    try:
        text, parameters = statement()
        with reading.connection() as connection:
            return explain(connection, text, parameters, settings=settings).summary
    except EverindexError as exc:
        return f"unknown: {exc.slug}"
