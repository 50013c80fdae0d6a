"""The effective declaration in one database: with its schema there, the name of an adopted index, and the result of tuning.

The result of tuning is stored in everindex_meta.tuned and applied wherever a declaration is read: by plan, deploy, verify,
keeper, migrations and searches, so that none of them reverts it. If the schema is missing or may not be read, the code's
declaration is used; so it is if the catalog says that the tuned generation was rolled back or failed its acceptance test.
"""

from __future__ import annotations

import psycopg
from psycopg.types.json import Jsonb

from everindex.index.catalog.adopted import adopted_here
from everindex.index.catalog.drift import is_rejected
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.catalog.observed import ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.catalog.tuned import Tuned, TunedPoint
from everindex.index.spec import (
    IndexSpec,
)
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


def effective_spec(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` as it applies to this database: with the schema that its unqualified table name resolves to, the name of the
    adopted index that stands for it, and the result of tuning. Reads only."""
    return as_tuned(connection, adopted_here(connection, in_search_path(connection, spec)))


def as_tuned(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` with the result of tuning, if that applies. Reads only."""
    tuned = stored(connection, spec)
    if tuned is None or tuned.declared_digest != spec.definition_digest:
        return spec
    wanted = tuned.as_declared(spec)
    observed = observe(connection, wanted)
    serving = declared_index(wanted, observed)
    return spec if serving is not None and is_rejected(wanted, observed, serving) else wanted


def read_tuned(connection: Connection, spec: IndexSpec, generation: ObservedIndex) -> Tuned | None:
    """The tuning that `generation`, the serving index, was built with; None if it was not tuned. Reads only."""
    tuned = stored(connection, spec)
    return tuned if tuned is not None and tuned.is_of(generation) else None


def stored(connection: Connection, spec: IndexSpec) -> Tuned | None:
    """The tuning stored for the index of that name; None if there is none or it may not be read. Reads only."""
    with translate_errors("reading the result of tuning"):
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
    """Stores it for the index of that name, replacing the previous one. Raises PermissionDenied, StatementFailed."""
    points = [{"k": p.k, "ef_search": p.ef_search, "candidates": p.candidates} for p in tuned.points]
    with translate_errors("storing the result of tuning"):
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
    """Deletes the tuning stored for the index of that name; False when there was none. Raises PermissionDenied."""
    with translate_errors("deleting the result of tuning"):
        try:
            done = connection.execute(
                "DELETE FROM everindex_meta.tuned WHERE index_schema = %s AND index_name = %s", (spec.schema, spec.name)
            )
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return False
    return done.rowcount > 0
