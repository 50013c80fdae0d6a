"""The parts of an index: itself, and the indexes attached to it on the partitions of its table; their names and sizes. Pure."""

from __future__ import annotations

from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.spec import IndexSpec


def index_names(observed: Observed, index: ObservedIndex) -> frozenset[str]:
    """The names that a plan may show for a scan of `index`: its own, or those of its partitions."""
    return frozenset(part.name for part in index_parts(observed, index))


def index_parts(observed: Observed, index: ObservedIndex) -> tuple[ObservedIndex, ...]:
    """`index`, and the indexes attached to it on the partitions, at any depth."""
    parts = [index]
    parents = {index.oid}
    for part in observed.partitions:  # parents come before their partitions
        for child in part.indexes:
            if child.parent_oid in parents:
                parts.append(child)
                parents.add(child.oid)
    return tuple(parts)


def size_of(observed: Observed, found: ObservedIndex) -> int:
    """Bytes of the index, including those on its partitions."""
    return sum(part.size_bytes for part in index_parts(observed, found))


def names_of(spec: IndexSpec, observed: Observed) -> frozenset[str]:
    """The names that a plan may show for the declared index."""
    found = declared_index(spec, observed)
    return frozenset({spec.name}) if found is None else index_names(observed, found)
