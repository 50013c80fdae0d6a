"""Rule: data pages have checksums, so that corruption on disk is detected."""

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
        "data pages have no checksums: a vector or a graph that is corrupted on disk is read as if it were intact",
        fix=Fix(
            advice="stop the server, run  pg_checksums --enable --pgdata DIRECTORY  on its machine, start it. Providers whose "
            "storage has its own checksums need it less."
        ),
    )


RULE = Rule(
    slug="data-checksums-off",
    severity="notice",
    title="data pages have checksums",
    reason="a corrupted vector is still a valid vector: without checksums the corruption goes unnoticed (PostgreSQL "
    "documentation, Data Checksums; the default since PostgreSQL 18).",
    check=check,
)
