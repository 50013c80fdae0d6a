"""The state of one deploy of a declared vector index: its results so far, as its later steps need them.

In memory only: after a kill, the next deploy plans from the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from everindex.index.build.operation import Operation
from everindex.index.catalog.generations import Shortfall
from everindex.index.spec import IndexSpec


@dataclass(slots=True, kw_only=True)
class Deployment(Operation):
    """An operation on a declared vector index and its generations."""

    spec: IndexSpec
    did: list[str] = field(default_factory=list)
    """The steps that were done, in sentences."""

    has_rebuilt: bool = False
    has_swapped: bool = False
    proven: set[int] = field(default_factory=set)
    """Oids of new generations that have been proven by this deploy."""

    shortfalls: dict[int, Shortfall] = field(default_factory=dict)
    """Of those, the ones that are below their floor and take over all the same."""

    rebuild_because: str | None = None
    """Evidence against the serving index; cleared once it has been replaced."""

    words: dict[str, str] = field(default_factory=dict)
    """What others had written in the comment on an index that was dropped: what is built under its name gets it again."""
