"""The explanation of a semantic search: its strategy, settings, statement and plan as it ran; never the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everindex.articles.search.vector.strategy import SearchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `everindex search --explain` shows."""

    search_plan: SearchPlan
    statement: str
    """With named placeholders; empty where no statement is run."""

    plan: tuple[str, ...]
    """EXPLAIN (ANALYZE, BUFFERS), without the query vector."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` prints it."""
        return {
            "strategy": self.search_plan.strategy,
            "reason": self.search_plan.reason,
            "ef_search": self.search_plan.ef_search,
            "fetch": self.search_plan.fetch or None,
            "candidates": self.search_plan.candidates,
            "settings": dict(self.search_plan.settings),
            "statement": self.statement,
            "plan": list(self.plan),
        }
