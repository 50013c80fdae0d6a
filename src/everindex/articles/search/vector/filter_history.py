"""What index scans under a filter have met so far: how near to its queries the rows that pass it lie.

A filter is often a cluster of the vector space. What share of all rows passes it says little then: near some queries half of
the rows pass, near most of them none. How many entries of the index the last searches under this filter had to look at tells
whether the index pays for the next one, and whether its rows came in another order than they should.
"""

from __future__ import annotations

import statistics
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from everindex.articles.model import Filters

#: So many of the last scans under a filter count.
KEPT_SCANS = 32
#: So many filters are remembered; the one that was not used for the longest time is forgotten first.
KEPT_FILTERS = 512
#: Before so many scans nothing is concluded from them.
FEWEST_SCANS = 8
#: Of a filter for which the index does not pay, every so many-th search tries it all the same, since queries change.
TRY_EVERY = 16
#: A filter that has nothing to do with the vectors gives its rows after about as many entries as its share says. With 12
#: rows to find, less than a thousandth of the scans is off by so much.
FAR_OFF = 2.5
#: From this share of scans on that are far off, or in vain, the filter is taken for a cluster.
CLUSTERED_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What is concluded for the next search."""

    pays: bool = True
    """At least half of the scans found their rows at less than the cost of reading all that pass."""

    is_clustered: bool = False
    """Near some queries far more of the rows pass than near others."""

    entries: int = 0
    """What half of the scans that found their rows needed at most."""


UNKNOWN = Experience()


class FilterHistory:
    """The scans of one engine; safe to use from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Filters, int], _Scans] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, filters: Filters, k: int) -> Experience:
        """What the scans for `k` rows under `filters` have shown. One that would be skipped is tried every TRY_EVERY times."""
        with self._lock:
            kept = self._kept.get((filters, k))
            if kept is None:
                return UNKNOWN
            if kept.experience.pays:
                return kept.experience
            kept.skipped = (kept.skipped + 1) % TRY_EVERY
            return kept.experience if kept.skipped else replace(kept.experience, pays=True)

    def note(self, filters: Filters, k: int, *, entries: int, expected: float, is_in_vain: bool) -> None:
        """One scan: how many entries it looked at, how many a filter of that share needs, and whether it was in vain."""
        with self._lock:
            kept = self._kept.setdefault((filters, k), _Scans())
            kept.add(None if is_in_vain else entries, max(expected, 1.0))
            self._kept.move_to_end((filters, k))
            if len(self._kept) > KEPT_FILTERS:
                self._kept.popitem(last=False)

    def forget(self) -> None:
        """Begins anew: another index serves."""
        with self._lock:
            self._kept.clear()


class _Scans:
    """The last scans under one filter: the entries of each, None where it was in vain, and those that its share needs."""

    def __init__(self) -> None:
        self.scans: deque[tuple[int | None, float]] = deque(maxlen=KEPT_SCANS)
        self.experience = UNKNOWN
        self.skipped = 0

    def add(self, entries: int | None, expected: float) -> None:
        self.scans.append((entries, expected))
        if len(self.scans) < FEWEST_SCANS:
            return
        found = [(entries, expected) for entries, expected in self.scans if entries is not None]
        near = sum(1 / FAR_OFF <= entries / expected <= FAR_OFF for entries, expected in found)
        self.experience = Experience(
            pays=2 * len(found) >= len(self.scans),
            is_clustered=len(self.scans) - near >= CLUSTERED_SHARE * len(self.scans),
            entries=int(statistics.median(entries for entries, _ in found)) if found else 0,
        )
