"""Rule: no stored timeout interrupts a manual build by the owner of a vector table."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import made_settings
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.connections import TIME_LIMITS

_OFF = frozenset({"0", "0ms", "0s", "0min"})


def check(examined: Examined) -> Iterator[RuleResult]:
    if not examined.tables:
        return
    owners = {
        row[0]
        for row in examined.rows(
            "SELECT DISTINCT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid = ANY(%s)",
            ([table.oid for table in examined.tables],),
        )
    }
    # Timeouts of roles that own no vector table do not interrupt builds: they are good practice.
    limits = [
        made
        for made in made_settings(examined, TIME_LIMITS)
        if made.value not in _OFF and (made.role is None or made.role in owners)
    ]
    if not limits:
        yield good("no timeout is set for the roles that own the tables with vectors")
    for made in limits:
        yield finding(
            f"{made.name} is {made.value} {made.where}: it interrupts a manual CREATE INDEX CONCURRENTLY or REINDEX, which "
            "leaves an INVALID index behind",
            fix=Fix(
                statements=(f"SET {made.name} = 0",),
                advice="in the session that builds manually; the timeout itself may stay. everindex lifts it for its own builds.",
            ),
        )


RULE = Rule(
    slug="timeouts-cut-builds",
    severity="notice",
    title="no timeout interrupts a build",
    reason="lock_timeout also applies while a concurrent build waits for old snapshots; when it expires, an INVALID index "
    "remains (measured: SQLSTATE 55P03; yetone/cumora#236).",
    check=check,
)
