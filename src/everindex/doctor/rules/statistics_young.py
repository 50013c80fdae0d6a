"""Rule: the usage counters of the database cover at least a week."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import duration_text

#: A week includes every weekly job.
LONG_ENOUGH = timedelta(days=7)


def check(examined: Examined, *, now: datetime | None = None) -> Iterator[RuleResult]:
    if not examined.indexes:
        return
    reset = examined.row("SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = current_database()")[0]
    if reset is None:
        yield good("the usage counters of this database were never reset")
        return
    age = (now or examined.now) - reset
    if age >= LONG_ENOUGH:
        yield good(f"the usage counters are {duration_text(age.total_seconds())} old")
    else:
        yield finding(
            f"the usage counters are only {duration_text(age.total_seconds())} old: an index without scans may still be used",
            fix=Fix(
                advice="do not drop an index as unused before they are seven days old; every standby has its own counters."
            ),
        )


RULE = Rule(
    slug="statistics-young",
    severity="notice",
    title="usage counters are at least a week old",
    reason="idx_scan counts from stats_reset on, and a crash or pg_stat_reset() resets it; plans shown by EXPLAIN do not count "
    "(PostgreSQL documentation, The Cumulative Statistics System).",
    check=check,
)
