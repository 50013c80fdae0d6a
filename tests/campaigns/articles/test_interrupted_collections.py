"""Operations on collections that are killed at any moment: what is left is whole, and the next run completes or removes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import collection_process
from collection_process import OPERATIONS, ROWS, VECTORS
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import CollectionNotFound
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.recall.verify import prove_index
from everindex.settings import Settings

PROCESS = Path(collection_process.__file__)
SHORT, LONG = 4, 40
INDEXES = "SELECT relname FROM pg_class WHERE relkind = 'i' AND relname ~ '(hnsw|where_.*|words)_idx' ORDER BY 1"


class Killed:
    """A process that forks for each operation, and the database that it works on."""

    def __init__(self, conninfo: str, process: subprocess.Popen[str], connection: psycopg.Connection) -> None:
        self.conninfo = conninfo
        self.connection = connection
        self._process = process

    def run_and_kill(self, operation: str, *, within_seconds: float) -> None:
        """Starts the operation and kills its process at a random moment; returns when the server has noticed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{operation}\n")
        pid = int(self._process.stdout.readline())
        time.sleep(random.uniform(0, within_seconds))  # the moment is what is drawn
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while self.backends():
            assert time.monotonic() < deadline, self.backends()
            time.sleep(0.02)

    def backends(self) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        ).fetchall()

    def run(self, operation: str) -> None:
        """Runs it here, to its end."""
        with connect_instance(self.conninfo, settings=Settings()) as instance:
            OPERATIONS[operation](instance)

    def seconds_of(self, operation: str) -> float:
        started = time.monotonic()
        self.run(operation)
        return time.monotonic() - started


@contextmanager
def killed(conninfo: str) -> Iterator[Killed]:
    with (
        psycopg.connect(conninfo, autocommit=True) as connection,
        subprocess.Popen(
            [sys.executable, str(PROCESS), conninfo],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield Killed(conninfo, process, connection)
        process.stdin.close()


@pytest.fixture
def scene(cluster: Any) -> Iterator[Killed]:
    """A database with somebody's table, and nothing of everindex."""
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE theirs (nr int PRIMARY KEY, body text, v vector(64))")
        with connection.cursor().copy("COPY theirs FROM STDIN") as copy:
            for n in range(ROWS):
                copy.write_row((n, f"row {n}", str(VECTORS[n].tolist())))
    with killed(conninfo) as found:
        yield found
    cluster.drop(conninfo)


def whole(instance: Instance, name: str, *, rows: int) -> None:
    """The collection is there with all indexes, proven, and finds what it has."""
    collection = instance.collection(name)
    collection.deploy()
    assert collection.browse(k=1).total == rows
    with instance.connection() as connection:
        for spec in declared_indexes(connection, name):
            proof, _ = prove_index(connection, effective_spec(connection, spec))
            assert proof.holds, proof
    if rows:
        assert len(collection.search_vector(VECTORS[5], k=3).hits) == 3


@pytest.mark.parametrize("rounds", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_making_and_dropping_a_collection_are_done_or_undone(scene: Killed, rounds: int) -> None:
    random.seed(rounds)
    takes = scene.seconds_of("make")
    scene.run("drop")
    for _ in range(rounds):
        scene.run_and_kill("make", within_seconds=1.5 * takes)
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            is_recorded = [spec.name for spec in instance.collections()] == ["docs"]
            there = scene.connection.execute("SELECT to_regclass('docs') IS NOT NULL").fetchone()
            assert there == (is_recorded,), "the table and its record are one"
        scene.run("make")  # completes whatever was left
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            whole(instance, "docs", rows=0)
        scene.run_and_kill("drop", within_seconds=0.15)
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            with suppress(CollectionNotFound):
                instance.drop_collection("docs")
            assert instance.collections() == []
        assert scene.connection.execute("SELECT to_regclass('docs')").fetchone() == (None,)
    assert scene.connection.execute(INDEXES).fetchall() == []


@pytest.mark.parametrize("rounds", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_laying_over_a_table_never_changes_it_and_the_next_run_completes_it(scene: Killed, rounds: int) -> None:
    random.seed(rounds)
    rows = "SELECT md5(string_agg(t::text, ',' ORDER BY nr)) FROM theirs t"
    before = scene.connection.execute(rows).fetchone()
    takes = scene.seconds_of("lay")
    for _ in range(rounds):
        scene.connection.execute("DROP INDEX IF EXISTS theirs_v_hnsw_idx")
        scene.run_and_kill("lay", within_seconds=1.2 * takes)
        assert scene.connection.execute(rows).fetchone() == before
        scene.run("lay")
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            whole(instance, "theirs", rows=ROWS)
        scene.run_and_kill("forget", within_seconds=0.1)
        with connect_instance(scene.conninfo, settings=Settings()) as instance, suppress(CollectionNotFound):
            instance.drop_collection("theirs")
        assert scene.connection.execute(rows).fetchone() == before
    left = scene.connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert left == (0,)


@pytest.mark.parametrize("rounds", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_storing_and_deleting_rows_leave_rows_and_their_records_in_step(scene: Killed, rounds: int) -> None:
    random.seed(rounds)
    scene.run("make")
    takes = scene.seconds_of("fill")
    counts = (
        "SELECT (SELECT count(*) FROM docs), (SELECT count(*) FROM docs WHERE embedding IS NOT NULL), "
        "(SELECT count(*) FROM everindex_meta.collection_record WHERE collection = 'docs')"
    )
    for _ in range(rounds):
        scene.connection.execute("TRUNCATE docs, everindex_meta.collection_record")
        scene.run_and_kill("fill", within_seconds=1.2 * takes)
        found = scene.connection.execute(counts).fetchone()
        assert found is not None
        assert len(set(found)) == 1
        assert found[0] % 100 == 0, "each call is stored whole"
        scene.run("fill")
        assert scene.connection.execute(counts).fetchone() == (ROWS,) * 3
        scene.run_and_kill("delete", within_seconds=0.1)
        found = scene.connection.execute(counts).fetchone()
        assert found in ((ROWS,) * 3, (ROWS - ROWS // 5,) * 3)
        scene.run("delete")
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            whole(instance, "docs", rows=ROWS - ROWS // 5)


@pytest.mark.parametrize("rounds", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_a_partial_index_is_completed_or_removed(scene: Killed, rounds: int) -> None:
    random.seed(rounds)
    scene.run("make")
    scene.run("fill")
    takes = scene.seconds_of("add_partial")
    scene.run("drop_partial")
    for _ in range(rounds):
        scene.run_and_kill("add_partial", within_seconds=1.2 * takes)
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            whole_rows = instance.collection("docs").search_vector(VECTORS[5], filters={"part": 2}, k=200)
            assert len(whole_rows.hits) == ROWS // 5, "whatever is there, the answer is complete"
        scene.run("add_partial")
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            whole(instance, "docs", rows=ROWS)
            assert len(instance.collection("docs").partial_indexes()) == 1
        scene.run_and_kill("drop_partial", within_seconds=0.2)
        scene.run("drop_partial")
        left = scene.connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'docs_where%'").fetchone()
        assert left == (0,)
        with connect_instance(scene.conninfo, settings=Settings()) as instance:
            assert instance.collection("docs").partial_indexes() == []
