"""Who stands in a build's way is named, with pid, time and query; it is waited for, or given up by policy and made good after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import attack
import scene
from by_hand import rows, run
from everindex.errors import LockNotObtained
from everindex.index.deploy.executor import deploy
from everindex.index.spec import BuildPolicy
from scene import SPEC, Heard, InBackground, state, wait_until

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

DECLARED = [(SPEC.name, True)]
IMPATIENT = replace(SPEC, build=BuildPolicy(wait_for_transactions_seconds=1))
HURRIED = replace(SPEC, build=BuildPolicy(give_up_after_seconds=1))
SECRET = "not-for-anybodys-eyes"


@contextmanager
def transaction(conninfo: str, *statements: str) -> Iterator[int]:
    """A transaction that stays open after the statements; the pid of its session."""
    with psycopg.connect(conninfo, application_name="nightly") as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection.info.backend_pid
        connection.rollback()


def writer(conninfo: str) -> AbstractContextManager[int]:
    return transaction(conninfo, "UPDATE items SET n = n + 1 WHERE id = 7")


def repeatable_read(conninfo: str) -> AbstractContextManager[int]:
    return transaction(conninfo, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM elsewhere")


def cursor(conninfo: str) -> AbstractContextManager[int]:
    return transaction(conninfo, "DECLARE slowly CURSOR FOR SELECT * FROM elsewhere", "FETCH 1 FROM slowly")


def held_cursor(conninfo: str) -> AbstractContextManager[int]:
    """WITH HOLD, before its transaction has ended: like any other."""
    return transaction(conninfo, "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM elsewhere", "FETCH 1 FROM held")


#: Blocker → what of its last statement is told.
BLOCKERS = [
    pytest.param(writer, "UPDATE items SET n", id="writer"),
    pytest.param(repeatable_read, "SELECT count(*) FROM elsewhere", id="repeatable-read"),
    pytest.param(cursor, "FETCH 1 FROM slowly", id="cursor"),
    pytest.param(held_cursor, "FETCH 1 FROM held", id="cursor-with-hold"),
]
Blocker = Callable[[str], AbstractContextManager[int]]


@pytest.fixture
def busy(items: str) -> str:
    """`items`, and another table to be busy on."""
    run(items, "CREATE TABLE elsewhere AS SELECT generate_series(1, 1000) AS n")
    return items


def named(text: str, pid: int, query: str) -> bool:
    """One line says who, for how long and with which statement."""
    return any(f"pid {pid} has " in line and " for " in line and query in line for line in text.splitlines())


@pytest.mark.parametrize(("blocker", "query"), BLOCKERS)
def test_what_holds_up_a_build_is_named_before_and_waited_for(busy: str, blocker: Blocker, query: str) -> None:
    heard = Heard()
    with blocker(busy) as pid:
        build = InBackground(lambda: deploy(busy, SPEC, reporter=heard.reporter))
        wait_until(lambda: [progress for progress in heard.progress if pid in progress.waits_for])
        assert named(heard.text, pid, query), heard.text
        assert '(application "nightly")' in heard.text
    assert build.finish().outcome == "built"
    assert state(busy) == DECLARED


@pytest.mark.parametrize("spec", [pytest.param(IMPATIENT, id="one-wait"), pytest.param(HURRIED, id="in-all")])
@pytest.mark.parametrize(("blocker", "query"), BLOCKERS)
def test_a_build_that_its_policy_gives_up_says_who_it_was_and_what_is_left_and_the_next_one_heals(
    busy: str, blocker: Blocker, query: str, spec: Any
) -> None:
    heard = Heard()
    before = attack.checksum(busy)
    with blocker(busy) as pid:
        with pytest.raises(LockNotObtained) as raised:
            deploy(busy, spec, reporter=heard.reporter)
        told = str(raised.value)
        assert len(told.split("\n")) == 3
        assert named(told.replace(" has had ", " has "), pid, query), told
        if "was removed" in told:
            assert state(busy) == []
        else:
            assert "may be left; the next deploy removes it" in told
            assert state(busy) == [(SPEC.name, False)]
    assert deploy(busy, SPEC).outcome in ("built", "rebuilt")
    assert state(busy) == DECLARED
    assert attack.checksum(busy) == before


def test_a_session_that_idles_in_an_ordinary_transaction_elsewhere_is_neither_waited_for_nor_named(busy: str) -> None:
    heard = Heard()
    with transaction(busy, "INSERT INTO elsewhere VALUES (0)") as pid:
        assert deploy(busy, IMPATIENT, reporter=heard.reporter).outcome == "built"
    assert str(pid) not in heard.text
    assert state(busy) == DECLARED


def test_a_cursor_with_hold_whose_transaction_has_ended_holds_nothing_up(busy: str) -> None:
    heard = Heard()
    with psycopg.connect(busy, autocommit=True) as connection:
        connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT * FROM elsewhere")
        assert deploy(busy, IMPATIENT, reporter=heard.reporter).outcome == "built"
        assert connection.execute("FETCH 1 FROM held").fetchone() is not None
    assert "waits for" not in heard.text


@contextmanager
def slow_vacuum(conninfo: str) -> Iterator[int]:
    """A VACUUM of `items` that sleeps after every page; ended with the block."""
    with psycopg.connect(conninfo, autocommit=True, application_name="nightly") as connection:
        connection.execute("DELETE FROM items WHERE id >= 250")
        connection.execute("SET vacuum_cost_delay = 100")
        connection.execute("SET vacuum_cost_limit = 1")
        pid = connection.info.backend_pid

        def vacuum() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("VACUUM (DISABLE_PAGE_SKIPPING) items")

        vacuuming = InBackground(vacuum)
        wait_until(lambda: rows(conninfo, "SELECT FROM pg_stat_progress_vacuum WHERE pid = %s", pid))
        yield pid
        run(conninfo, f"SELECT pg_cancel_backend({pid})")
        vacuuming.finish()


def test_a_vacuum_of_the_table_is_named_and_waited_for(many_items: str) -> None:
    heard = Heard()
    with slow_vacuum(many_items) as pid:
        build = InBackground(lambda: deploy(many_items, SPEC, reporter=heard.reporter))
        wait_until(lambda: f"pid {pid} (nightly: VACUUM" in heard.text)
        assert state(many_items) == []
    assert build.finish().outcome == "built"
    assert state(many_items) == DECLARED


@pytest.mark.parametrize("spec", [pytest.param(IMPATIENT, id="one-wait"), pytest.param(HURRIED, id="in-all")])
def test_a_vacuum_that_outlasts_the_policy_is_named_and_nothing_is_begun(many_items: str, spec: Any) -> None:
    with slow_vacuum(many_items) as pid:
        started = time.monotonic()
        with pytest.raises(LockNotObtained) as raised:
            deploy(many_items, spec)
        assert time.monotonic() - started < 20
        assert f"pid {pid} (nightly: VACUUM" in raised.value.why
        assert len(str(raised.value).split("\n")) == 3
        assert state(many_items) == []
    assert deploy(many_items, SPEC).outcome == "built"


def test_prepared_transactions_are_named_given_up_by_policy_and_made_good_after() -> None:
    with attack.victim(max_prepared_transactions="4") as server:
        conninfo = server.conninfo("everindex")
        scene.fill_items(conninfo, count=300)
        run(conninfo, "CREATE TABLE elsewhere (n int)")
        for gid, statement in (
            ("on-the-table", "UPDATE items SET n = 1 WHERE id = 1"),
            ("on-another", "INSERT INTO elsewhere VALUES (1)"),
        ):
            with psycopg.connect(conninfo, autocommit=True) as connection:
                for each in ("BEGIN", statement, sql.SQL("PREPARE TRANSACTION {}").format(gid)):
                    connection.execute(each)
        heard = Heard()
        with pytest.raises(LockNotObtained) as raised:
            deploy(conninfo, IMPATIENT, reporter=heard.reporter)
        assert "transaction on-the-table is a prepared transaction" in heard.text
        assert "transaction on-the-table is a prepared transaction" in raised.value.why
        assert "on-another" not in heard.text + str(raised.value)
        run(conninfo, "ROLLBACK PREPARED 'on-the-table'")
        assert deploy(conninfo, IMPATIENT).outcome in ("built", "rebuilt")
        assert state(conninfo) == DECLARED
        run(conninfo, "ROLLBACK PREPARED 'on-another'")


@pytest.mark.parametrize("blocker", [writer, repeatable_read])
def test_no_text_holds_the_password_of_the_connection_string(busy: str, blocker: Blocker) -> None:
    conninfo = make_conninfo(busy, password=SECRET)
    heard = Heard()
    with blocker(conninfo), pytest.raises(LockNotObtained) as raised:
        deploy(conninfo, IMPATIENT, reporter=heard.reporter)
    deploy(conninfo, SPEC, reporter=heard.reporter)
    texts = [heard.text, *heard.notices, str(raised.value), *map(str, heard.progress)]
    assert [text for text in texts if SECRET in text or "host=" in text] == []
