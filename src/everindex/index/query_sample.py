"""With which queries is an index measured? With a sample of those that were really asked, else with stored rows.

everindex_meta.query_sample keeps vectors only: no text, no time, no user, in an order that says nothing. Where the schema
is missing or may not be written, nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import HalfVector, Vector

from everindex.index.catalog import Observed
from everindex.index.recall import sample_queries
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: With fewer than these, an interval is too wide to decide by: stored rows are taken instead.
LEAST_QUERIES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """The query vectors of a measurement, and where they are from."""

    vectors: tuple[Any, ...]
    are_stored: bool
    """True for the vectors of stored rows; False for those of searches."""

    @property
    def words(self) -> str:
        kind = "stored rows, each left out of its own answer" if self.are_stored else "sampled searches"
        return f"{len(self.vectors)} {kind}"


def choose_queries(connection: Connection, spec: IndexSpec, observed: Observed, *, wanted: int) -> Queries:
    """Up to `wanted` query vectors for the index of `spec`; those of searches where LEAST_QUERIES are kept. Reads only."""
    asked = kept_queries(connection, spec, dimensions=observed.dimensions or 0, limit=wanted)
    if len(asked) >= min(wanted, LEAST_QUERIES):
        kind = HalfVector if observed.column_type == "halfvec" else Vector
        return Queries(vectors=tuple(kind(vector) for vector in asked), are_stored=False)
    return stored_queries(connection, spec, observed, wanted=wanted)


def stored_queries(connection: Connection, spec: IndexSpec, observed: Observed, *, wanted: int) -> Queries:
    """The vectors of up to `wanted` rows. Reads only."""
    return Queries(vectors=tuple(sample_queries(connection, spec, observed, samples=wanted)), are_stored=True)


def kept_queries(connection: Connection, spec: IndexSpec, *, dimensions: int, limit: int) -> list[list[float]]:
    """Up to `limit` kept query vectors of that width; none where nothing is kept. Reads only."""
    if spec.column is None:
        return []
    try:
        rows = connection.execute(
            "SELECT vector FROM everindex_meta.query_sample WHERE index_schema = %s AND index_name = %s "
            "AND pg_catalog.cardinality(vector) = %s ORDER BY pg_catalog.md5(id::text) LIMIT %s",
            (spec.schema, spec.name, dimensions, limit),
            binary=True,
        ).fetchall()
    except psycopg.Error:
        return []
    return [row[0] for row in rows]


def keep_queries(
    connection: Connection, spec: IndexSpec, vectors: Sequence[Sequence[float]], *, model: str, budget: int
) -> None:
    """Adds query vectors made by `model`, and drops others at random beyond `budget`; those of other models go.

    The connection must be in autocommit mode.
    """
    name = {"schema": spec.schema, "name": spec.name}
    try:
        with connection.transaction():
            for vector in vectors:
                connection.execute(
                    "INSERT INTO everindex_meta.query_sample (index_schema, index_name, model, vector) "
                    "VALUES (%(schema)s, %(name)s, %(model)s, %(vector)s::real[])",
                    {**name, "model": model, "vector": list(vector)},
                )
            connection.execute(
                """
                DELETE FROM everindex_meta.query_sample WHERE index_schema = %(schema)s AND index_name = %(name)s AND (
                    model <> %(model)s OR id NOT IN (
                        SELECT id FROM everindex_meta.query_sample
                        WHERE index_schema = %(schema)s AND index_name = %(name)s AND model = %(model)s
                        ORDER BY random() LIMIT %(budget)s))
                """,
                {**name, "model": model, "budget": budget},
            )
    except psycopg.Error as exc:
        log.debug("query vectors not kept: %s", type(exc).__name__)
