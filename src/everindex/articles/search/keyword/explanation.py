"""The explanation of a keyword search: its statement and plan as it ran; never the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsExplanation:
    """How keyword search finds the words: its statement, and its plan as it ran."""

    statement: str
    plan: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` prints it."""
        return {"statement": self.statement, "plan": list(self.plan)}
