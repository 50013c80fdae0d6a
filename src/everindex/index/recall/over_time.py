"""Recall over time, as the keeper measured it: the samples of all generations of an index, put together in spans of time.

Reads past measurements; measures nothing. Empty without the schema everindex_meta.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from everindex.index.recall.measurement import wilson
from everindex.index.spec import NamedIndex
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Spans of time that a history is divided into.
SPANS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSpan:
    """The samples of one source of queries in one span of time."""

    at: dt.datetime
    """The latest sample."""

    source: str
    generations: int
    """How many built graphs were measured in it: more than one after a rebuild."""

    queries: int
    recall: float
    low: float
    high: float
    """The 95 % interval (Wilson)."""

    exact_ms: float
    approximate_ms: float
    """Mean of the medians of its samples."""


def recall_over_time(connection: Connection, spec: NamedIndex) -> list[RecallSpan]:
    """At most SPANS spans for each source, oldest first. Reads only."""
    if not own_schema.is_readable(connection, "recall_history", column="source"):
        return []
    with translate_errors("reading the history of recall"):
        rows = connection.execute(
            """
            WITH samples AS (
                SELECT *, min(at) OVER () AS first, max(at) OVER () AS last FROM everindex_meta.recall_history
                WHERE index_schema = %(schema)s AND index_name = %(name)s)
            SELECT max(at), source, count(DISTINCT generation), sum(queries)::int8, sum(found)::int8, sum(wanted)::int8,
                   avg(exact_ms), avg(approximate_ms)
            FROM samples
            GROUP BY source, least(%(spans)s - 1, floor(%(spans)s * extract(epoch FROM at - first)
                     / greatest(extract(epoch FROM last - first), 1)))
            HAVING sum(wanted) > 0 ORDER BY 1, 2
            """,
            {"schema": spec.schema, "name": spec.name, "spans": SPANS},
        ).fetchall()
    found = []
    for at, source, generations, queries, hits, wanted, exact_ms, approximate_ms in rows:
        low, high = wilson(hits, wanted)
        found.append(
            RecallSpan(
                at=at, source=source, generations=generations, queries=queries, recall=hits / wanted, low=low, high=high,
                exact_ms=exact_ms, approximate_ms=approximate_ms,
            )
        )  # fmt: skip
    return found
