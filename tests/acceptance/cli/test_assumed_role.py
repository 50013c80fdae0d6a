"""A session whose role is not its login role may not see its own row in pg_stat_activity: every command works there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from command_line import Done, Running, everindex, url_of
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.errors import LockNotObtained
from everindex.index.activity.blockers import blocker_of, find_blockers
from everindex.index.activity.table_locks import conflicting_session
from everindex.index.build.online import run_watched
from everindex.index.build.operation import Operation
from everindex.index.reporter import Reporter
from everindex.index.spec import BuildPolicy
from everindex.pg.connections import connect
from everindex.pg.locks import holder_of, try_lock

ROWS = 1200


@pytest.fixture
def roles(cluster: Any) -> Iterator[tuple[str, str]]:
    """(login role, the role that owns everything): the first is a member of the second, and not the other way round."""
    owner, login = f"owner_{os.getpid()}", f"login_{os.getpid()}"
    cluster.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
    cluster.execute(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT IN ROLE {}").format(*map(sql.Identifier, (login, owner))))
    yield login, owner
    cluster.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
    cluster.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


@pytest.fixture
def database(cluster: Any, empty: str, roles: tuple[str, str]) -> Iterator[str]:
    """An empty database of the owning role, with pgvector; its connection string for the login role."""
    _, owner = roles
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(empty)["dbname"]))
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(owner)))
        yield make_conninfo(empty, user=roles[0])
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(name))
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(owner)))


def source() -> str:
    return "".join(json.dumps({"uri": f"u{n}", "title": f"title number {n} of these"}) + "\n" for n in range(ROWS))


def test_every_command_works_under_a_role_that_was_taken_on(
    cluster: Any, database: str, roles: tuple[str, str]
) -> None:
    login, owner = roles
    cluster.execute(sql.SQL("ALTER ROLE {} SET role = {}").format(sql.Identifier(login), sql.Literal(owner)))
    address = url_of(database)

    def done(*arguments: str, statuses: tuple[int, ...] = (0,), **others: Any) -> Done:
        ended = everindex(*arguments, DATABASE_URL=address, EVERINDEX_KEEP_RECALL_SECONDS="0", **others)
        assert ended.status in statuses, (arguments, ended)
        assert "internal:" not in ended.stderr
        assert "<insufficient privilege>" not in ended.stdout + ended.stderr
        return ended

    done("migrate")
    done("import", "-", "--format", "jsonl", stdin=source())
    assert done("status", "--json").json
    done("verify")
    with psycopg.connect(database) as connection:  # an index that is gone is built with all that goes with it
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")
    done("plan", statuses=(3,))
    for command in ("heal", "status", "search title", "similar u1", "article u1", "warm", "measure", "embed"):
        done(*command.split())
    done("doctor", "--all", statuses=(0, 3))
    done("deploy")
    done("migrate", "--current")
    done("migrate", "--down", "-1")
    done("migrate")
    done("verify")


def test_a_large_import_gets_its_index_back_under_a_role_of_the_address(database: str, roles: tuple[str, str]) -> None:
    address = f"{url_of(database)}?options={quote(f'-c role={roles[1]}')}"
    assert everindex("migrate", DATABASE_URL=address).status == 0
    ended = everindex("import", "-", "--format", "jsonl", stdin=source(), DATABASE_URL=address)
    assert ended.status == 0, ended.stderr
    assert "loading first, then building the index once" in ended.stderr
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass"
        ).fetchone()
    assert row == (True,)


def test_up_serves_and_tune_changes_the_index_under_a_role_of_the_address(
    database: str, roles: tuple[str, str]
) -> None:
    address = f"{url_of(database)}?options={quote(f'-c role={roles[1]}')}"
    assert everindex("migrate", DATABASE_URL=address).status == 0
    assert everindex("import", "-", "--format", "jsonl", stdin=source(), DATABASE_URL=address).status == 0
    effort = ("--queries", "10", "--max-seconds", "60", "--recall", "0.5")
    tuned = everindex("tune", *effort, "--apply", "--json", DATABASE_URL=address)
    assert tuned.status == 0, tuned.stderr
    assert tuned.json["tuned"][0]["applied"]["outcome"] in ("replaced", "already-there")
    back = everindex("tune", "--reset", DATABASE_URL=address)
    assert back.status == 0, back.stderr
    # A database that has articles is not filled with the sample.
    with Running("up", "--port", "0", DATABASE_URL=address, EVERINDEX_KEEP_RECALL_SECONDS="0") as up:
        url = up.url(seconds=120)
        with urlopen(f"{url.rstrip('/')}/readyz", timeout=30) as answer:
            assert json.load(answer)["ready"] is True
        assert up.end(signal.SIGTERM) == 0
    assert "internal:" not in up.output
    with psycopg.connect(database) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(roles[1])))
        assert connection.execute("SELECT count(*), count(embedding) FROM articles").fetchone() == (ROWS, ROWS)


@pytest.fixture
def seen_from_elsewhere(empty: str, roles: tuple[str, str]) -> Callable[[], psycopg.Connection]:
    """Opens connections whose role may not see what the sessions of others do."""

    def opened() -> psycopg.Connection:
        connection = psycopg.connect(empty, autocommit=True)
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(roles[1])))
        return connection

    return opened


def test_what_is_hidden_of_others_is_left_out_of_what_is_said_about_them(
    empty: str, seen_from_elsewhere: Callable[[], psycopg.Connection]
) -> None:
    with psycopg.connect(empty, autocommit=True) as other, seen_from_elsewhere() as connection:
        other.execute("CREATE TABLE public.articles (embedding int)")
        assert try_lock(other, "build")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT FROM public.articles")
        other.execute("LOCK TABLE public.articles IN SHARE UPDATE EXCLUSIVE MODE")
        pid = other.info.backend_pid
        assert holder_of(connection, "build") == f"pid {pid} (no application name)"
        assert conflicting_session(connection, "public", "articles") == f"pid {pid}"
        blocker = next(each for each in find_blockers(connection, EMBEDDING_INDEX) if each.pid == pid)
        assert blocker.sentence == f"pid {pid} has held a snapshot"
        assert blocker_of(connection, pid) == f"pid {pid} has had a transaction open"


def test_a_statement_that_waits_too_long_is_cancelled_under_a_role_that_may_not_signal_its_own_login(
    empty: str, roles: tuple[str, str]
) -> None:
    conninfo = make_conninfo(empty, options=f"-c role={roles[1]}")
    spec = replace(EMBEDDING_INDEX, build=BuildPolicy(wait_for_transactions_seconds=0.2))
    with psycopg.connect(empty, autocommit=True) as other, connect(conninfo) as connection:
        other.execute("SELECT pg_advisory_lock(7)")
        operation = Operation(conninfo=conninfo, spec=spec, reporter=Reporter())
        with pytest.raises(LockNotObtained, match="was given up"):
            run_watched(operation, connection, "waiting", sql.SQL("SELECT pg_advisory_lock(7)").format())
