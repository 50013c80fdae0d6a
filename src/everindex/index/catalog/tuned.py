"""What did tuning choose? A definition and an ef_search that take the place of what the code declares, in this database.

Kept in everindex_meta.tuned and honoured wherever a declaration is read (`effective_spec`): by plan, deploy, verify, keeper,
migrations and searches, so that none of them undoes it. Where the schema is missing or may not be read, what the code
declares holds. A generation that was rolled back, or did not prove itself, is told by the catalog: then, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from everindex.index.catalog.adopted import adopted_here
from everindex.index.catalog.drift import is_rejected
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.catalog.observed import ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.spec import (
    CANDIDATES_PER_NEIGHBOUR,
    DEFAULT_EF_SEARCH,
    DEFAULT_K,
    MAX_EF_SEARCH,
    OPCLASSES,
    IndexSpec,
)
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedPoint:
    """What a search for k neighbours has to set to hold the recall that was asked for."""

    k: int
    ef_search: int
    candidates: int | None = None
    """How many are re-ranked, where the index holds codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """One applied tuning of one declared index."""

    opclass: str
    m: int
    ef_construction: int
    recall_floor: float
    points: tuple[TunedPoint, ...]
    """At least one; by k, smallest first."""

    declared_digest: str
    """`definition_digest` of the declaration that it stands in for; another declaration is not replaced by it."""

    tuned_at: datetime | None = None

    @property
    def key_type(self) -> str:
        """vector, halfvec or bit."""
        return OPCLASSES[self.opclass][0]

    def is_of(self, index: ObservedIndex) -> bool:
        """True when `index` is built as this was tuned."""
        return (index.opclass, index.m, index.ef_construction) == (self.opclass, self.m, self.ef_construction)

    def as_declared(self, spec: IndexSpec) -> IndexSpec:
        """`spec` with what was tuned in place of what was declared.

        Who tunes for less than the declared recall has chosen less: proofs and the keeper ask for no more then.
        """
        return replace(
            spec,
            opclass=self.opclass,
            m=self.m,
            ef_construction=self.ef_construction,
            ef_search=ef_search_for(DEFAULT_K, self),
            candidates=candidates_for(DEFAULT_K, self.key_type, self) if self.key_type != "vector" else None,
            recall_floor=min(spec.recall_floor, self.recall_floor),
        )


# --- what a search sets ----------------------------------------------------------------------------------------------


def ef_search_for(k: int, tuned: Tuned | None) -> int:
    """hnsw.ef_search of a search for k neighbours: by the tuned curve, else twice k and pgvector's default at least.

    Between two tuned k it is interpolated, beyond the last it grows in proportion; 1 to 1000. Pure.
    """
    if tuned is None:
        return min(max(DEFAULT_EF_SEARCH, 2 * k), MAX_EF_SEARCH)
    chosen = _at(k, [(point.k, point.ef_search) for point in tuned.points])
    return min(max(k, chosen), MAX_EF_SEARCH)


def candidates_for(k: int, key_type: str, tuned: Tuned | None) -> int:
    """How many candidates an index of that type gives for re-ranking k neighbours: k for vector. Pure."""
    known = [] if tuned is None else [(p.k, p.candidates) for p in tuned.points if p.candidates is not None]
    chosen = _at(k, known) if known else k * CANDIDATES_PER_NEIGHBOUR[key_type]
    return max(k, min(chosen, MAX_EF_SEARCH))


def _at(k: int, points: list[tuple[int, int]]) -> int:
    """The value at k of a line through the points: level before the first, through the origin after the last."""
    before = [point for point in points if point[0] <= k]
    after = [point for point in points if point[0] > k]
    if not before:
        return points[0][1]
    (low_k, low) = before[-1]
    if not after:
        return -(-low * k // low_k)
    (high_k, high) = after[0]
    return low + -(-(high - low) * (k - low_k) // (high_k - low_k))


# --- what is kept ----------------------------------------------------------------------------------------------------


def effective_spec(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` as it holds in this database: in the schema where its bare table name leads, under the name of the index of
    others that stands for it, and as it was tuned. Reads only."""
    return as_tuned(connection, adopted_here(connection, in_search_path(connection, spec)))


def as_tuned(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` with what was tuned in its place, where that holds. Reads only."""
    tuned = stored(connection, spec)
    if tuned is None or tuned.declared_digest != spec.definition_digest:
        return spec
    wanted = tuned.as_declared(spec)
    observed = observe(connection, wanted)
    serving = declared_index(wanted, observed)
    return spec if serving is not None and is_rejected(wanted, observed, serving) else wanted


def read_tuned(connection: Connection, spec: IndexSpec, generation: ObservedIndex) -> Tuned | None:
    """The tuning that `generation`, the index that serves, was built by; None where it was not tuned. Reads only."""
    tuned = stored(connection, spec)
    return tuned if tuned is not None and tuned.is_of(generation) else None


def stored(connection: Connection, spec: IndexSpec) -> Tuned | None:
    """What is kept for the index of that name; None for nothing, and where it may not be read. Reads only."""
    with translate_errors("reading what was tuned"):
        if not own_schema.is_readable(connection, "tuned"):
            return None
        row = connection.execute(
            "SELECT declared_digest, opclass, m, ef_construction, recall_floor, points, tuned_at FROM everindex_meta.tuned "
            "WHERE index_schema = %s AND index_name = %s",
            (spec.schema, spec.name),
        ).fetchone()
    if row is None:
        return None
    return Tuned(
        declared_digest=row[0],
        opclass=row[1],
        m=row[2],
        ef_construction=row[3],
        recall_floor=row[4],
        points=tuple(TunedPoint(**point) for point in row[5]),
        tuned_at=row[6],
    )


def store(connection: Connection, spec: IndexSpec, tuned: Tuned) -> None:
    """Keeps it for the index of that name, in place of what was kept. Raises PermissionDenied, StatementFailed."""
    points = [{"k": p.k, "ef_search": p.ef_search, "candidates": p.candidates} for p in tuned.points]
    with translate_errors("keeping what was tuned"):
        connection.execute(
            """
            INSERT INTO everindex_meta.tuned
                (index_schema, index_name, index_table, declared_digest, opclass, m, ef_construction, recall_floor, points)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (index_schema, index_name) DO UPDATE SET
                index_table = excluded.index_table, declared_digest = excluded.declared_digest, opclass = excluded.opclass,
                m = excluded.m, ef_construction = excluded.ef_construction, recall_floor = excluded.recall_floor,
                points = excluded.points, tuned_at = pg_catalog.clock_timestamp()
            """,
            (
                *(spec.schema, spec.name, spec.table, tuned.declared_digest),
                *(tuned.opclass, tuned.m, tuned.ef_construction, tuned.recall_floor, Jsonb(points)),
            ),
        )


def delete_tuned(connection: Connection, spec: IndexSpec) -> bool:
    """Deletes what was kept for the index of that name; False when there was nothing. Raises PermissionDenied."""
    with translate_errors("deleting what was tuned"):
        try:
            done = connection.execute(
                "DELETE FROM everindex_meta.tuned WHERE index_schema = %s AND index_name = %s", (spec.schema, spec.name)
            )
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return False
    return done.rowcount > 0
