"""Databases that are sick in one way: small tables of vectors, indexes that failed, and a look at what the doctor says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from by_hand import rows, run
from everindex.doctor.examine import all_rules
from everindex.doctor.examined import Examined
from everindex.doctor.rule import RuleResult
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import connect

DIMENSIONS = 64
ROWS = 300
SPEC = IndexSpec(name="items_idx", table="items", column="embedding")


def make_items(
    conninfo: str,
    *,
    name: str = "items",
    schema: str = "public",
    column: str = "embedding",
    count: int = ROWS,
    dimensions: int = DIMENSIONS,
    column_type: str = "vector",
    analyze: bool = True,
) -> str:
    """A table (id, n, vector) with `count` random vectors that are not of length 1; its quoted name."""
    table = sql.Identifier(schema, name)
    typed = sql.SQL("{}({})").format(sql.SQL(column_type), sql.Literal(dimensions))
    run(
        conninfo,
        "CREATE EXTENSION IF NOT EXISTS vector",
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)),
        sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, n int DEFAULT 0, {} {}) WITH (autovacuum_enabled = off)").format(
            table, sql.Identifier(column), typed
        ),
        sql.SQL("INSERT INTO {} SELECT g, 0, {}::{} FROM generate_series(0, {} - 1) AS g").format(
            table, random_vector(dimensions), typed, sql.Literal(count)
        ),
    )
    if analyze:
        # In a session of its own: what a session has written is counted when it ends, after its own ANALYZE.
        run(conninfo, sql.SQL("ANALYZE {}").format(table))
    return table.as_string(None)


def random_vector(dimensions: int) -> sql.Composed:
    """An expression over the row `g`: another vector for each."""
    return sql.SQL("ARRAY(SELECT random() - 0.5 + 0 * g FROM generate_series(1, {}))").format(sql.Literal(dimensions))


def ask(
    conninfo: str,
    slug: str,
    *,
    declared: tuple[IndexSpec, ...] = (),
    role: str | None = None,
    counting_since: datetime | None = None,
) -> list[RuleResult]:
    """What one rule says, asked over a connection of its own; with another beginning of the counters where one is given."""
    rule = next(rule for rule in all_rules() if rule.slug == slug)
    with connect(conninfo) as connection:
        if role is not None:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        examined = Examined(connection=connection, capabilities=look(connection), declared=declared)
        if counting_since is not None:
            examined.counting_since = counting_since
        return list(rule.check(examined))


def findings(conninfo: str, slug: str, **how: Any) -> list[RuleResult]:
    return [answer for answer in ask(conninfo, slug, **how) if answer.status == "finding"]


def the_finding(conninfo: str, slug: str, **how: Any) -> RuleResult:
    found = findings(conninfo, slug, **how)
    assert len(found) == 1, found
    return found[0]


def is_good(conninfo: str, slug: str, **how: Any) -> bool:
    """The rule applies, and has nothing to say against any of it."""
    answers = ask(conninfo, slug, **how)
    assert all(answer.status == "good" for answer in answers), answers
    return bool(answers)


def apply_fix(conninfo: str, answer: RuleResult) -> None:
    assert answer.fix is not None
    assert answer.fix.statements
    run(conninfo, *answer.fix.statements)


@contextmanager
def old_snapshot(conninfo: str) -> Iterator[None]:
    """While the block runs, no concurrent build of this database gets past its last wait."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_catalog.pg_class")
        yield
        connection.rollback()


def fail_late(conninfo: str, statement: str | sql.Composed) -> None:
    """Runs a concurrent build that is cancelled in its last wait and so leaves an INVALID index behind."""
    with old_snapshot(conninfo), psycopg.connect(conninfo, autocommit=True) as connection:
        cancel = threading.Thread(target=_cancel_when_waiting, args=(conninfo, connection.info.backend_pid))
        cancel.start()
        try:
            connection.execute(statement)
        except psycopg.errors.QueryCanceled:
            return
        finally:
            cancel.join()
    raise AssertionError("the build was to be cancelled, and was not")


def _cancel_when_waiting(conninfo: str, pid: int) -> None:
    wait_until(
        lambda: rows(
            conninfo,
            sql.SQL(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index "
                "WHERE pid = {} AND phase = 'waiting for old snapshots'"
            ).format(sql.Literal(pid)),
        )
    )


def wait_until(question: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """The first true answer; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


class InBackground(threading.Thread):
    """Runs a statement in a session of its own, which `cancel` ends."""

    def __init__(self, conninfo: str, *statements: str) -> None:
        super().__init__(daemon=True)
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._statements = statements
        self.pid = self._connection.info.backend_pid
        self.start()

    def run(self) -> None:
        try:
            for statement in self._statements:
                self._connection.execute(statement)
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            self._connection.close()

    def cancel(self) -> None:
        self._connection.cancel_safe()
        self.join(20)
        assert not self.is_alive()
