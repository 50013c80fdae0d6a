"""Rule: every large vector index was scanned within the time that the server's counters cover."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import COUNTED_ENOUGH_SECONDS, Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import MIB, count_text, duration_text, size_text

#: PgHero's limit for unused indexes: dropping a smaller one saves nothing noticeable.
BIG_BYTES = 10 * MIB


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.settled_indexes:
        if index.is_partitioned:
            continue  # its parts are counted instead instead
        details = examined.index_details[index.oid]
        if details.scans:
            yield good(f"index {index.quoted} was scanned {count_text(details.scans, 'time')}", about=index.quoted)
        elif index.size_bytes < BIG_BYTES:
            yield good(f"index {index.quoted} takes only {size_text(index.size_bytes)}", about=index.quoted)
        elif (seconds := examined.counted_seconds) is None:
            yield unknown(
                f"index {index.quoted}: the server does not report since when it has counted scans", about=index.quoted
            )
        else:
            never = (
                f"index {index.quoted} was never scanned in the {duration_text(seconds)} that the server has counted"
            )
            if seconds < COUNTED_ENOUGH_SECONDS:
                yield unknown(f"{never}: too short to judge", about=index.quoted)
                continue
            yield finding(
                f"{never}, and takes {size_text(index.size_bytes)}",
                about=index.quoted,
                fix=Fix(
                    statements=() if index.is_attached else (f"DROP INDEX CONCURRENTLY {index.quoted}",),
                    advice="the index may be younger than the counters, and each server counts its own scans: check every "
                    "replica too. Then find out with EXPLAIN why the application's searches do not use it.",
                ),
            )


RULE = Rule(
    slug="index-unused",
    severity="warning",
    title="every large vector index is used",
    reason="an index that no search uses slows down writes and VACUUM and takes cache (five HNSW indexes of 1.2 GB with 0 scans "
    "in 275 days: alibaizhanov/mengram#122); counters show it after a week (PostgreSQL documentation, pg_stat_all_indexes).",
    check=check,
)
