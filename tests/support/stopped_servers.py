"""Servers that are stopped, or stand still with all their processes, while somebody uses them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg


@contextmanager
def frozen(admin: str) -> Iterator[None]:
    """The server and all its processes are stopped for the time of the block, as in a container that is paused."""
    postmaster = pid_of(admin)
    stopped = [postmaster]
    os.kill(postmaster, signal.SIGSTOP)  # first, so that it makes no others
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == postmaster:
                os.kill(int(stat.parent.name), signal.SIGSTOP)
                stopped.append(int(stat.parent.name))
    try:
        yield
    finally:
        for pid in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pid_of(admin: str) -> int:
    with psycopg.connect(admin, autocommit=True) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(str(row[0]).split()[0])


def stop(admin: str) -> None:
    os.kill(pid_of(admin), signal.SIGINT)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            psycopg.connect(admin).close()
        except psycopg.OperationalError as exc:
            if "shutting down" not in str(exc):
                return
        time.sleep(0.05)
    raise AssertionError("the server did not stop")
