"""The order in which compared systems run: in turns, input by input, so that each sees the same conditions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


def turns(names: Sequence[str], count: int) -> Iterator[tuple[int, str]]:
    """(turn, name): all names in every turn, in an order that rotates, since who comes second finds warm pages."""
    for turn in range(count):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            yield turn, name


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the work gave."""
    started = time.perf_counter()
    given = work()
    return time.perf_counter() - started, given


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1000, 2),
        "p95_ms": round(float(np.percentile(seconds, 95)) * 1000, 2),
    }
