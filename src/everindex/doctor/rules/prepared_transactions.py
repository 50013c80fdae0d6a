"""Rule: no prepared transaction is left unfinished, because it holds up builds and VACUUM even across restarts."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import LONG_OPEN_SECONDS, Fix, Rule, RuleResult, finding, good
from everindex.units import duration_text


def check(examined: Examined, *, older_than_seconds: float = LONG_OPEN_SECONDS) -> Iterator[RuleResult]:
    old = examined.rows(
        """
        SELECT gid, owner, extract(epoch FROM now() - prepared)::float8 FROM pg_catalog.pg_prepared_xacts
        WHERE database = current_database() AND now() - prepared >= make_interval(secs => %s) ORDER BY prepared
        """,
        (older_than_seconds,),
    )
    if not old:
        yield good("no prepared transaction is left over")
    for gid, owner, seconds in old:
        yield finding(
            f"transaction {gid!r} of role {owner} was prepared {duration_text(seconds)} ago and not finished: it keeps its locks "
            "and its snapshot, even across restarts",
            fix=Fix(
                statements=(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)).as_string(None),),
                advice="or COMMIT PREPARED: check with its coordinator (the transaction manager) first.",
            ),
        )


RULE = Rule(
    slug="prepared-transactions",
    severity="warning",
    title="no prepared transaction is left over",
    reason="a prepared transaction has no session: pg_stat_activity does not show it, and a concurrent build waits for it "
    "indefinitely (PostgreSQL documentation, PREPARE TRANSACTION).",
    check=check,
)
