"""The recall history of built graphs: small samples in everindex_meta.recall_history.

If the schema is missing or may not be written, nothing is stored, and everything else works the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psycopg

from everindex.index.catalog.observed import ObservedIndex
from everindex.index.recall.query_sample import STORED_ROWS
from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger(__name__)

#: Number of samples stored per index: at one a minute they cover days, or weeks if a sample is more expensive.
KEPT_SAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSample:
    """One measurement: a few queries, and how many of their true neighbours the index found."""

    k: int
    queries: int
    found: int
    wanted: int
    exact_ms: float
    """Median time of one exact scan."""

    approximate_ms: float
    source: str = STORED_ROWS
    """The source of the queries: stored rows, or a kind of real searches."""


def graph_of(connection: Connection, found: ObservedIndex) -> str:
    """Identifies this graph: the text changes with every rebuild, whether by REINDEX, VACUUM FULL or a swap.

    It consists of the file numbers of the index, or of its partitions. Reads only.
    """
    with translate_errors("reading the catalog"):
        row = connection.execute(
            """
            SELECT coalesce(
                (SELECT md5(string_agg(pg_catalog.pg_relation_filenode(t.relid)::text, ',' ORDER BY t.relid))
                 FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass) t WHERE t.isleaf),
                pg_catalog.pg_relation_filenode(%(oid)s::oid::regclass)::text, '')
            """,
            {"oid": found.oid},
        ).fetchone()
    return "" if row is None else str(row[0])


def remember(connection: Connection, spec: IndexSpec, graph: str, sample: RecallSample) -> None:
    """Stores one sample, if possible, and deletes the oldest beyond KEPT_SAMPLES. The connection must be in autocommit mode."""
    try:
        connection.execute(
            """
            INSERT INTO everindex_meta.recall_history
                (index_schema, index_table, index_name, generation, k, queries, found, wanted, exact_ms, approximate_ms,
                 source)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                *(spec.schema, spec.table, spec.name, graph),
                *(sample.k, sample.queries, sample.found, sample.wanted, sample.exact_ms, sample.approximate_ms),
                sample.source,
            ),
        )
        connection.execute(
            """
            DELETE FROM everindex_meta.recall_history WHERE index_schema = %(schema)s AND index_name = %(name)s AND id < (
                SELECT min(id) FROM (SELECT id FROM everindex_meta.recall_history
                                     WHERE index_schema = %(schema)s AND index_name = %(name)s
                                     ORDER BY id DESC LIMIT %(kept)s) AS latest)
            """,
            {"schema": spec.schema, "name": spec.name, "kept": KEPT_SAMPLES},
        )
    except psycopg.Error as exc:
        log.debug("recall sample not stored: %s", type(exc).__name__, extra={"event": "recall-not-stored"})


def samples_of(connection: Connection, spec: IndexSpec, graph: str) -> list[RecallSample]:
    """All stored samples of one graph, oldest first; empty if there is no history. Reads only."""
    # The schema of an earlier release has no sources until the next migration.
    if not own_schema.is_readable(connection, "recall_history", column="source"):
        return []
    rows = connection.execute(
        """
        SELECT k, queries, found, wanted, exact_ms, approximate_ms, source FROM everindex_meta.recall_history
        WHERE index_schema = %s AND index_name = %s AND generation = %s ORDER BY id
        """,
        (spec.schema, spec.name, graph),
    ).fetchall()
    return [
        RecallSample(
            k=row[0], queries=row[1], found=row[2], wanted=row[3], exact_ms=row[4], approximate_ms=row[5], source=row[6]
        )
        for row in rows
    ]
