"""Rule: the server is a primary, where indexes can be built."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    if not examined.capabilities.is_standby:
        yield good("this server is a primary")
        return
    feedback = examined.setting("hot_standby_feedback") == "on"
    sentence = (
        "hot_standby_feedback is on, so its long searches hold up builds and VACUUM on the primary"
        if feedback
        else "hot_standby_feedback is off, so VACUUM on the primary cancels its long searches"
    )
    yield finding(
        f"this server is a standby: indexes are built on the primary and replicated by WAL; {sentence}",
        fix=Fix(
            advice="give everindex the primary's address for migrate, deploy and heal. Repeat a search once on SQLSTATE 40001: "
            "REINDEX CONCURRENTLY on the primary cancels readers of the old index. Each server has its own usage counters."
        ),
    )


RULE = Rule(
    slug="running-on-standby",
    severity="notice",
    title="this server is a primary",
    reason="an HNSW index is WAL-logged and serves on standbys, but nothing can be created there (PostgreSQL documentation, Hot "
    "Standby).",
    check=check,
)
