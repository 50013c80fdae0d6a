"""Shared use of a home's embedded server by many processes: the first one starts it, the last one stops it.

Two files in the home carry the answer, both locked with flock, which the kernel gives back however a process ends:
`start.lock`, exclusive, while somebody starts or stops the server; `users.lock`, shared, as long as a process uses it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from everindex.errors import EmbeddedServerFailed
from everindex.pg.embedded.cluster import Cluster, make_home, open_cluster
from everindex.pg.embedded.postmaster import Postmaster, alive_postmaster, try_lock
from everindex.pg.embedded.process import find, start, stop
from everindex.pg.embedded.programs import Binaries, embedded_binaries

__all__ = ["Binaries", "embedded_binaries", "running"]

USER = "everindex"
#: How long a server that runs may take to answer: it recovers by itself when one of its processes has crashed.
ANSWER_LIMIT_SECONDS = 60.0


@contextmanager
def running(
    home: Path,
    *,
    binaries: Binaries | None = None,
    database: str = "everindex",
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Runs the embedded server of this home and yields a libpq connection string of the superuser `everindex`.

    Makes server and database when they are missing. Several processes and threads may be inside at once; the last one
    to leave stops the server. `settings` are added to postgresql.conf and take effect only where this call starts the
    server. Raises EmbeddedServerFailed, on leaving too. In a process forked inside, leaving changes nothing.
    """
    with _told_as_failure(home):
        absolute = make_home(home)
        users = _open_lock(absolute / "users.lock")
    try:
        with _told_as_failure(home), _locked(absolute / "start.lock"):
            cluster, conninfo = _enter(absolute, users, binaries or embedded_binaries(), database, settings or {})
        pid = os.getpid()
        try:
            yield conninfo
        finally:
            if os.getpid() == pid:
                with _told_as_failure(home), _locked(absolute / "start.lock"):
                    _leave(cluster, users)
    finally:
        os.close(users)


def _enter(
    home: Path, users: int, binaries: Binaries, database: str, settings: Mapping[str, str]
) -> tuple[Cluster, str]:
    """Attaches to the server or starts it, and counts this caller among its users. Under the start mutex."""
    cluster = open_cluster(home, binaries)
    fcntl.flock(users, fcntl.LOCK_SH)
    try:
        found = find(cluster)
        try:
            conninfo = _attach(cluster, found or start(cluster, settings), database)
        except EmbeddedServerFailed:
            if found is None or alive_postmaster(cluster.data) is not None:
                raise
            # It was found in its last moment: killed just now, and not gone yet.
            conninfo = _attach(cluster, start(cluster, settings), database)
    except BaseException:
        _leave(cluster, users)
        raise
    return cluster, conninfo


def _attach(cluster: Cluster, server: Postmaster, database: str) -> str:
    conninfo = make_conninfo(host=str(server.socket_dir), port=5432, user=USER, dbname=database)
    _require_database(cluster, server, conninfo, database)
    return conninfo


def _leave(cluster: Cluster, users: int) -> None:
    """Gives up this caller's place and stops the server when nobody else has one. Under the start mutex.

    The lock is released by name, not by closing: a child forked meanwhile may hold a copy of the descriptor.
    """
    fcntl.flock(users, fcntl.LOCK_UN)
    if try_lock(users):
        try:
            stop(cluster)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)


def _require_database(cluster: Cluster, server: Postmaster, conninfo: str, database: str) -> None:
    """Proves that the server answers, and creates the database when it is missing.

    Takes no lock on existing objects. Raises EmbeddedServerFailed when it does not answer in time.
    """
    deadline = time.monotonic() + ANSWER_LIMIT_SECONDS
    always_there = make_conninfo(conninfo, dbname="postgres", connect_timeout=10)
    while True:
        try:
            with psycopg.connect(always_there, autocommit=True) as link:
                if link.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [database]).fetchone() is None:
                    link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
                return
        except psycopg.Error as exc:
            may_recover = isinstance(exc, psycopg.OperationalError) and time.monotonic() < deadline
            has_socket = (server.socket_dir / ".s.PGSQL.5432").exists()
            if may_recover and has_socket and alive_postmaster(cluster.data) is not None:
                time.sleep(0.1)
                continue
            raise EmbeddedServerFailed(
                f"the embedded PostgreSQL (process {server.pid}) runs but does not answer on {server.socket_dir}.",
                why=str(exc).strip(),
                next_step=f"look into {cluster.log}, or end that process and run the command again.",
            ) from exc


def _open_lock(file: Path) -> int:
    """A descriptor of its own for each caller, so that threads exclude each other too; no child process inherits it."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds the exclusive flock of this file; waits for it without a limit, and Ctrl-C ends the wait."""
    descriptor = _open_lock(file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _told_as_failure(home: Path) -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired as exc:
        raise EmbeddedServerFailed(
            f"the embedded server in {home} cannot be used: {Path(exc.cmd[0]).name} did not finish.",
            why=f"its time limit is {exc.timeout:.0f} s.",
            next_step="check whether the disk is full or very slow, then run the command again.",
        ) from exc
    except OSError as exc:
        raise EmbeddedServerFailed(
            f"the embedded server in {home} cannot be used: {exc.filename or 'a system call'} failed.",
            why=exc.strerror or str(exc),
            next_step="give this account access, or set EVERINDEX_HOME to a directory that it owns.",
        ) from exc
