"""Rule: the connection of everindex reaches the server without a pooler."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.pooler import route_of


def check(examined: Examined) -> Iterator[RuleResult]:
    if not route_of(examined.connection).is_pooled:
        yield good("this connection goes to the server itself")
        return
    yield finding(
        "this connection goes through a pooler: the process ID of its server session differs from the one reported on connecting",
        fix=Fix(
            advice="set DATABASE_URL_DIRECT to the server's own address, for migrate, doctor, the keeper and all builds; "
            "searches continue to use the pooler."
        ),
    )


RULE = Rule(
    slug="pooler-in-between",
    severity="warning",
    title="no pooler is between everindex and the server",
    reason="in transaction mode a pooler can run each transaction in a different session: SET, session locks and what a "
    "concurrent build needs between its transactions are lost or leak (PgBouncer documentation, Features; hindsight#2817).",
    check=check,
)
