"""Scans that the server counted for a search: whether the plan took the index that the search was made for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from everindex.articles.search.vector.strategy import SearchPlan, exactly

#: `as-chosen`: through the index, or a search that asks for none, or a server that counts nothing. `table`: every row was
#: read. `other`: neither, or only a part of the partitions went through the index.
Scanned = Literal["as-chosen", "table", "other"]

SMALL_TABLE = "PostgreSQL reads all of a table this small"


def scanned_by(scans: Sequence[int], *, searches: int, is_partitioned: bool) -> Scanned:
    """From the scans of the index and of the table (or of all their parts) that `searches` statements made."""
    if not scans:
        return "as-chosen"
    by_index, whole = scans
    if by_index >= searches and not (is_partitioned and whole):
        return "as-chosen"
    return "table" if by_index == 0 and whole >= searches else "other"


def as_read(search_plan: SearchPlan, *, reason: str) -> SearchPlan:
    """The exact form of a search plan whose statement read every row."""
    exact = exactly(is_filtered=search_plan.strategy.endswith("-filtered"), reason=reason)
    return replace(exact, continues=search_plan.continues, leaves_ties=True)
