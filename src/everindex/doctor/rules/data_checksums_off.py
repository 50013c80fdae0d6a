"""Rule: data pages have checksums, so that damage on the disk is noticed."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    state = examined.setting("data_checksums")
    if state == "on":
        yield good("data pages have checksums")
        return
    yield finding(
        "data pages have no checksums: what the disk damages in a vector or a graph is read as if it were right",
        fix=Fix(
            advice="stop the server, run  pg_checksums --enable --pgdata DIRECTORY  on its machine, start it. Providers with "
            "checksums of their own in the storage need it less."
        ),
    )


RULE = Rule(
    slug="data-checksums-off",
    severity="notice",
    title="data pages have checksums",
    reason="a damaged vector is still a vector: without checksums nothing tells (PostgreSQL documentation, Data Checksums; the "
    "default since PostgreSQL 18).",
    check=check,
)
