"""The log line of a slow search: its time, its shape and its plan; never the query itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from everindex.articles.model import Answer

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
    )
