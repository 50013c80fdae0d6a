"""The sample of query vectors that recall is measured with: recorded searches, else stored rows.

everindex_meta.query_sample stores vectors only: no text, no time, no user, in an order that reveals nothing. If the schema
is missing or may not be written, nothing is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import HalfVector, Vector

from everindex.index.catalog.observed import Observed
from everindex.index.recall.measurement import sample_queries
from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: The names of the two sources that this layer knows; callers pass the names of others.
STORED_ROWS = "stored rows"
SAMPLED_SEARCHES = "sampled searches"
#: With fewer queries than this, the interval is too wide for a decision: stored rows are used instead.
LEAST_QUERIES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """The query vectors of a measurement, and their source."""

    vectors: tuple[Any, ...]
    are_stored: bool
    """True for the vectors of stored rows; False for those of searches."""

    source: str = STORED_ROWS
    """The source, in the words that proofs and history use."""

    @property
    def words(self) -> str:
        return f"{len(self.vectors)} {self.source}{', each excluded from its own result' if self.are_stored else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQueries:
    """Queries of real searches, in addition to stored rows: recall must hold for each source."""

    queries: tuple[Queries, ...] = ()
    not_tried: tuple[str, ...] = ()
    """The sources that were not available, and why, one phrase each."""


NO_SEARCH_QUERIES = SearchQueries()


def choose_queries(connection: Connection, spec: IndexSpec, observed: Observed, *, wanted: int) -> Queries:
    """Up to `wanted` query vectors for the index of `spec`; those of searches if LEAST_QUERIES are stored. Reads only."""
    sampled = kept_queries(connection, spec, dimensions=observed.dimensions or 0, limit=wanted)
    if len(sampled) >= min(wanted, LEAST_QUERIES):
        return as_queries(sampled, observed, source=SAMPLED_SEARCHES)
    return stored_queries(connection, spec, observed, wanted=wanted)


def as_queries(vectors: Iterable[Sequence[float]], observed: Observed, *, source: str) -> Queries:
    """Vectors from elsewhere as queries of the observed column."""
    kind = HalfVector if observed.column_type == "halfvec" else Vector
    return Queries(vectors=tuple(kind(list(vector)) for vector in vectors), are_stored=False, source=source)


def stored_queries(connection: Connection, spec: IndexSpec, observed: Observed, *, wanted: int) -> Queries:
    """The vectors of up to `wanted` rows. Reads only."""
    return Queries(vectors=tuple(sample_queries(connection, spec, observed, samples=wanted)), are_stored=True)


def kept_queries(
    connection: Connection, spec: IndexSpec, *, dimensions: int, limit: int, models: Sequence[str] | None = None
) -> list[list[float]]:
    """Up to `limit` stored query vectors with those dimensions, made by one of `models` if given; empty if there are none.
    Reads only."""
    if spec.column is None or not own_schema.is_readable(connection, "query_sample"):
        return []
    rows = connection.execute(
        "SELECT vector FROM everindex_meta.query_sample WHERE index_schema = %s AND index_name = %s "
        "AND pg_catalog.cardinality(vector) = %s AND (%s::text[] IS NULL OR model = ANY(%s::text[])) "
        "ORDER BY pg_catalog.md5(id::text) LIMIT %s",
        (spec.schema, spec.name, dimensions, models, models, limit),
        binary=True,
    ).fetchall()
    return [row[0] for row in rows]


def keep_queries(
    connection: Connection, spec: IndexSpec, vectors: Sequence[Sequence[float]], *, model: str, budget: int
) -> None:
    """Adds query vectors made by `model`, deletes random ones beyond `budget` and all those of other models.

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
        log.debug("query vectors not stored: %s", type(exc).__name__, extra={"event": "query-sample-not-stored"})
