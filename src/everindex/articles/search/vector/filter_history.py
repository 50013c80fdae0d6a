"""The cost of recent index scans under each filter, which shows how near to the queries its rows lie.

A filter is often a cluster of the vector space. The share of rows that pass it says little then: near some queries half
of the rows pass, near most queries none. The number of index entries that recent searches under this filter visited
tells whether the index pays for the next one, and whether its rows may have come out of order.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from everindex.articles.model import Filters
from everindex.articles.search.filters import AnyFilters, key_of

#: The number of recent scans considered for each filter.
REMEMBERED_SCANS = 32
#: The number of filters remembered; the one least recently noted is evicted first.
REMEMBERED_FILTERS = 512
#: With fewer scans than this, nothing is concluded.
FEWEST_SCANS = 8
#: Where the index does not pay for a filter, one in this many searches still tries it, since queries change.
TRY_EVERY = 16
#: Under a filter independent of the vectors, a scan needs about as many entries as the filter's share predicts. With 12
#: rows to find, fewer than one scan in a thousand is off by this factor.
FAR_OFF = 2.5
#: If at least this share of scans is far off or failed, the filter counts as a cluster.
CLUSTERED_SHARE = 0.25
#: The share of scans under a clustered filter that is trusted, those with the fewest entries; an exact search follows
#: the others. The more entries a scan needs, the poorer its result (docs/measurements/filtered.md).
TRUSTED_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan of the index under a filter."""

    entries: int
    """Entries that the index returned until the scan had its rows, or ended."""

    expected: float
    """Entries needed if the filter is independent of the vectors."""

    most: int
    """The number of entries that costs as much as reading all rows that pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """The conclusion for the next search."""

    pays: bool = True
    """At least half of the scans found their rows at less than the cost of reading all that pass."""

    is_clustered: bool = False
    """Near some queries far more of the rows pass than near others."""

    entries: int = 0
    """The median number of entries of the scans."""

    trusted_entries: int | None = None
    """For a cluster: the number of entries that TRUSTED_SHARE of the scans did not exceed. The others went so far that
    their result is poor."""


UNKNOWN = Experience()


class FilterHistory:
    """The scans of one engine; safe to use from many threads."""

    def __init__(self) -> None:
        self._scans: OrderedDict[tuple[Filters | bytes, int], _Scans] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, filters: AnyFilters, k: int) -> Experience:
        """What the scans for `k` rows under `filters` have shown. Where the index does not pay, one call in TRY_EVERY
        says that it does."""
        with self._lock:
            scans = self._scans.get((key_of(filters), k))
            if scans is None:
                return UNKNOWN
            if scans.experience.pays:
                return scans.experience
            scans.skipped = (scans.skipped + 1) % TRY_EVERY
            return scans.experience if scans.skipped else replace(scans.experience, pays=True)

    def note(self, filters: AnyFilters, k: int, scan: Scan) -> None:
        """Adds one scan."""
        with self._lock:
            key = (key_of(filters), k)
            scans = self._scans.setdefault(key, _Scans())
            scans.add(scan)
            self._scans.move_to_end(key)
            if len(self._scans) > REMEMBERED_FILTERS:
                self._scans.popitem(last=False)

    def invalidate(self) -> None:
        """Starts over, since another index serves."""
        with self._lock:
            self._scans.clear()


class _Scans:
    """The last scans under one filter."""

    def __init__(self) -> None:
        self.scans: deque[Scan] = deque(maxlen=REMEMBERED_SCANS)
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
