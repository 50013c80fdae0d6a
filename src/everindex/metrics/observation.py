"""One bounded observation of a database for metrics: its indexes, builds and keeper; apart from them counts and findings.

Guarantees that no statement runs longer than STATEMENT_MS and that an observation ends soon after MOST_SECONDS; what was left
out is counted. Measures nothing and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from everindex.articles.collections.registry import all_collections, declared_indexes
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import read_table
from everindex.articles.vector_counts import count_failures, count_rows, count_unrecorded
from everindex.doctor.examine import examine
from everindex.errors import EverindexError
from everindex.index.activity.running_builds import RunningBuild, running_builds
from everindex.index.build.serving_state import IndexState, index_state
from everindex.index.catalog.drift import differences
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.index_parts import index_parts, size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index, serving_spec
from everindex.index.recall.current import RecallNow, recall_now
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import Connection
from everindex.pg.locks import holder_of
from everindex.pg.pooler import limit, limited
from everindex.pg.sqlstate import translate_errors

STATEMENT_MS = 2000
MOST_SECONDS = 10.0
#: Every index is a dozen time series: a database with a thousand tenants must not become ten thousand of them.
MOST_INDEXES = 100
MOST_COLLECTIONS = 50
#: Rules of the doctor run with a shorter limit than on the command line, since they run unattended.
RULE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMetrics:
    """One declared index."""

    schema: str
    table: str
    name: str
    state: IndexState
    differs: bool
    """Valid, and with another definition than declared."""

    size_bytes: int
    """0 where it does not exist."""

    table_bytes: int
    estimated_rows: int
    scans: int
    entries_read: int
    recall: RecallNow


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseMetrics:
    """What one observation found."""

    server_version: str
    pgvector_version: str
    indexes: tuple[IndexMetrics, ...]
    not_shown: int
    """Declared indexes that were left out, or could not be read."""

    builds: tuple[RunningBuild, ...]
    keeper: str | None
    """The session that leads, as `holder_of` describes it; None where no keeper runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionCounts:
    """The vectors of one collection; None where counting took too long."""

    collection: str
    rows: int | None
    without_vector: int | None
    unrecorded: int | None
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorCounts:
    """The findings of the doctor's rules."""

    findings: tuple[tuple[str, str], ...]
    """(severity, rule) of each rule that found something, once."""

    unknown: int
    """Rules that could not be checked."""


def observe_database(
    connection: Connection, *, recall_floor: float, declared: Sequence[IndexSpec] | None = None
) -> DatabaseMetrics:
    """Reads the state of the declared indexes, by default all that the database declares. Reads only; takes
    ACCESS SHARE on catalogs. Raises what reading them raises."""
    ends = time.monotonic() + MOST_SECONDS
    with _limited(connection):
        server = look(connection)
        declared = declared_indexes(connection) if declared is None else declared
        found: list[IndexMetrics] = []
        for spec in declared[:MOST_INDEXES]:
            if time.monotonic() > ends:
                break
            try:
                with connection.transaction():  # where the whole is one, a failing statement must not end it
                    whole = effective_spec(connection, replace(spec, recall_floor=recall_floor))
                    found.append(_of_index(connection, whole))
            except (psycopg.errors.QueryCanceled, EverindexError):
                if connection.closed:
                    raise
        return DatabaseMetrics(
            server_version=server.server_version,
            pgvector_version=version_text(server.extension_version),
            indexes=tuple(found),
            not_shown=len(declared) - len(found),
            builds=tuple(running_builds(connection)),
            keeper=holder_of(connection, "keeper"),
        )


def count_collections(connection: Connection) -> tuple[CollectionCounts, ...]:
    """Counts the rows without a vector, the vectors without a record and the failures of each collection. Reads tables, each for
    at most twice `vector_counts.COUNT_TIMEOUT_MS`; one that cannot be read is left out."""
    ends = time.monotonic() + MOST_SECONDS
    counted = []
    with _limited(connection):
        for collection in all_collections(connection)[:MOST_COLLECTIONS]:
            if time.monotonic() > ends:
                break
            try:
                with connection.transaction():
                    counted.append(_of_collection(connection, collection))
            except (psycopg.errors.QueryCanceled, EverindexError):
                if connection.closed:
                    raise
    return tuple(counted)


def count_findings(
    connection: Connection, *, recall_floor: float, declared: Sequence[IndexSpec] | None = None
) -> DoctorCounts:
    """Runs the doctor's rules, without those that need a model. Reads only."""
    specs = tuple(
        effective_spec(connection, replace(spec, recall_floor=recall_floor))
        for spec in (declared_indexes(connection) if declared is None else declared)[:MOST_INDEXES]
    )
    report = examine(connection, specs, max_seconds=RULE_SECONDS)
    return DoctorCounts(
        findings=tuple(sorted({(rule.severity, rule.slug) for rule, _ in report.findings})),
        unknown=len({rule.slug for rule, answer in report.answers if answer.status == "unknown"}),
    )


@contextmanager
def _limited(connection: Connection) -> Iterator[None]:
    """Statements within STATEMENT_MS, also behind a pooler."""
    limit(connection, {"statement_timeout": STATEMENT_MS})
    with limited(connection), translate_errors("reading metrics"):
        yield


def _of_index(connection: Connection, spec: IndexSpec) -> IndexMetrics:
    observed = observe(connection, spec)
    state, _ = index_state(connection, spec, observed)
    serving = serving_spec(spec, observed)
    shown = serving[1] if serving is not None else declared_index(spec, observed)
    scans, read = (0, 0) if shown is None else _counters(connection, observed, shown)
    return IndexMetrics(
        schema=spec.schema,
        table=spec.table,
        name=spec.name,
        state=state,
        differs=serving is not None and bool(differences(spec, observed, serving[1])),
        size_bytes=0 if shown is None else size_of(observed, shown),
        table_bytes=observed.table_bytes,
        estimated_rows=observed.estimated_rows,
        scans=scans,
        entries_read=read,
        recall=recall_now(connection, spec, observed),
    )


def _of_collection(connection: Connection, collection: CollectionSpec) -> CollectionCounts:
    table = read_table(connection, collection)
    rows = count_rows(connection, table, estimate=0)
    return CollectionCounts(
        collection=collection.name,
        rows=None if rows.is_estimate else rows.total,
        without_vector=rows.without_vector,
        unrecorded=0 if table.dimensions is None else count_unrecorded(connection, table),
        failures=count_failures(connection, table),
    )


def _counters(connection: Connection, observed: Observed, index: ObservedIndex) -> tuple[int, int]:
    """Scans and entries read since the statistics were reset, of the index and its partitions."""
    row = connection.execute(
        sql.SQL(
            "SELECT coalesce(sum(idx_scan), 0)::int8, coalesce(sum(idx_tup_read), 0)::int8 "
            "FROM pg_catalog.pg_stat_user_indexes WHERE indexrelid = ANY(%s::oid[])"
        ),
        ([part.oid for part in index_parts(observed, index)],),
    ).fetchone()
    return (0, 0) if row is None else (row[0], row[1])
