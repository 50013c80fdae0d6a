"""The state of one deploy of a declared vector index: the results so far that its later steps need.

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
    """The completed steps, as sentences."""

    has_rebuilt: bool = False
    has_swapped: bool = False
    proven: set[int] = field(default_factory=set)
    """Oids of new generations that this deploy has proven."""

    shortfalls: dict[int, Shortfall] = field(default_factory=dict)
    """Those of them that are below their floor and take over anyway."""

    rebuild_because: str | None = None
    """Evidence against the serving index; cleared once it has been replaced."""

    words: dict[str, str] = field(default_factory=dict)
    """The text of others in the comment on a dropped index; the index built under its name gets it back."""
