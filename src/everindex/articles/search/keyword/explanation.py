"""The explanation of a search by words: its statement, and the plan as it ran; never the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsExplanation:
    """How the words of a search are found: the statement of keyword search, and its plan as it ran."""

    statement: str
    plan: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` gives it."""
        return {"statement": self.statement, "plan": list(self.plan)}
