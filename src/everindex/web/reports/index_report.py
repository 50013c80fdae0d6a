"""The report on the index for the page `/index`: everything except the checks, read once at limited cost."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Any

from pgvector import Vector
from psycopg import sql

from everindex.articles.instance import Instance
from everindex.articles.search.diagnostics.explain import without_vectors
from everindex.articles.search.filters import NO_FILTERS
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import Serving, choose
from everindex.articles.searchable import Searchable
from everindex.articles.table import CollectionTable
from everindex.articles.vector_counts import Failure, Rows, count_rows, count_unrecorded, read_failures
from everindex.articles.verification import state_of
from everindex.errors import EverindexError
from everindex.index.activity.running_builds import RunningBuild, running_builds
from everindex.index.build.serving_state import IndexState, index_state
from everindex.index.catalog.drift import differences
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.generations import next_name, previous_name, read_note
from everindex.index.catalog.index_parts import size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.partial_names import is_partial_name
from everindex.index.catalog.roles import is_hidden
from everindex.index.deploy.local_policy import policy_here
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL
from everindex.index.recall.current import RecallNow, recall_now
from everindex.index.recall.explain import explain, explain_text
from everindex.index.spec import IndexSpec
from everindex.message_text import with_backticks
from everindex.pg.capabilities import SAFE_PGVECTOR, look, version_text
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.web.reports.curves import Curves, read_curves

#: pg_stat_user_indexes has the time of the last scan since PostgreSQL 16.
LAST_SCAN_VERSION = 160000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUse:
    """One vector index of the table, with its counters since the statistics were last reset."""

    index: ObservedIndex
    drift: list[str]
    """Differences from the declaration; also empty for an index with another purpose."""

    role: str
    """`declared`, `partial`, `next generation`, `previous generation, kept until …`, or empty for an index with another
    purpose."""

    is_hidden: bool
    """Complete, and hidden from the planner on purpose: not the result of an interrupted build."""

    size_bytes: int
    """Including its partitions, where the table is partitioned."""

    scans: int
    tuples_read: int
    tuples_fetched: int
    last_scan: dt.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """The contents of the page /index and of GET /api/index, except the checks."""

    state: IndexState
    declared: IndexSpec
    vector_type: str
    dimensions: int | None
    uses: list[IndexUse]
    rows: Rows
    table_bytes: int
    indexes_bytes: int
    models: dict[str, int]
    """Model → number of vectors recorded as made by it."""

    unrecorded: int | None
    """The number of non-zero vectors without a record; None where counting takes too long."""

    declared_model: str | None
    """The model declared for the unrecorded vectors."""

    is_model_unknown: bool
    """Unrecorded vectors exist, and no model is declared for them."""

    failures: list[Failure]
    builds: list[RunningBuild]
    steps: list[str]
    """The steps of a deploy now, a sentence each; empty when the index is as declared."""

    remarks: list[str]
    plan_words: str
    plan_text: list[str]
    plan_settings: tuple[tuple[str, str], ...]
    recall: RecallNow
    curves: Curves | None
    """Recall against latency at the last measurement."""

    server_version: str
    pgvector_version: str
    warnings: list[str] = field(default_factory=list)
    read_at: dt.datetime
    catalog: str
    """The state of declaration and catalog that the report describes."""

    @property
    def age_seconds(self) -> float:
        return (dt.datetime.now(dt.UTC) - self.read_at).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        known = dataclasses.asdict(replace(self, curves=None))
        del known["declared"]["is_located"]
        known["curves"] = None if self.curves is None else self.curves.as_dict()
        known["rows"]["without_vector"] = self.rows.without_vector
        for name in ("steps", "remarks", "warnings"):
            known[name] = [with_backticks(text) for text in known[name]]
        known["age_seconds"] = round(self.age_seconds, 1)
        known["plan_settings"] = dict(self.plan_settings)
        return known


def read_index_report(instance: Instance, searched: Searchable | None = None) -> IndexReport:
    """The report on the articles' index, or on that of another collection of the instance. Reads only; takes ACCESS SHARE.
    Counts rows for at most COUNT_TIMEOUT_MS. Raises NotMigrated, of a collection TableNotFound, without a table."""
    searched = searched or instance
    table, serving = searched.engine.known()
    models = searched.query_embedder.table_models()
    with instance.connection() as connection:
        server = look(connection)
        spec = effective_spec(connection, replace(table.index, recall_floor=instance.settings.recall_floor))
        observed = observe(connection, spec)
        catalog = state_of(connection, spec, observed)
        state, _ = index_state(connection, spec, observed)
        words, text, settings = _plan(searched, connection, table, serving)
        steps, remarks = _to_do(connection, spec, observed)
        with translate_errors("reading the index's statistics"):
            sizes = connection.execute(
                "SELECT pg_catalog.pg_table_size(%(name)s::regclass), pg_catalog.pg_indexes_size(%(name)s::regclass)",
                {"name": table.identifier.as_string(connection)},
            ).fetchone()
            assert sizes is not None
            return IndexReport(
                state=state, declared=spec, vector_type=table.vector_type, dimensions=table.dimensions,
                uses=_uses(connection, spec, observed, server.server_version_num),
                rows=count_rows(connection, table, estimate=observed.estimated_rows),
                table_bytes=sizes[0], indexes_bytes=sizes[1], models=dict(models.recorded),
                unrecorded=count_unrecorded(connection, table) if models.has_unrecorded else 0,
                declared_model=models.declared, is_model_unknown=models.is_unrecorded, failures=read_failures(connection, table),
                builds=running_builds(connection, spec), steps=steps,
                remarks=remarks, plan_words=words,
                plan_text=text, plan_settings=settings, recall=recall_now(connection, spec, observed),
                curves=read_curves(connection, spec, observed),
                server_version=server.server_version, pgvector_version=version_text(server.extension_version),
                warnings=_warnings(server.extension_version), read_at=dt.datetime.now(dt.UTC), catalog=catalog,
            )  # fmt: skip


def _uses(connection: Connection, spec: IndexSpec, observed: Observed, server_version: int) -> list[IndexUse]:
    last_scan = sql.SQL("last_idx_scan" if server_version >= LAST_SCAN_VERSION else "NULL::timestamptz")
    rows = connection.execute(
        sql.SQL(
            "SELECT indexrelid, idx_scan, idx_tup_read, idx_tup_fetch, {} FROM pg_catalog.pg_stat_user_indexes "
            "WHERE indexrelid = ANY(%s::oid[])"
        ).format(last_scan),
        ([index.oid for index in observed.indexes],),
    ).fetchall()
    counters = {row[0]: row[1:] for row in rows}
    return [
        IndexUse(
            index=index,
            drift=differences(spec, observed, index) if index.name == spec.name else [],
            role=_role(spec, index),
            is_hidden=is_hidden(index),
            size_bytes=size_of(observed, index),
            scans=counted[0],
            tuples_read=counted[1],
            tuples_fetched=counted[2],
            last_scan=counted[3],
        )
        for index in observed.indexes
        for counted in [counters.get(index.oid, (0, 0, 0, None))]
    ]


def _role(spec: IndexSpec, index: ObservedIndex) -> str:
    if index.name == spec.name:
        return "declared"
    if is_partial_name(index.name) and index.predicate is not None:
        return "partial"
    if index.name == next_name(spec.name):
        return "next generation"
    if index.name != previous_name(spec.name):
        return ""
    until = read_note(index.comment).keep_until
    return "previous generation" + (f", kept until {until:%Y-%m-%d}" if until else "")


def _to_do(connection: Connection, spec: IndexSpec, observed: Observed) -> tuple[list[str], list[str]]:
    try:
        plan = make_plan(spec, observed, policy=policy_here(connection, HEAL), now=dt.datetime.now(dt.UTC))
    except EverindexError as exc:
        return [], [f"{exc.what} {exc.why}"]
    return [step.sentence for step in plan.steps], list(plan.remarks)


def _plan(
    searched: Searchable, connection: Connection, table: CollectionTable, serving: Serving
) -> tuple[str, list[str], tuple[tuple[str, str], ...]]:
    """The plan of the search page's search: its scans in words, its text, and its settings."""
    if table.dimensions is None:
        return "", [], ()
    search_plan = choose(serving, k=10, passing=None, ef_search=None, exact=False)
    composed, parameters = statement.of(table, NO_FILTERS, search_plan, k=10)
    text, parameters = composed.as_string(None), parameters | {"vector": Vector([1.0] + [0.0] * (table.dimensions - 1))}
    words = explain(connection, text, parameters, settings=search_plan.settings).summary
    lines = explain_text(connection, text, parameters, settings=search_plan.settings)
    return words, [without_vectors(line) for line in lines], search_plan.settings


def _warnings(pgvector: tuple[int, ...] | None) -> list[str]:
    if pgvector is None or pgvector >= SAFE_PGVECTOR:
        return []
    return [
        f"pgvector {version_text(pgvector)} is older than {version_text(SAFE_PGVECTOR)}, the first release whose HNSW "
        f"index "
        "is safe under VACUUM: install a newer one and run  ALTER EXTENSION vector UPDATE."
    ]
