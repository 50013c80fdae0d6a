"""The log line of a slow search: its time, its shape and its plan; never the query itself."""

from __future__ import annotations

import logging
from dataclasses import fields

from everindex.articles.model import Answer, Filters

log = logging.getLogger("everindex.search")


def log_slow(answer: Answer, filters: Filters, *, plan: str) -> None:
    """Writes one WARNING line, with the names of the filters but not their values."""
    log.warning(
        "slow-query: %.1f ms, k=%d rows=%d strategy=%s ef_search=%s filters=%s plan: %s",
        answer.elapsed_ms,
        answer.k,
        len(answer.hits),
        answer.strategy,
        answer.ef_search,
        ",".join(names_of(filters)) or "-",
        plan,
    )


def names_of(filters: Filters) -> tuple[str, ...]:
    """Which filters are set, without their values."""
    return tuple(field.name for field in fields(filters) if getattr(filters, field.name))
