"""Rule: blocks of vector indexes are found in shared_buffers, according to the server's counters."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import size_text

HIT_SHARE = 0.99
#: A search with ef_search = 40 visits some hundred blocks; fewer visits than this are the first searches after a start.
ENOUGH_BLOCKS = 10_000


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.settled_indexes:
        if index.is_partitioned:
            continue
        details = examined.index_details[index.oid]
        visits = details.blocks_found + details.blocks_read
        if visits < ENOUGH_BLOCKS:
            yield unknown(f"index {index.quoted}: only {visits} block visits so far", about=index.quoted)
            continue
        share = details.blocks_found / visits
        found = f"{share:.1%} of {visits} visits to index {index.quoted} found the block in shared_buffers"
        if share >= HIT_SHARE:
            yield good(found, about=index.quoted)
            continue
        has_prewarm = examined.rows(
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'pg_prewarm'"
        )
        yield finding(
            f"{found}; it takes {size_text(index.size_bytes)} and shared_buffers has {examined.setting('shared_buffers')}",
            about=index.quoted,
            fix=Fix(
                advice=(
                    "everindex warm , or SELECT pg_prewarm(…) of the index,"
                    if has_prewarm
                    else "everindex warm , or CREATE EXTENSION pg_prewarm and pg_prewarm(…) of the index,"
                )
                + " after each start; make shared_buffers larger than the index, or make the index smaller (everindex tune). The "
                "counters include the build's own visits; pg_stat_reset_single_table_counters() resets them.",
            ),
        )


RULE = Rule(
    slug="index-cold",
    severity="warning",
    title="vector indexes are read from memory",
    reason="a graph search jumps from block to block: below 99 % in shared_buffers the disk limits its speed (5 searches a "
    "second cold, 110 warm: pgvector/pgvector#455).",
    check=check,
)
