"""Rule: one build and all autovacuum workers together fit into the memory of the machine."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_server
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import GIB, MIB, size_setting, size_text

#: Share of the memory that the operator has configured (effective_cache_size); the rest is for sessions and the page cache.
SHARE = 0.6


def check(examined: Examined) -> Iterator[RuleResult]:
    build = examined.bytes_of("maintenance_work_mem")
    worker = examined.bytes_of("autovacuum_work_mem")
    inherits = worker < 0
    worker = build if inherits else worker
    if examined.capabilities.server_version_num < 170000:
        worker = min(worker, GIB)  # before PostgreSQL 17, VACUUM could not use more (release notes)
    workers = int(examined.number_of("autovacuum_max_workers"))
    cache = examined.bytes_of("effective_cache_size")
    wanted = build + workers * worker
    sentence = (
        f"one build may take {size_text(build)} and {workers} autovacuum workers {size_text(worker)} each, together "
        f"{size_text(wanted)}"
    )
    if wanted <= SHARE * cache:
        yield good(f"{sentence}: below 60 % of effective_cache_size ({size_text(cache)})")
    elif examined.is_default("effective_cache_size"):
        yield unknown(f"{sentence}; effective_cache_size is not set, so the memory of the machine is unknown")
    else:
        fair = max(64 * MIB, int((SHARE * cache - build) / max(1, workers)))
        yield finding(
            f"{sentence}: above 60 % of effective_cache_size ({size_text(cache)})",
            fix=Fix(
                statements=set_for_server("autovacuum_work_mem", size_setting(min(fair, 256 * MIB))),
                advice="set maintenance_work_mem low for the server and raise it in the session that builds.",
            ),
        )


RULE = Rule(
    slug="maintenance-memory-multiplies",
    severity="warning",
    title="builds and autovacuum workers fit into memory together",
    reason="each build may use maintenance_work_mem, and with autovacuum_work_mem = -1 each autovacuum worker may, too "
    "(PostgreSQL documentation, Resource Consumption).",
    check=check,
)
