"""everindex.testing in the tests of another application: with every kind of connection, and as a pytest plugin."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from sqlalchemy.types import UserDefinedType

from everindex.errors import StatementNotCheckable
from everindex.testing import VectorIndexAssertions, assert_recall, assert_uses_vector_index

NEAREST = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10"
MINE = "SELECT id FROM mine ORDER BY embedding <=> :v LIMIT 5"
FARTHEST = "SELECT id FROM items ORDER BY embedding <=> %s DESC LIMIT 10"


class VectorColumn(UserDefinedType):
    """What pgvector-python has, as far as a statement needs it."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "vector(32)"


items = Table("items", MetaData(), Column("id", Integer), Column("n", Integer), Column("embedding", VectorColumn))


def fill(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, n int, embedding vector(32))")
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO items SELECT g, g % 100, ARRAY(SELECT random() - 0.5 + 0 * g FROM generate_series(1, 32))::vector "
            "FROM generate_series(1, 3000) g"
        )
        connection.execute("CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops)")
        connection.execute("VACUUM ANALYZE items")


@pytest.fixture(scope="module")
def searched(cluster: Any) -> Iterator[str]:
    conninfo = cluster.database(cluster.template("items_of_another_application", fill))
    yield conninfo
    cluster.drop(conninfo)


