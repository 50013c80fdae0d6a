"""Attacks on the engine: a client that stops where it is told, three ways to kill, and what has to be true afterwards."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import make_conninfo

import scene
from by_hand import rows, run
from everindex.articles.search.keyword.index import ensure as keyword_index
from everindex.errors import EverindexError
from everindex.index.catalog.generations import previous_name, read_note
from everindex.index.catalog.observe import observe
from everindex.index.deploy import executor as apply
from everindex.index.plan.planner import make_plan
from everindex.index.reporter import Reporter
from everindex.pg.embedded import running as embedded
from load_kinds import LOAD_KINDS
from places import open_place
from plan_kinds import KINDS as VECTOR_KINDS
from plan_kinds import Kind
from scene import wait_until
from warm import PROCESSES
from word_kinds import WORD_KINDS

KINDS = (*VECTOR_KINDS, *WORD_KINDS, *LOAD_KINDS)
BY_NAME = {kind.name: kind for kind in KINDS}
#: Where a step is taken: of a deploy, and of the index of the words.
TAKING = (apply, keyword_index)
#: Statements that change the catalog, or take a lock for it; a look at the catalog is no moment worth dying at.
_CHANGES = re.compile(r"\s*(CREATE (?!TEMP)|DROP|ALTER|COMMENT|REINDEX|UPDATE|ANALYZE|LOCK)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a client came to its end by itself."""

    error: str | None
    is_ours: bool
    """True for success, and for an error of our own tree: three lines and no traceback."""

    moments: tuple[str, ...]
    """What could have been interrupted, in order."""


