"""What index scans under a filter have met so far: how near to its queries the rows that pass it lie.

A filter is often a cluster of the vector space. What share of all rows passes it says little then: near some queries half of
the rows pass, near most of them none. How many entries of the index the last searches under this filter had to look at tells
whether the index pays for the next one, and whether its rows came in another order than they should.
"""

from __future__ import annotations

import math
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
#: Of the scans under a clustered filter these are trusted, those with the fewest entries; an exact search follows the others.
#: The more entries a scan needs, the poorer is what it finds (docs/measurements/filtered.md).
TRUSTED_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan of the index under a filter."""

    entries: int
    """So many the index gave until it had its rows, or ended."""

    expected: float
    """So many it needs where the filter has nothing to do with the vectors."""

    most: int
    """So many cost as much as reading all rows that pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What is concluded for the next search."""

    pays: bool = True
    """At least half of the scans found their rows at less than the cost of reading all that pass."""

    is_clustered: bool = False
    """Near some queries far more of the rows pass than near others."""

    entries: int = 0
    """What half of the scans needed at most."""

    trusted_entries: int | None = None
    """Of a cluster: what TRUSTED_SHARE of the scans needed at most. The others went so far that what they gave is poor."""


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

    def note(self, filters: Filters, k: int, scan: Scan) -> None:
        """What one more scan has met."""
        with self._lock:
            kept = self._kept.setdefault((filters, k), _Scans())
            kept.add(scan)
            self._kept.move_to_end((filters, k))
            if len(self._kept) > KEPT_FILTERS:
                self._kept.popitem(last=False)

    def invalidate(self) -> None:
        """Begins anew: another index serves."""
        with self._lock:
            self._kept.clear()


class _Scans:
    """The last scans under one filter."""

    def __init__(self) -> None:
        self.scans: deque[Scan] = deque(maxlen=KEPT_SCANS)
        self.experience = UNKNOWN
        self.skipped = 0

    def add(self, scan: Scan) -> None:
        self.scans.append(scan)
        count = len(self.scans)
        if count < FEWEST_SCANS:
            return
        entries = sorted(scan.entries for scan in self.scans)
        near = sum(1 / FAR_OFF <= scan.entries / max(scan.expected, 1.0) <= FAR_OFF for scan in self.scans)
        is_clustered = count - near >= CLUSTERED_SHARE * count
        self.experience = Experience(
            pays=2 * sum(scan.entries <= scan.most for scan in self.scans) >= count,
            is_clustered=is_clustered,
            entries=entries[count // 2],
            trusted_entries=entries[math.ceil(TRUSTED_SHARE * count) - 1] if is_clustered else None,
        )
