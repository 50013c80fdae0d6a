"""The log line of a slow search: its time, its shape and a summary of its plan; never the query itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from everindex.articles.connections.reading import Reading
from everindex.articles.model import Answer
from everindex.errors import EverindexError
from everindex.index.recall.explain import Settings, explain

log = logging.getLogger("everindex.search")


def log_slow(answer: Answer, filters: Sequence[str], *, plan: str) -> None:
    """Writes one WARNING line, with the names of the filters (`names_of`) but not their values."""
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
