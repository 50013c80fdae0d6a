"""The explanation of a search by meaning: its strategy, settings and statement, and the plan as it ran; never the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everindex.articles.search.vector.strategy import Approach


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `everindex search --explain` shows."""

    approach: Approach
    statement: str
    """With named placeholders; empty where nothing has to be run."""

    plan: tuple[str, ...]
    """EXPLAIN (ANALYZE, BUFFERS), without the query vector."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` gives it."""
        return {
            "strategy": self.approach.strategy,
            "reason": self.approach.reason,
            "ef_search": self.approach.ef_search,
            "fetch": self.approach.fetch or None,
            "candidates": self.approach.candidates,
            "settings": dict(self.approach.settings),
            "statement": self.statement,
            "plan": list(self.plan),
        }
