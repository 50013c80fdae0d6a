"""A passage of a whole text, as a hit shows it: its words, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """The passage of an article's whole text that answers best."""

    text: str
    start: int
    """Where it begins in the whole text, in characters from 0."""

    end: int
    """Where it ends, exclusive."""

    number: int
    """Its place among the passages of the text, from 1."""

    count: int
    """How many passages the text has."""

    distance: float | None = None
    """The cosine distance of its vector from the query's; None where they were not compared."""

    snippet: str | None = None
    """As `Hit.snippet`, of the passage; None in a search by meaning alone."""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` and the API give it."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "number": self.number,
            "count": self.count,
            "distance": self.distance,
            "snippet": self.snippet,
        }
