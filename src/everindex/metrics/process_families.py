"""The metric families of a process that serves an instance: its searches, connections, replica and keeper, without a query.

Counters begin at 0 with the process. Labels are fixed sets and the names of opened collections, at most MOST_COLLECTIONS.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from everindex.articles.instance import Instance
from everindex.articles.search.diagnostics.timings import BOUNDS_SECONDS, SearchTiming
from everindex.articles.searchable import Searchable
from everindex.index.keeper.round import Role, RoundCounts
from everindex.metrics.observation import MOST_COLLECTIONS

ROLES: tuple[Role, ...] = get_args(Role)
_BOUNDS = [*(str(bound) for bound in BOUNDS_SECONDS), "+Inf"]


def process_families(instance: Instance) -> Iterator[Metric]:
    """Of an open instance and the collections that were opened in it."""
    opened: list[Searchable] = [instance, *islice(list(instance.opened.values()), MOST_COLLECTIONS)]
    yield from _of_searches(opened)
    yield from _of_pools(instance)
    yield from _of_replica(instance)
    yield from _of_keeper(instance.keeper_rounds)


def _of_searches(opened: list[Searchable]) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "everindex_search_seconds", "Duration of answered searches by mode and strategy.",
        labels=["collection", "mode", "strategy"],
    )  # fmt: skip
    failed = CounterMetricFamily(
        "everindex_search_failures", "Searches that ended with an error, by the slug of its page in docs/problems.",
        labels=["collection", "problem"],
    )  # fmt: skip
    short = CounterMetricFamily(
        "everindex_short_answers", "Index searches that found fewer rows than exist, and were repeated exactly.",
        labels=["collection"],
    )  # fmt: skip
    for searched in opened:
        name = searched.spec.name
        for timing in searched.searches.timings.timings():
            seconds.add_metric([name, timing.mode, timing.strategy], _cumulated(timing), timing.seconds)
        for slug, count in sorted(searched.searches.timings.failures().items()):
            failed.add_metric([name, slug], count)
        short.add_metric([name], searched.engine.short_answers.count)
    yield from (seconds, failed, short)


def _cumulated(timing: SearchTiming) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip(_BOUNDS, timing.buckets, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _of_pools(instance: Instance) -> Iterator[Metric]:
    most = GaugeMetricFamily("everindex_pool_connections_max", "Most connections of a pool.", labels=["pool"])
    size = GaugeMetricFamily("everindex_pool_connections", "Connections of a pool.", labels=["pool"])
    idle = GaugeMetricFamily("everindex_pool_connections_idle", "Of these, how many are not in use.", labels=["pool"])
    waiting = GaugeMetricFamily("everindex_pool_requests_waiting", "Callers that wait for one.", labels=["pool"])
    errors = CounterMetricFamily(
        "everindex_pool_request_errors", "Callers that waited for a connection in vain.", labels=["pool"]
    )
    lost = CounterMetricFamily("everindex_pool_connections_lost", "Connections that were lost.", labels=["pool"])
    for name, stats in instance.pool_stats().items():
        most.add_metric([name], stats["pool_max"])
        size.add_metric([name], stats["pool_size"])
        idle.add_metric([name], stats["pool_available"])
        waiting.add_metric([name], stats["requests_waiting"])
        errors.add_metric([name], stats.get("requests_errors", 0))
        lost.add_metric([name], stats.get("connections_lost", 0))
    yield from (most, size, idle, waiting, errors, lost)


def _of_replica(instance: Instance) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "everindex_replica_up", "1 while reads go to the replica; no sample where none is configured.", labels=[]
    )
    source = instance.reading.source()
    if source.is_replica or source.reason is not None:
        up.add_metric([], source.is_replica)
    yield up


def _of_keeper(counts: RoundCounts) -> Iterator[Metric]:
    rounds = CounterMetricFamily(
        "everindex_keeper_rounds", "Rounds of the keeper of this process, by its role.", labels=["role"]
    )
    ended = GaugeMetricFamily("everindex_keeper_last_round_timestamp_seconds", "When its last round ended.")
    seconds = GaugeMetricFamily("everindex_keeper_last_round_seconds", "How long it took.")
    leads = GaugeMetricFamily("everindex_keeper_leads", "1 if it led in that round.")
    findings = GaugeMetricFamily("everindex_keeper_findings", "What that round left to a person.")
    failures = GaugeMetricFamily("everindex_keeper_failures", "What that round tried in vain.")
    done = counts.rounds()
    for role in ROLES:
        if done:
            rounds.add_metric([role], done.get(role, 0))
    if counts.last is not None:
        at, last = counts.last
        ended.add_metric([], at)
        seconds.add_metric([], last.seconds)
        leads.add_metric([], last.role == "leads")
        findings.add_metric([], sum(not finding.is_failure for finding in last.findings))
        failures.add_metric([], sum(finding.is_failure for finding in last.findings))
    yield from (rounds, ended, seconds, leads, findings, failures)
