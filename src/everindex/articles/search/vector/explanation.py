"""The explanation of a search by meaning: its strategy, settings and statement, and the plan as it ran; never the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everindex.articles.search.vector.strategy import SearchPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `everindex search --explain` shows."""

    search_plan: SearchPlan
    statement: str
    """With named placeholders; empty where nothing has to be run."""

    plan: tuple[str, ...]
    """EXPLAIN (ANALYZE, BUFFERS), without the query vector."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` gives it."""
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
