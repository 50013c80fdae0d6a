"""The server process of a home: found, started and stopped under locks that end with their processes.

Every function expects its caller to hold the start mutex of the home. The server itself holds `server.lock`, shared,
through a descriptor that it and all its children inherit: as long as one of them lives anywhere, in another container
too, nobody can take that lock exclusively. This is the one lock that is inherited on purpose.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from everindex.errors import EmbeddedServerFailed
from everindex.pg.embedded.account import as_account, give_to, reaches
from everindex.pg.embedded.cluster import Cluster, log_since, open_log, write_config
from everindex.pg.embedded.postmaster import Postmaster, alive_postmaster, read_postmaster, try_lock
from everindex.pg.embedded.programs import run_program, server_environment

logger = logging.getLogger(__name__)

#: Recovery after a crash replays up to max_wal_size (4 GB), which takes minutes on a slow disk.
START_LIMIT_SECONDS = 600.0
STOP_LIMIT_SECONDS = 240
#: How long the children of a killed server may take to notice and end.
ORPHANS_LIMIT_SECONDS = 15.0
#: How long a server may take from its birth until it writes postmaster.pid.
BIRTH_LIMIT_SECONDS = 2.0
POLL_SECONDS = 0.01
SOCKET_PREFIX = "everindex-"
#: `<directory>/.s.PGSQL.5432.lock` has to fit into the 107 bytes of a socket's address.
SOCKET_DIR_LIMIT_BYTES = 85


def start(cluster: Cluster, settings: Mapping[str, str]) -> Postmaster:
    """Starts the server and returns once it takes connections. Recovers what a crashed server has left.

    Raises EmbeddedServerFailed with the last lines of the log, and then no process of this server is left.
    """
    _disown_stale_pid(cluster)
    socket_dir = _private_socket_dir(cluster)
    try:
        write_config(cluster, socket_dir, settings)
        log = open_log(cluster)
        try:
            offset = os.fstat(log).st_size
            process = _spawn(cluster, log)
        finally:
            os.close(log)
        started = _await_ready(cluster, process, offset)
    except BaseException:
        _remove_socket_dir(socket_dir)
        raise
    logger.info(
        "started the embedded PostgreSQL %s (process %d) on %s",
        cluster.version,
        started.pid,
        cluster.data,
        extra={"event": "embedded-server-started"},
    )
    return started


def find(cluster: Cluster) -> Postmaster | None:
    """The server of this data once it takes connections; None when there is none and one may be started.

    Waits for a server that is starting, and for the last processes of one that was killed. Raises EmbeddedServerFailed
    when neither comes to an end. What stays is a server that this process cannot see, such as one in another container
    that shares the home: two servers on one data directory would destroy it, and PostgreSQL's own test does not look
    into other containers.
    """
    begun = time.monotonic()
    descriptor = os.open(cluster.home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            found = alive_postmaster(cluster.data)
            if found is not None and found.status == "ready":
                return found
            if found is None and try_lock(descriptor):
                return None
            waited = time.monotonic() - begun
            if found is None and waited > BIRTH_LIMIT_SECONDS and not (cluster.data / "postmaster.pid").exists():
                return None  # it has ended in order; what lives on is a program that it had started
            if found is None and waited > ORPHANS_LIMIT_SECONDS:
                raise _unseen(cluster)
            if waited > START_LIMIT_SECONDS:
                raise _failed_start(cluster, f"it is still not ready after {waited:.0f} s.")
            time.sleep(POLL_SECONDS)
    finally:
        os.close(descriptor)


def _unseen(cluster: Cluster) -> EmbeddedServerFailed:
    return EmbeddedServerFailed(
        f"the data in {cluster.data} is in use by a server that this process cannot see.",
        why="it runs in another container or on another machine that shares this directory.",
        next_step="run the command there (`docker exec`), or stop that server first. Nothing was changed.",
    )


def _disown_stale_pid(cluster: Cluster) -> None:
    """Keeps PostgreSQL from taking another process, or a dead one that nobody has reaped, for the server that crashed.

    The pid in postmaster.pid may by now be anybody's, most of all in a container, where numbers are few. PostgreSQL
    exempts the pid of its own parent: ours is written instead. Its second test, shared memory still in use, stays.
    """
    file = cluster.data / "postmaster.pid"
    stale = read_postmaster(cluster.data)
    if stale is None:
        file.unlink(missing_ok=True)  # empty after a loss of power; PostgreSQL would refuse to start
        return
    lines = file.read_bytes().split(b"\n")
    descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(b"\n".join([str(os.getpid()).encode(), *lines[1:]]))
        stream.truncate()
    _remove_socket_dir(stale.socket_dir)


def _private_socket_dir(cluster: Cluster) -> Path:
    """A fresh directory with a short path, which only the server's account (and root) can enter."""
    folder = Path(tempfile.gettempdir())
    # libpq takes a comma for the end of a host's name.
    fits = len(os.fsencode(folder)) <= SOCKET_DIR_LIMIT_BYTES - len(SOCKET_PREFIX) - 9 and "," not in str(folder)
    if not fits or not reaches(cluster.account, folder):
        folder = Path("/tmp")
    made = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=folder))  # mode 0700
    give_to(cluster.account, made)
    return made


