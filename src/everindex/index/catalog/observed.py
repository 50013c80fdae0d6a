"""What was observed of a declared table: its column, its partitions and every vector index on it, as data.

`digest` and `state_digest` say whether two looks saw the same. It does not say what plays which part (`catalog/roles.py`) or what
differs from the declaration (`catalog/drift.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedIndex:
    """What a plan depends on of one index of the catalog (`pg/index_catalog.py`), pgvector's defaults filled in: the digest
    is made of these fields."""

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
    """The backend that is building it now, where one is."""

    is_partitioned: bool = False
    """The index of a partitioned parent: it holds nothing itself, and is valid when all partitions are attached."""

    parent_oid: int | None = None
    """The index of the parent that this one is attached to."""

    comment: str | None = None
    filenode: int = 0
    """The file that holds it: another one after every rebuild."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPartition:
    """A partition of the declared table, at whatever depth, with its vector indexes."""

    schema: str
    table: str
    parent: tuple[str, str]
    """(schema, table) of what it is a partition of."""

    is_partitioned: bool
    """True for one that has partitions itself."""

    is_foreign: bool
    is_empty: bool
    estimated_rows: int
    indexes: tuple[ObservedIndex, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The declared table with all that concerns a vector index on it, in one look."""

    table_exists: bool
    table_is: str | None = None
    """What bears the table's name without being a table ("a view")."""

    is_partitioned: bool = False
    is_empty: bool = False
    """True when the table's file has no page: a plain CREATE INDEX is done at once."""

    column_type: str | None = None
    dimensions: int | None = None
    """Width of the column; with an expression, that of the expression."""

    estimated_rows: int = 0
    table_bytes: int = 0
    indexes: tuple[ObservedIndex, ...] = ()
    """Every hnsw and ivfflat index of the table, and the one of the declared name whatever it is."""

    partitions: tuple[ObservedPartition, ...] = ()
    """Parents before their partitions; empty for an ordinary table."""

    name_taken_by: str | None = None
    """What bears the declared name without being an index of this table ("table public.x")."""

    canonical_expression: str | None = None
    canonical_predicate: str | None = None
    """Expression and predicate of the declaration as the catalog would print them; None where it declares none, or where
    the server could not be asked."""

    extension_schema: str | None = None
    extension_version: tuple[int, ...] | None = None
    is_superuser: bool = False
    """Whether the role may hide an index from the planner."""

    @property
    def digest(self) -> str:
        """12 hex digits of everything here that a plan depends on; sizes and row counts are not in it."""
        return _digest_of(self, _steady)

    @property
    def state_digest(self) -> str:
        """The same, of everything here that a proof depends on: an index that was rebuilt has to be proven anew."""
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