def url_of(conninfo: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql+psycopg://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"


class PlainConnection:
    """A connection as DB-API 2.0 has it and no more: what drivers that everindex does not know have in common."""

    def __init__(self, conninfo: str) -> None:
        self._connection = psycopg.connect(conninfo)
        self.autocommit = False

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE

    def cursor(self) -> Any:
        return psycopg.ClientCursor(self._connection)

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


def test_every_kind_of_connection_is_taken(searched: str) -> None:
    assert assert_uses_vector_index(searched, NEAREST).index_names == ("items_idx",)
    assert assert_uses_vector_index(url_of(searched), NEAREST).is_chosen
    with psycopg.connect(searched) as connection:
        assert assert_uses_vector_index(connection, NEAREST).is_chosen
    plain = PlainConnection(searched)
    assert assert_uses_vector_index(plain, NEAREST).is_chosen
    assert not plain.in_transaction
    with pytest.raises(AssertionError):
        assert_uses_vector_index(plain, FARTHEST)
    with pytest.raises(StatementNotCheckable, match="rejects"):
        assert_uses_vector_index(plain, "SELECT missing FROM items")
    assert not plain.in_transaction
    plain.close()
    engine = create_engine(url_of(searched), poolclass=NullPool)
    assert assert_uses_vector_index(engine, NEAREST).is_chosen
    with engine.connect() as connected:
        assert assert_uses_vector_index(connected, NEAREST).is_chosen
    with Session(engine) as session:
        assert assert_uses_vector_index(session, NEAREST).is_chosen
        session.rollback()
    with pytest.raises(TypeError, match="not int"):
        assert_uses_vector_index(5, NEAREST)


def test_every_kind_of_async_connection_is_taken_in_an_async_test(searched: str) -> None:
    async def in_a_loop() -> None:
        engine = create_async_engine(url_of(searched), poolclass=NullPool)
        assert assert_uses_vector_index(engine, NEAREST).is_chosen
        async with engine.connect() as connected:
            assert assert_uses_vector_index(connected, NEAREST).is_chosen
            await connected.execute(text("CREATE TABLE mine (id int, embedding vector(3))"))
            await connected.execute(text("CREATE INDEX mine_idx ON mine USING hnsw (embedding vector_cosine_ops)"))
            assert assert_uses_vector_index(connected, MINE).index_names == ("mine_idx",)
            with pytest.raises(AssertionError):
                assert_uses_vector_index(connected, FARTHEST)
            assert await connected.run_sync(assert_uses_vector_index, MINE)
            assert (await connected.execute(text("SELECT count(*) FROM mine"))).scalar() == 0
        assert assert_uses_vector_index(engine.connect(), NEAREST).is_chosen
        async with AsyncSession(engine) as session:
            assert assert_uses_vector_index(session, NEAREST).is_chosen
            await session.execute(text("CREATE TABLE mine (id int, embedding vector(3))"))
            await session.execute(text("CREATE INDEX mine_idx ON mine USING hnsw (embedding vector_cosine_ops)"))
            assert assert_uses_vector_index(session, MINE).index_names == ("mine_idx",)
            assert assert_recall(session, NEAREST, samples=2, at_least=0.1).queries == 2
            await session.rollback()
        for autocommit in (True, False):
            async with await psycopg.AsyncConnection.connect(searched, autocommit=autocommit) as connection:
                assert assert_uses_vector_index(connection, NEAREST).is_chosen
                assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                assert await (await connection.execute("SELECT 1")).fetchall() == [(1,)]
        await engine.dispose()

    asyncio.run(in_a_loop())


def test_async_connections_are_taken_in_a_test_that_is_not_async(searched: str) -> None:
    with asyncio.Runner() as runner:
        engine = create_async_engine(url_of(searched), poolclass=NullPool)
        assert assert_uses_vector_index(engine, NEAREST).is_chosen
        connected = runner.run(_started(engine))
        assert assert_uses_vector_index(connected, NEAREST).is_chosen
        connection = runner.run(psycopg.AsyncConnection.connect(searched))
        assert VectorIndexAssertions(connection=connection).assert_uses(NEAREST).is_chosen
        runner.run(connection.close())
        runner.run(connected.close())


async def _started(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


def test_rows_of_the_tests_own_transaction_are_seen_and_kept(searched: str) -> None:
    engine = create_engine(url_of(searched), poolclass=NullPool)
    with Session(engine) as session:
        session.execute(text("CREATE TABLE mine (id int, embedding vector(3))"))
        session.execute(text("CREATE INDEX mine_idx ON mine USING hnsw (embedding vector_cosine_ops)"))
        session.execute(text("INSERT INTO mine VALUES (1, '[1,2,3]')"))
        found = assert_uses_vector_index(session, "SELECT id FROM mine ORDER BY embedding <=> :v LIMIT 5")
        assert (found.table_rows, found.is_small_table) == (1, True)
        session.execute(text("INSERT INTO mine VALUES (2, '[1,2,3]')"))
        assert session.execute(text("SELECT count(*) FROM mine")).scalar() == 2
        session.rollback()


def test_a_select_of_sqlalchemy_brings_its_own_parameters(searched: str) -> None:
    distance = items.c.embedding.op("<=>")(literal_column("'[" + ",".join(["0.5"] * 32) + "]'::vector"))
    good = select(items.c.id).where(items.c.n.in_([1, 2, 3])).order_by(distance).limit(10)
    settings = {"enable_seqscan": "off", "hnsw.iterative_scan": "strict_order"}
    assert assert_uses_vector_index(searched, good, settings=settings).is_chosen
    vector = items.c.embedding.op("<=>")([0.5] * 32)
    assert assert_uses_vector_index(searched, select(items.c.id).order_by(vector).limit(10)).is_chosen
    with pytest.raises(AssertionError, match="descending"):
        assert_uses_vector_index(searched, select(items.c.id).order_by(vector.desc()).limit(10))
    with pytest.raises(TypeError, match="not int"):
        assert_uses_vector_index(searched, 5)


def test_the_failure_is_told_in_three_lines_and_the_plan(searched: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_uses_vector_index(searched, FARTHEST)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "vector-index-unused: the statement does not use the vector index: Seq Scan on items (items has 3,000 rows)."
    )
    assert lines[1].startswith("  why:  it orders by the distance in descending order")
    assert lines[2].startswith("  next: ORDER BY items.embedding <=> '…' LIMIT k")
    assert lines[2].endswith("PostgreSQL then uses items_idx.")
    assert lines[3] == "  plan:"
    assert any("Seq Scan on items" in line for line in lines[4:])


def test_an_index_by_name_and_the_sessions_settings_are_taken(searched: str) -> None:
    assert_uses_vector_index(searched, NEAREST, index="items_idx")
    with pytest.raises(AssertionError, match="not other_idx"):
        assert_uses_vector_index(searched, NEAREST, index="other_idx")
    with pytest.raises(AssertionError, match="enable_indexscan is off"):
        assert_uses_vector_index(searched, NEAREST, settings={"enable_indexscan": "off"})


def test_recall_fails_below_its_floor_and_holds_with_a_wider_search(searched: str) -> None:
    # Random vectors of 32 dimensions are hard: with the smallest list of candidates many neighbours are missed.
    narrow, wide = {"hnsw.ef_search": 1}, {"hnsw.ef_search": 400, "enable_seqscan": "off"}
    with pytest.raises(AssertionError) as caught:
        assert_recall(searched, NEAREST, settings=narrow, at_least=0.9)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("recall-below-floor: the statement finds ")
    assert [line[:7] for line in lines[1:]] == ["  why: ", "  next:"]
    found = assert_recall(searched, NEAREST, settings=wide, at_least=0.97)
    assert found.low <= found.recall <= found.high <= 1.0
    assert (found.k, found.queries) == (10, 20)
    assert found.low > 0.9


def test_recall_counts_rows_that_a_filter_loses(searched: str) -> None:
    filtered = "SELECT id FROM items WHERE n < 20 ORDER BY embedding <=> :v LIMIT 10"
    off, on = {"enable_seqscan": "off"}, {"enable_seqscan": "off", "hnsw.iterative_scan": "strict_order"}
    with pytest.raises(AssertionError, match="recall-below-floor"):
        assert_recall(searched, filtered, settings=off)
    assert assert_recall(searched, filtered, settings=on, at_least=0.8).recall > 0.8


def test_recall_refuses_to_compare_a_scan_with_a_scan(searched: str) -> None:
    with pytest.raises(StatementNotCheckable, match="uses no vector index"):
        assert_recall(searched, FARTHEST)
    with pytest.raises(StatementNotCheckable, match="no row to compare"):
        assert_recall(searched, "SELECT id FROM items ORDER BY embedding <=> :v LIMIT 1")


CONFTEST = """
import pytest
from everindex.testing import assert_uses_vector_index

pytest_plugins = ["everindex.testing"]
"""
TESTS = """
from everindex.testing import assert_uses_vector_index


def test_nearest(vector_index):
    vector_index.assert_uses("SELECT id FROM items ORDER BY embedding <=> %(v)s LIMIT 10", index="items_idx")


def test_farthest(vector_index):
    vector_index.assert_uses("SELECT id FROM items ORDER BY embedding <=> %(v)s DESC LIMIT 10")


def test_recall(vector_index):
    assert vector_index.assert_recall("SELECT id FROM items ORDER BY embedding <=> :v LIMIT 10", at_least=0.1).k == 10


def test_plain(vector_index_connection):
    assert_uses_vector_index(vector_index_connection, "SELECT id FROM items ORDER BY embedding <=> $1 LIMIT 10")
"""


@pytest.fixture
def application(searched: str, tmp_path: Path) -> Any:
    """Runs the tests of another application in a process of its own, warnings as errors."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_application.py").write_text(TESTS)
    parts = psycopg.conninfo.conninfo_to_dict(searched)
    url = f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
            | {"DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_the_fixture_works_as_a_plugin_of_another_project(application: Any) -> None:
    done = application()
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "vector-index-unused: the statement does not use the vector index" in done.stdout
    assert "FAILED test_application.py::test_farthest" in done.stdout
    # The test's own lines, and none of the library's.
    assert "def test_farthest" in done.stdout
    assert "testing.py" not in done.stdout
    assert "_compiled(" not in done.stdout


def test_the_library_needs_no_pytest_and_no_numpy(searched: str) -> None:
    program = (
        "import sys\nsys.modules['pytest'] = None\n"
        "import importlib.util\nfound = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'pytest' else found(name, package)\n"
        "from everindex.testing import assert_uses_vector_index\n"
        "import everindex.testing\n"
        "assert not hasattr(everindex.testing, 'vector_index')\n"
        "print(assert_uses_vector_index(sys.argv[1], sys.argv[2]).sentence)\n"
        "assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, searched, NEAREST], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "Index Scan using items_idx (items has 3,000 rows)\n"