def _client(pipe: Pipe, conninfo: str, kind_name: str, stop_at: int | None) -> None:
    """The program of a client process: does what the kind asks for, and stops at moment number `stop_at`."""
    moments: list[str] = []

    def moment(label: str) -> None:
        moments.append(label)
        if len(moments) == stop_at:
            pipe.send(label)
            pipe.recv()

    execute = psycopg.Connection.execute

    def taking(take: Any, work: Any, connection: Any, step: Any, observed: Any) -> None:
        moment(f"before {type(step).__name__}")
        take(work, connection, step, observed)
        moment(f"after {type(step).__name__}")

    def executing(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        result = execute(self, query, *args, **options)
        text = query.as_string(None) if isinstance(query, sql.Composable) else str(query)
        if _CHANGES.match(text):
            moment(f"in {' '.join(text.split())[:60]}")
        return result

    for module in TAKING:
        module.take_step = partial(taking, module.take_step)  # type: ignore[attr-defined]
    psycopg.Connection.execute = executing  # type: ignore[method-assign,assignment]
    error, is_ours = None, True
    try:
        BY_NAME[kind_name].do(conninfo, reporter=Reporter(progress=lambda progress: None))
    except BaseException as exc:
        is_ours = isinstance(exc, EverindexError) and len(str(exc).split("\n")) == 3
        error = f"{type(exc).__name__}: {exc}"
    pipe.send(Ended(error=error, is_ours=is_ours, moments=tuple(moments)))


def _start_forkserver() -> None:
    """Python before 3.13 looks for what is to be preloaded in PYTHONPATH alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


class Client:
    """A process of its own that deploys, and may be stopped at a moment, let go, or killed."""

    def __init__(self, conninfo: str, kind: Kind, *, stop_at: int | None = None) -> None:
        _start_forkserver()
        self._pipe, other = PROCESSES.Pipe()
        self.process: BaseProcess = PROCESSES.Process(
            target=_client, args=(other, conninfo, kind.name, stop_at), daemon=True
        )
        self.process.start()
        other.close()

    def hear(self, *, seconds: float = 60.0) -> str | Ended | None:
        """The label of the moment where it stopped, or how it ended; None when it was killed."""
        assert self._pipe.poll(seconds), "the client neither stopped nor ended in time"
        try:
            heard: str | Ended = self._pipe.recv()
        except EOFError:
            return None
        return heard

    def has_ended(self, seconds: float) -> bool:
        """Waits so long at most for it to end."""
        return self._pipe.poll(seconds)

    def go_on(self) -> None:
        self._pipe.send("go on")

    def kill(self) -> None:
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join(10)

    def close(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(10)
        self._pipe.close()


@contextmanager
def client(conninfo: str, kind: Kind, *, stop_at: int | None = None) -> Iterator[Client]:
    started = Client(conninfo, kind, stop_at=stop_at)
    try:
        yield started
    finally:
        started.close()


def moments_of(conninfo: str, kind: Kind) -> tuple[str, ...]:
    """The moments of an order that nobody interrupts, and that ends well."""
    with client(conninfo, kind) as undisturbed:
        ended = undisturbed.hear()
    assert isinstance(ended, Ended)
    assert ended.error is None, ended.error
    return ended.moments


def numbers_of(moments: tuple[str, ...]) -> list[int]:
    """Which of the moments to stop at: of those that a proof repeats for its queries, the first two."""
    seen: dict[str, int] = {}
    chosen = []
    for number, label in enumerate(moments, start=1):
        if not label.startswith("in "):
            seen.clear()
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 2:
            chosen.append(number)
    return chosen


# --- how to kill -----------------------------------------------------------------------------------------------------


def backends(conninfo: str) -> list[tuple[int, str]]:
    """(pid, application_name) of everindex's sessions in this database."""
    return rows(
        conninfo,
        "SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND starts_with(application_name, 'everindex') ORDER BY backend_start",
    )


def end_backends(conninfo: str, pids: list[int]) -> None:
    for pid in pids:
        run(conninfo, f"SELECT pg_terminate_backend({pid})")
    wait_until(lambda: not rows(conninfo, "SELECT FROM pg_stat_activity WHERE pid = ANY(%s)", pids))


def stop_at_once(conninfo: str) -> None:
    """PostgreSQL's immediate shutdown of the whole server: no checkpoint, recovery at the next start."""
    data = rows(conninfo, "SHOW data_directory")[0][0]
    postmaster = int(Path(data, "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
    os.kill(postmaster, signal.SIGQUIT)


# --- what has to be true afterwards ----------------------------------------------------------------------------------


#: Ids from here on are of rows that are written during an attack.
WRITTEN = 50_000


def checksum(conninfo: str) -> tuple[Any, ...]:
    """Rows of `items` that were there before, and what is in them."""
    return rows(
        conninfo, f"SELECT count(*), md5(string_agg(i::text, '' ORDER BY id)) FROM items i WHERE id < {WRITTEN}"
    )[0]


def mended(conninfo: str, kind: Kind) -> None:
    """One more run, by nobody's hand; then everything that has to be true is."""
    kind.mend(conninfo)
    assert_mended(conninfo, kind)


def assert_mended(conninfo: str, kind: Kind) -> None:
    if kind.check is not None:
        kind.check(conninfo, kind)
        wait_until(lambda: not _advisory_locks(conninfo))
        return
    found = _vector_indexes(conninfo)
    if kind.ends_without:
        assert found == [], found
        return
    with psycopg.connect(kind.connects_to(conninfo), autocommit=True) as connection:
        observed = observe(connection, kind.spec)
    policy = replace(kind.policy, rebuild_because=None)
    plan = make_plan(kind.spec, observed, policy=policy, now=datetime.now(UTC))
    assert plan.steps == (), plan.steps
    _assert_one_serves(kind, found)
    if kind.rows:
        _assert_search_works(conninfo, kind)
    wait_until(lambda: not _advisory_locks(conninfo))


def _vector_indexes(conninfo: str) -> list[tuple[str, str, bool, bool, str, int, str | None, bool]]:
    """(table, index, valid, ready, opclass, m, comment, is it a partitioned one) on `items` and all below it."""
    return [
        (table, name, is_valid, is_ready, opclass, int(dict(o.split("=") for o in options or []).get("m", 16)), *rest)
        for table, name, is_valid, is_ready, opclass, options, *rest in rows(
            conninfo,
            "SELECT t.relname, c.relname, i.indisvalid, i.indisready AND i.indislive, o.opcname, c.reloptions, "
            "       obj_description(c.oid, 'pg_class'), c.relkind = 'I', "
            "       (SELECT p.relname FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent WHERE h.inhrelid = c.oid) "
            "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "JOIN pg_class t ON t.oid = i.indrelid JOIN pg_opclass o ON o.oid = i.indclass[0] "
            "WHERE a.amname = 'hnsw' ORDER BY 1, 2",
        )
    ]


def _assert_one_serves(kind: Kind, found: list[Any]) -> None:
    """Of the declared definition, under the declared name, valid; beside it at most a whole previous generation."""
    name, previous = kind.spec.name, previous_name(kind.spec.name)
    for table in {row[0] for row in found}:
        kept: list[Any] = []
        serving: list[Any] = []
        for _, index, is_valid, is_ready, opclass, m, comment, _, parent in (row for row in found if row[0] == table):
            root = _root(index, parent, found)
            assert is_ready, (index, "is dead or was never whole")
            if root == previous:
                kept.append(index)
                is_hidden = root == index and read_note(comment).is_hidden
                assert is_valid or is_hidden or parent is not None, (index, "is INVALID and was not hidden by us")
                if kind.role is None and opclass in {spec.opclass for spec in kind.serves}:
                    assert not is_valid, (index, "would be weighed against the one that serves")
                continue
            assert root == name, (index, "is left over", found)
            assert is_valid, (index, "is INVALID")
            assert (opclass, m) in {(spec.opclass, spec.m) for spec in kind.serves}, (index, opclass, m)
            serving.append(index)
        assert len(serving) == 1, found
        assert len(kept) <= 1, found


def _root(index: str, parent: str | None, found: list[Any]) -> str:
    while parent is not None:
        index = parent
        parent = next(row[8] for row in found if row[1] == index)
    return index


def _assert_search_works(conninfo: str, kind: Kind) -> None:
    """The planner takes the serving index, and rows find themselves through it."""
    observed_names = {
        row[1] for row in _vector_indexes(conninfo) if row[2] and previous_name(kind.spec.name) not in row[1]
    }
    with psycopg.connect(conninfo) as connection:
        register_vector(connection)
        key = "embedding" if kind.spec.key_type == "vector" else f"embedding::halfvec({scene.DIMENSIONS})"
        wanted = "%(v)s" if kind.spec.key_type == "vector" else f"%(v)s::halfvec({scene.DIMENSIONS})"
        search = f"SELECT id FROM items ORDER BY {key} <=> {wanted} LIMIT 1"
        stored = connection.execute(
            "SELECT id, embedding FROM items WHERE embedding IS NOT NULL ORDER BY id"
        ).fetchall()
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        plan = str(connection.execute(f"EXPLAIN {search}", {"v": stored[0][1]}).fetchall())
        assert any(name in plan for name in observed_names), plan
        sample = stored[:: max(1, len(stored) // 20)]
        hits = sum(connection.execute(search, {"v": vector}).fetchone() == (number,) for number, vector in sample)
        assert hits >= kind.least_hits * len(sample), hits


def _advisory_locks(conninfo: str) -> list[Any]:
    return rows(
        conninfo,
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())",
    )


# --- a server that may be stopped at once ----------------------------------------------------------------------------


class Victim:
    """A server of its own that keeps what it has acknowledged (fsync is on), with a database for every attack."""

    def __init__(self, home: Path, *, settings: dict[str, str] | None = None) -> None:
        self._home = home
        self._settings = {
            # A parallel build takes this much shared memory at once, and page by page: of a hundred builds that is the time.
            "maintenance_work_mem": "64MB",
            # What a server leaves that is stopped while it makes room for a parallel build goes with its data directory;
            # in /dev/shm it would stay, and nobody else can tell it from what a living server has put aside there.
            "dynamic_shared_memory_type": "mmap",
        } | (settings or {})
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()
        self._running = ExitStack()
        self.admin = ""

    def start(self) -> None:
        self.admin = self._running.enter_context(embedded.running(self._home, settings=self._settings))

    @property
    def log(self) -> Path:
        return self._home / "postgresql.log"

    def stop_at_once(self) -> None:
        stop_at_once(self.admin)
        self.close()

    def close(self) -> None:
        self._running.close()

    def conninfo(self, database: str) -> str:
        """Valid until the next stop: a server that starts again has another socket."""
        return make_conninfo(self.admin, dbname=database)

    def database(self, kind: Kind, *, count: int) -> str:
        """A new database in the kind's starting state, cloned; its name."""
        template = f"{kind.name}-{count}"
        if template not in self._templates:
            base = f"items-{count}"
            if base not in self._templates:
                self._create(base, "template0")
                scene.fill_items(self.conninfo(base), count=count)
                self._templates.add(base)
            self._create(template, base)
            kind.prepare(self.conninfo(template))
            self._templates.add(template)
        name = f"attack_{next(self._numbers)}"
        self._create(name, template)
        return name

    def drop(self, name: str) -> None:
        run(self.admin, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, name: str, template: str) -> None:
        run(
            self.admin,
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            ),
        )


@contextmanager
def victim(**settings: str) -> Iterator[Victim]:
    with open_place() as place:
        made = Victim(place / "server", settings=settings)
        made.start()
        try:
            yield made
        finally:
            made.close()
