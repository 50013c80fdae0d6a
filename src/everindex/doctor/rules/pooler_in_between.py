"""Is there a connection pooler between us and the server?"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Answer, Fix, Rule, finding, good


def ask(examined: Examined) -> Iterator[Answer]:
    # A pooler makes up the process number that a connection is told at its start, because it may change the server
    # session behind it; the session itself knows its own.
    told = examined.connection.info.backend_pid
    own = int(examined.row("SELECT pg_catalog.pg_backend_pid()")[0])
    if told == own:
        yield good("this connection goes to the server itself")
        return
    yield finding(
        "this connection goes through a pooler: its session at the server has another process number than it was told",
        fix=Fix(
            advice="give everindex the server's own address for migrate, doctor and whatever builds; searches may go through the "
            "pooler, with SET LOCAL inside of their transaction."
        ),
    )


RULE = Rule(
    slug="pooler-in-between",
    severity="warning",
    title="no pooler is between everindex and the server",
    reason="in transaction mode a pooler gives each transaction another session: SET, session locks and what a concurrent build "
    "needs between its transactions are lost or leak (PgBouncer documentation, Features; hindsight#2817).",
    ask=ask,
)
