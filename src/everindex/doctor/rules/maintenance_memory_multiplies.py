"""Rule: one build and all autovacuum workers together fit into the memory of the machine."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_server
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import GIB, MIB, size_setting, size_text

#: Of what the operator says the machine has (effective_cache_size): the rest is for sessions and the page cache.
SHARE = 0.6


def check(examined: Examined) -> Iterator[RuleResult]:
    build = examined.bytes_of("maintenance_work_mem")
    worker = examined.bytes_of("autovacuum_work_mem")
    inherits = worker < 0
    worker = build if inherits else worker
    if examined.capabilities.server_version_num < 170000:
        worker = min(worker, GIB)  # VACUUM could not use more before PostgreSQL 17 (its release notes)
    workers = int(examined.number_of("autovacuum_max_workers"))
    cache = examined.bytes_of("effective_cache_size")
    wanted = build + workers * worker
    told = (
        f"one build may take {size_text(build)} and {workers} autovacuum workers {size_text(worker)} each, together "
        f"{size_text(wanted)}"
    )
    if wanted <= SHARE * cache:
        yield good(f"{told}: below 60 % of effective_cache_size ({size_text(cache)})")
    elif examined.is_default("effective_cache_size"):
        yield unknown(f"{told}; effective_cache_size was never set, so nobody said what memory the machine has")
    else:
        fair = max(64 * MIB, int((SHARE * cache - build) / max(1, workers)))
        yield finding(
            f"{told}: above 60 % of effective_cache_size ({size_text(cache)})",
            fix=Fix(
                statements=set_for_server("autovacuum_work_mem", size_setting(min(fair, 256 * MIB))),
                advice="keep maintenance_work_mem small for the server and raise it in the session that builds.",
            ),
        )


RULE = Rule(
    slug="maintenance-memory-multiplies",
    severity="warning",
    title="builds and autovacuum workers fit into memory together",
    reason="maintenance_work_mem counts once for each build, and autovacuum_work_mem = -1 gives it to each worker as well "
    "(PostgreSQL documentation, Resource Consumption).",
    check=check,
)
