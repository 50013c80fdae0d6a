"""What the tests of the index engine share: a small table of vectors, blockers, and a look at the catalog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from by_hand import rows
from everindex.index.activity.progress import Progress
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX

DIMENSIONS = 64
SPEC = IndexSpec(name="items_embedding_idx", table="items", column="embedding")


def clusters_of_vectors(count: int, dimensions: int, *, seed: int = 7, clusters: int = 40) -> np.ndarray:
    """(count, dimensions) float32 in clusters, as articles about the same things lie."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dimensions))
    return (centres[random.integers(clusters, size=count)] + 0.35 * random.normal(size=(count, dimensions))).astype(
        np.float32
    )


def fill_items(conninfo: str, *, count: int, dimensions: int = DIMENSIONS) -> np.ndarray:
    """Table `items` (id 0 … count - 1) with vectors and statistics, without an index."""
    vectors = clusters_of_vectors(count, dimensions)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
        connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 0, embedding vector({dimensions}))")
        with connection.cursor().copy("COPY items (id, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "vector"])
            for number, vector in enumerate(vectors):
                copy.write_row([number, vector])
        connection.execute("ANALYZE items")
    return vectors


def fill_before_index(conninfo: str) -> None:
    """The chain up to the revision before the index, and 300 articles; the width is EVERINDEX_DIMENSIONS."""
    runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
    with psycopg.connect(conninfo) as connection:
        connection.cursor().executemany(
            "INSERT INTO articles (uri, title, embedding) VALUES (%s, %s, %s::vector)",
            [(f"u{n}", f"title {n}", str(v.tolist())) for n, v in enumerate(clusters_of_vectors(300, DIMENSIONS))],
        )


def state(conninfo: str, table: str = "items") -> list[tuple[Any, ...]]:
    """(name, is it valid) of every index on the table but btrees and that of the words."""
    return rows(
        conninfo,
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "WHERE i.indrelid = %s::regclass AND m.amname NOT IN ('btree', 'gin') ORDER BY 1",
        table,
    )


@dataclass
class Heard:
    """Everything that an operation told."""

    lines: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    @property
    def reporter(self) -> Reporter:
        return Reporter(say=self.lines.append, notice=self.notices.append, progress=self.progress.append)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def wait_until(question: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """The first true answer; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def builder_in_phase(conninfo: str, phase: str) -> int:
    """Waits until a build of this database is in a phase that begins so; the pid of its backend."""
    found = wait_until(
        lambda: rows(
            conninfo,
            "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE %s || '%%'",
            phase,
        )
    )
    return int(found[0][0])


OLD_SNAPSHOT = "waiting for old snapshots"
WRITERS = "waiting for writers before build"


@contextmanager
def blocked_in(conninfo: str, phase: str, *, table: str = "items") -> Iterator[int]:
    """While the block runs, a build on the table cannot get past `phase`; yields the pid of who holds it up."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_catalog.pg_class")
        if phase == WRITERS:
            # Not a write of a row: the rows have to stay as they are, and this has a writer's lock.
            connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(sql.Identifier(table)))
        yield connection.info.backend_pid
        connection.rollback()


class InBackground(threading.Thread):
    """Runs a function in a thread and keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as exc:
            self.error = exc

    def finish(self, seconds: float = 30.0) -> Any:
        """The result, or raises the function's error."""
        self.join(seconds)
        assert not self.is_alive(), "it did not end in time"
        if self.error is not None:
            raise self.error
        return self.result
