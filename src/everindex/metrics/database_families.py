"""The metric families of a database: what an observation found, as Prometheus names it.

What is not known has no sample: no zero stands for an unread value. Labels are names of declared objects and words of fixed
sets; how many objects is bounded by `observation.MOST_INDEXES` and `MOST_COLLECTIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

import everindex
from everindex.doctor.rule import Severity
from everindex.index.activity.running_builds import RunningBuild
from everindex.index.build.serving_state import IndexState
from everindex.index.recall.current import RecallNow
from everindex.metrics.observation import CollectionCounts, DatabaseMetrics, DoctorCounts, IndexMetrics
from everindex.metrics.refresh import Latest, Part

_INDEX = ("schema", "table", "index")
STATES: tuple[IndexState, ...] = get_args(IndexState)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


def database_families(latest: Latest) -> Iterator[Metric]:
    """The families of the three parts, and how old each is."""
    yield _gauge(
        "everindex_database_up", "1 if the last observation of the database succeeded.",
        value=0 if latest.state.problem or latest.state.value is None else 1,
    )  # fmt: skip
    yield from _about_observation({"state": latest.state, "counts": latest.counts, "doctor": latest.doctor})
    if latest.state.value is not None:
        yield from _of_state(latest.state.value)
    if latest.counts.value is not None:
        yield from _of_collections(latest.counts.value)
    if latest.doctor.value is not None:
        yield from _of_doctor(latest.doctor.value)


def _about_observation(parts: dict[str, Part[Any]]) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "everindex_observation_age_seconds", "Age of what is shown of a part of the database.", labels=["part"]
    )
    read_at = GaugeMetricFamily(
        "everindex_observation_timestamp_seconds", "When a part of the database was last read.", labels=["part"]
    )
    duration = GaugeMetricFamily(
        "everindex_observation_duration_seconds", "How long reading a part of the database took.", labels=["part"]
    )
    succeeded = GaugeMetricFamily(
        "everindex_observation_success", "1 if a part of the database could be read and is not too old; without it the part "
        "is not shown.", labels=["part"],
    )  # fmt: skip
    for name, part in parts.items():
        succeeded.add_metric([name], 0 if part.value is None else 1)
        if part.age_seconds is not None and part.read_at is not None:
            age.add_metric([name], part.age_seconds)
            read_at.add_metric([name], part.read_at)
            duration.add_metric([name], part.duration_seconds)
    yield from (succeeded, age, read_at, duration)


def _of_state(found: DatabaseMetrics) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "everindex", "Versions in use.",
        value={
            "version": everindex.__version__, "postgresql": found.server_version, "pgvector": found.pgvector_version,
        },
    )  # fmt: skip
    yield _gauge(
        "everindex_indexes_not_shown", "Declared indexes that are left out here, or could not be read.",
        value=found.not_shown,
    )  # fmt: skip
    yield _gauge(
        "everindex_keeper_leader", "1 if a keeper leads in this database, in whatever process.",
        value=0 if found.keeper is None else 1,
    )  # fmt: skip
    yield from _of_indexes(found.indexes)
    yield from _of_recall(found.indexes)
    yield from _of_builds(found.builds)


def _of_indexes(indexes: Iterable[IndexMetrics]) -> Iterator[Metric]:
    state = _of_index_family("state", "1 for the state of a declared index for searches.", "state")
    valid = _of_index_family("valid", "1 if searches can use the index.")
    differs = _of_index_family("differs", "1 if an index serves that has another definition than declared.")
    size = _of_index_family("size_bytes", "Size of the index with its partitions; 0 without one.")
    table = _of_index_family("table_size_bytes", "Size of the table that the index is on.")
    rows = _of_index_family("table_rows", "Rows of that table as PostgreSQL estimates them.")
    scans = CounterMetricFamily(
        "everindex_index_scans", "Scans of the index since its statistics were reset.", labels=_INDEX
    )
    read = CounterMetricFamily(
        "everindex_index_entries_read", "Index entries that these scans returned.", labels=_INDEX
    )
    for each in indexes:
        labels = _labels(each)
        for name in STATES:
            state.add_metric([*labels, name], each.state == name)
        valid.add_metric(labels, each.state == "valid")
        differs.add_metric(labels, each.differs)
        size.add_metric(labels, each.size_bytes)
        table.add_metric(labels, each.table_bytes)
        rows.add_metric(labels, each.estimated_rows)
        scans.add_metric(labels, each.scans)
        read.add_metric(labels, each.entries_read)
    yield from (state, valid, differs, size, table, rows, scans, read)


def _of_recall(indexes: Iterable[IndexMetrics]) -> Iterator[Metric]:
    floor = _of_index_family("recall_floor", "Declared or tuned floor of recall@10.")
    recall = _of_index_family("recall_ratio", "Recall@10 in the latest queries that were measured.", "source")
    low = _of_index_family("recall_low_ratio", "Lower end of its 95 % interval.", "source")
    high = _of_index_family("recall_high_ratio", "Upper end of its 95 % interval.", "source")
    queries = _of_index_family("recall_queries", "How many queries that is.", "source")
    below = _of_index_family("recall_below_floor", "1 if recall is certainly below the floor.", "source")
    for each in indexes:
        labels = _labels(each)
        floor.add_metric(labels, each.recall.floor)
        for now in _sources(each.recall):
            with_source = [*labels, now.source]
            recall.add_metric(with_source, now.recall)
            low.add_metric(with_source, now.low)
            high.add_metric(with_source, now.high)
            queries.add_metric(with_source, now.queries)
            below.add_metric(with_source, now.is_below)
    yield from (floor, recall, low, high, queries, below)


def _sources(recall: RecallNow) -> tuple[RecallNow, ...]:
    return (recall, *recall.others) if recall.queries else ()


def _of_builds(builds: Iterable[RunningBuild]) -> Iterator[Metric]:
    running = _of_table_family("running", "Builds of indexes that run on a table.")
    seconds = _of_table_family("seconds", "How long the longest of them has been running.")
    done = _of_table_family("progress_ratio", "Share of its phase that is done, 0 to 1.")
    left = _of_table_family("left_seconds", "Estimated time until its rows are loaded.")
    waiting = _of_table_family("waiting", "1 while it waits for another session.")
    of_table: dict[tuple[str, str], list[RunningBuild]] = {}
    for build in builds:
        of_table.setdefault((build.schema, build.table), []).append(build)
    for labels, ones in of_table.items():
        longest = ones[0]
        running.add_metric(labels, len(ones))
        seconds.add_metric(labels, longest.running_seconds)
        waiting.add_metric(labels, 1 if longest.waits_for else 0)
        if longest.share_done is not None:
            done.add_metric(labels, longest.share_done)
        if longest.seconds_left is not None:
            left.add_metric(labels, longest.seconds_left)
    yield from (running, seconds, done, left, waiting)


def _of_collections(counts: Iterable[CollectionCounts]) -> Iterator[Metric]:
    rows = _of_collection_family("everindex_rows", "Rows of a collection.")
    backlog = _of_collection_family("everindex_embedding_backlog", "Rows without a vector.")
    failures = _of_collection_family("everindex_embedding_failures", "Rows whose embedding failed.")
    unrecorded = _of_collection_family("everindex_vectors_unrecorded", "Vectors without a record of their model.")
    is_counted = _of_collection_family(
        "everindex_collection_counted",
        "0 if counting the rows of a collection took too long; then they have no sample.",
    )
    for each in counts:
        labels = [each.collection]
        is_counted.add_metric(labels, None not in (each.rows, each.without_vector, each.unrecorded))
        failures.add_metric(labels, each.failures)
        for family, value in ((rows, each.rows), (backlog, each.without_vector), (unrecorded, each.unrecorded)):
            if value is not None:
                family.add_metric(labels, value)
    yield from (rows, backlog, failures, unrecorded, is_counted)


def _of_doctor(found: DoctorCounts) -> Iterator[Metric]:
    by_severity = GaugeMetricFamily(
        "everindex_doctor_findings", "Rules of the doctor that found something.", labels=["severity"]
    )
    by_rule = GaugeMetricFamily(
        "everindex_doctor_finding", "1 for each rule that found something.", labels=["severity", "rule"]
    )
    for name in SEVERITIES:
        by_severity.add_metric([name], sum(severity == name for severity, _ in found.findings))
    for severity, rule in found.findings:
        by_rule.add_metric([severity, rule], 1)
    yield from (by_severity, by_rule)
    yield _gauge("everindex_doctor_unknown", "Rules of the doctor that could not be checked.", value=found.unknown)


def _labels(index: IndexMetrics) -> list[str]:
    return [index.schema, index.table, index.name]


def _gauge(name: str, text: str, *, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _of_index_family(name: str, text: str, *further: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"everindex_index_{name}", text, labels=[*_INDEX, *further])


def _of_table_family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"everindex_build_{name}", text, labels=["schema", "table"])


def _of_collection_family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["collection"])