def _remove_socket_dir(folder: Path) -> None:
    """Removes a directory that _private_socket_dir has made; only the socket's two files, whatever else the path is."""
    if not folder.name.startswith(SOCKET_PREFIX):
        return
    try:
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        pass  # already gone, or not ours


def _spawn(cluster: Cluster, log: int) -> subprocess.Popen[bytes]:
    """Starts `postgres` directly: `pg_ctl start` would hand the paths to a shell.

    In a session of its own, so that Ctrl-C in our terminal does not reach it. A thread waits for its end, so that a
    server that crashes or that another process stops does not stay behind as a dead entry of the process table.
    """
    lock = os.open(cluster.home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        process = subprocess.Popen(
            [cluster.binaries.program("postgres"), "-D", str(cluster.data)],
            cwd="/",
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            umask=0o077,
            start_new_session=True,
            pass_fds=(lock,),
            **as_account(cluster.account),
        )
    finally:
        os.close(lock)
    threading.Thread(target=process.wait, name=f"everindex-postgres-{process.pid}", daemon=True).start()
    return process


def _await_ready(cluster: Cluster, process: subprocess.Popen[bytes], offset: int) -> Postmaster:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    try:
        while True:
            found = read_postmaster(cluster.data)
            if found is not None and found.pid == process.pid and found.status == "ready":
                return found
            if process.poll() is not None:
                raise _failed_start(cluster, log_since(cluster, offset))
            if time.monotonic() > deadline:
                raise _failed_start(cluster, f"it was not ready after {START_LIMIT_SECONDS:.0f} s.")
            time.sleep(POLL_SECONDS)
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            process.wait(STOP_LIMIT_SECONDS)
        raise


def _failed_start(cluster: Cluster, why: str) -> EmbeddedServerFailed:
    return EmbeddedServerFailed(
        f"the embedded PostgreSQL {cluster.version} could not be started.",
        why=why,
        next_step=f"fix the reported problem; the whole log is {cluster.log}. The data was not removed.",
    )


def stop(cluster: Cluster) -> None:
    """Stops the server and waits for its end; does nothing when none runs. Raises EmbeddedServerFailed."""
    found = alive_postmaster(cluster.data)
    if found is None:
        return
    argv = [cluster.binaries.program("pg_ctl"), "stop", "-D", str(cluster.data), "-m", "fast", "-w", "-s"]
    result = run_program([*argv, "-t", str(STOP_LIMIT_SECONDS)], cluster.account)
    if result.returncode != 0 and alive_postmaster(cluster.data) is not None:
        raise EmbeddedServerFailed(
            f"the embedded PostgreSQL (process {found.pid}) could not be stopped.",
            why="pg_ctl printed: " + ((result.stderr or result.stdout).strip() or f"status {result.returncode}"),
            next_step=f"look into {cluster.log}; the next command uses the server as it is.",
        )
    _remove_socket_dir(found.socket_dir)
    logger.info(
        "stopped the embedded PostgreSQL (process %d) on %s",
        found.pid,
        cluster.data,
        extra={"event": "embedded-server-stopped"},
    )
