"""What is told about a slow search? Its time, its shape and its plan; never what was searched for."""

from __future__ import annotations

import logging
from dataclasses import fields

from everindex.articles.model import Answer, Filters

log = logging.getLogger("everindex.search")


def log_slow(answer: Answer, filters: Filters, *, plan: str) -> None:
    """One WARNING line; of the filters only the names."""
    names = [field.name for field in fields(filters) if getattr(filters, field.name)]
    log.warning(
        "slow-query: %.1f ms, k=%d rows=%d strategy=%s ef_search=%s filters=%s plan: %s",
        answer.elapsed_ms,
        answer.k,
        len(answer.hits),
        answer.strategy,
        answer.ef_search,
        ",".join(names) or "-",
        plan,
    )
