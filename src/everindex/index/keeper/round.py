"""The result of one round of the keeper: its role, each index, and unresolved findings; and the rounds of a process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from everindex.message_text import with_backticks

Role = Literal["leads", "follows", "waits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as declared and was not healed."""

    index: str
    slug: str
    text: str
    is_failure: bool
    """True when healing was tried and failed; False when it is left to a person."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "slug": self.slug,
            "text": with_backticks(self.text),
            "is_failure": self.is_failure,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptIndex:
    """The result of one round for one declared index."""

    index: str
    outcome: str
    """As `Deployed.outcome`, or `being-built`, or `left`."""

    did: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    because: str | None = None
    """The evidence on which it was rebuilt."""

    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round over all indexes."""

    role: Role
    reason: str | None = None
    """Why the keeper does not lead, or waits."""

    indexes: tuple[KeptIndex, ...] = ()
    seconds: float = 0.0

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(each.finding for each in self.indexes if each.finding is not None)

    @property
    def has_changed(self) -> bool:
        """True when an index was changed."""
        return any(each.did for each in self.indexes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "indexes": [
                {
                    "index": each.index,
                    "outcome": each.outcome,
                    "did": list(each.did),
                    "warnings": list(each.warnings),
                    "because": each.because,
                    "finding": None if each.finding is None else each.finding.as_dict(),
                }
                for each in self.indexes
            ],
        }


class RoundCounts:
    """The rounds of the keeper that runs in this process: how many, by role, and the last one. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rounds: Counter[Role] = Counter()
        self._last: tuple[float, Round] | None = None

    def note(self, round_: Round) -> None:
        """Counts a round that has just ended."""
        with self._lock:
            self._rounds[round_.role] += 1
            self._last = time.time(), round_

    def rounds(self) -> dict[Role, int]:
        """Role → number of rounds; empty where no keeper runs in this process."""
        with self._lock:
            return dict(self._rounds)

    @property
    def last(self) -> tuple[float, Round] | None:
        """When the last round ended (seconds since 1970), and its result."""
        return self._last
