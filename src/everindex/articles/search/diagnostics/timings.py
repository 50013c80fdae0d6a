"""The counts and durations of one collection's searches since the start of the process, by mode and strategy.

Bounded: modes, strategies and problem slugs are fixed sets. Safe to use from many threads. Contains nothing of a query.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

from everindex.articles.model import Answer
from everindex.errors import EverindexError

#: Upper bounds of the histogram in seconds: a search through the index takes 1 to 20 ms, an exact one of a large table seconds.
BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTiming:
    """The searches of one mode and strategy."""

    mode: str
    strategy: str
    buckets: tuple[int, ...]
    """How many took at most each of BOUNDS_SECONDS and more than the bound before it; the last: more than all of them."""

    seconds: float
    """Of all of them together."""

    @property
    def count(self) -> int:
        return sum(self.buckets)


class SearchTimings:
    """Counts the searches of one service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[str] = Counter()

    def note(self, answer: Answer, seconds: float) -> None:
        """Counts one answered search that took `seconds`."""
        key = (answer.mode, answer.strategy)
        with self._lock:
            buckets = self._buckets.get(key)
            if buckets is None:
                buckets = self._buckets[key] = [0] * (len(BOUNDS_SECONDS) + 1)
            buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
            self._seconds[key] += seconds  # type: ignore[assignment]  # a Counter adds any number

    def note_failure(self, error: EverindexError) -> None:
        """Counts one search that ended with an error."""
        with self._lock:
            self._failures[error.slug] += 1

    def timings(self) -> list[SearchTiming]:
        """One for each mode and strategy that has answered a search."""
        with self._lock:
            return [
                SearchTiming(mode=key[0], strategy=key[1], buckets=tuple(buckets), seconds=self._seconds[key])
                for key, buckets in sorted(self._buckets.items())
            ]

    def failures(self) -> dict[str, int]:
        """Slug of the problem → number of searches that it ended."""
        with self._lock:
            return dict(self._failures)
