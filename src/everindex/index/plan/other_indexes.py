"""Other vector indexes on the declared column: those that may serve the declared searches, and those that only cost.

They belong to others: everindex does not drop them, except that a deploy drops exact duplicates. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from everindex.index.catalog.drift import is_as_declared
from everindex.index.catalog.generations import has_generation_name
from everindex.index.catalog.index_parts import index_names
from everindex.index.catalog.key import is_key
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.partial_names import is_partial_name
from everindex.index.plan.ddl import drop_statement
from everindex.index.spec import IndexSpec
from everindex.pg.reindex_leftovers import reindex_leftover
from everindex.units import size_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One other index."""

    name: str
    names: frozenset[str]
    """The names that a plan may show for it: its own, and those of its partitions."""

    method: str
    opclass: str
    size_bytes: int
    is_valid: bool
    competes: bool
    """True when it can serve the declared searches too: the planner chooses the one that it considers cheaper."""

    is_duplicate: bool
    """True when its definition is the declared one."""

    drop_text: str

    @property
    def sentence(self) -> str:
        of = f"index {self.name} ({self.method}, {self.opclass}, {size_text(self.size_bytes)}) on the same column"
        if not self.is_valid:
            return f"{of} is INVALID: no search uses it, but writes may maintain it"
        if self.is_duplicate:
            return f"{of} has the same definition under another name: every write maintains both"
        if self.competes:
            return f"{of} serves the same searches: the planner chooses the cheaper one, and every write maintains both"
        return f"{of} serves other searches: the declared ones never use it, but every write maintains it"

    @property
    def advice(self) -> str:
        return f"if no other statement needs it, drop it:  {self.drop_text}"

    def as_dict(self) -> dict[str, object]:
        return {
            "index": self.name,
            "method": self.method,
            "opclass": self.opclass,
            "size_bytes": self.size_bytes,
            "is_valid": self.is_valid,
            "competes": self.competes,
            "is_duplicate": self.is_duplicate,
            "sentence": self.sentence,
            "next": self.advice,
        }


def indexes_beside(spec: IndexSpec, observed: Observed) -> tuple[Beside, ...]:
    """The vector indexes on the declared column that are neither the declared one nor a generation of it, nor being built,
    sorted by name. Exact duplicates are included."""
    return tuple(
        _beside(spec, observed, index)
        for index in observed.indexes
        if index.name != spec.name
        and not has_generation_name(index.name, spec.name)
        and index.builder_pid is None
        and reindex_leftover(index.name) is None  # handled separately
        and not _go_together(spec, index)
        and _is_on_column(spec, observed, index)
    )


def _go_together(spec: IndexSpec, index: ObservedIndex) -> bool:
    """Whether one is a partial index that everindex declares beside the other: neither is for the searches of the other."""
    if is_partial_name(index.name) and index.predicate is not None:
        return True
    return is_partial_name(spec.name) and spec.predicate is not None and index.predicate is None


def _is_on_column(spec: IndexSpec, observed: Observed, index: ObservedIndex) -> bool:
    if is_key(spec, observed, column=index.column, expression=index.expression):
        return True
    if spec.column is None:
        return False
    if index.column is not None:
        return index.column == spec.column
    return re.search(rf"(?<![\w$]){re.escape(spec.column)}(?![\w$])", index.expression or "") is not None


def _beside(spec: IndexSpec, observed: Observed, index: ObservedIndex) -> Beside:
    # The opclasses of hnsw and ivfflat have the same names; an index on all rows can serve the searches of a partial one too.
    competes = (
        index.is_valid
        and index.opclass == spec.opclass
        and is_key(spec, observed, column=index.column, expression=index.expression)
        and (index.predicate is None or spec.predicate is not None)
    )
    return Beside(
        name=index.name,
        names=index_names(observed, index),
        method=index.method,
        opclass=index.opclass,
        size_bytes=index.size_bytes,
        is_valid=index.is_valid,
        competes=competes,
        is_duplicate=is_as_declared(spec, observed, index),
        drop_text=drop_statement(spec.schema, index.name, concurrently=not index.is_partitioned).as_string(None) + ";",
    )
