"""The observed state of a declared table: its column, its partitions and every vector index on it, as data.

`digest` and `state_digest` tell whether two observations are the same. The roles of the indexes are determined in
`catalog/roles.py`, the differences from the declaration in `catalog/drift.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedIndex:
    """The properties of one index of the catalog (`pg/index_catalog.py`) that a plan depends on, with pgvector's defaults filled
    in; the digest covers these fields."""

    oid: int
    name: str
    method: str
    opclass: str
    column: str | None
    """None for an expression index."""

    expression: str | None = None
    """As pg_get_expr prints it; None for a plain column."""

    predicate: str | None
    m: int
    ef_construction: int
    is_valid: bool
    is_ready: bool
    size_bytes: int
    definition: str
    builder_pid: int | None
    """The backend that is building it now, if any."""

    is_partitioned: bool = False
    """True for the index of a partitioned parent: it holds nothing itself, and is valid when all partitions are attached."""

    parent_oid: int | None = None
    """The index of the parent that this one is attached to."""

    comment: str | None = None
    filenode: int = 0
    """The file that holds it, which changes with every rebuild."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPartition:
    """A partition of the declared table, at any depth, with its vector indexes."""

    schema: str
    table: str
    parent: tuple[str, str]
    """(schema, table) of its parent."""

    is_partitioned: bool
    """True for a partition that has partitions itself."""

    is_foreign: bool
    is_empty: bool
    estimated_rows: int
    indexes: tuple[ObservedIndex, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One observation of the declared table and everything that concerns a vector index on it."""

    table_exists: bool
    table_is: str | None = None
    """What has the table's name without being a table ("a view")."""

    is_partitioned: bool = False
    is_empty: bool = False
    """True when the table's file has no pages, so that a plain CREATE INDEX takes no time."""

    column_type: str | None = None
    dimensions: int | None = None
    """Dimensions of the column or, with an expression, of the expression."""

    estimated_rows: int = 0
    table_bytes: int = 0
    indexes: tuple[ObservedIndex, ...] = ()
    """Every hnsw and ivfflat index of the table, and the one with the declared name, whatever its kind."""

    partitions: tuple[ObservedPartition, ...] = ()
    """Parents before their partitions; empty for an ordinary table."""

    name_taken_by: str | None = None
    """What has the declared name without being an index of this table ("table public.x")."""

    canonical_expression: str | None = None
    canonical_predicate: str | None = None
    """Expression and predicate of the declaration in the form that the catalog would print; None when it declares none, or
    when the server could not tell."""

    extension_schema: str | None = None
    extension_version: tuple[int, ...] | None = None
    is_superuser: bool = False
    """Whether the role may hide an index from the planner."""

    @property
    def digest(self) -> str:
        """12 hex digits of everything here that a plan depends on, which excludes sizes and row counts."""
        return _digest_of(self, _steady)

    @property
    def state_digest(self) -> str:
        """The same for everything here that a proof depends on: a rebuilt index must be proven again."""
        return _digest_of(self, _same_file)


def _digest_of(observed: Observed, of_index: Callable[[ObservedIndex], ObservedIndex]) -> str:
    steady = replace(
        observed,
        estimated_rows=0,
        table_bytes=0,
        indexes=tuple(map(of_index, observed.indexes)),
        partitions=tuple(
            replace(part, estimated_rows=0, indexes=tuple(map(of_index, part.indexes))) for part in observed.partitions
        ),
    )
    return hashlib.sha256(repr(steady).encode()).hexdigest()[:12]


def _steady(index: ObservedIndex) -> ObservedIndex:
    return replace(index, size_bytes=0, filenode=0)


def _same_file(index: ObservedIndex) -> ObservedIndex:
    return replace(index, size_bytes=0)
