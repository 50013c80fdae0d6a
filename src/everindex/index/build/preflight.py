"""The preflight check of a build: the sessions that it will wait for, and whether disk and shared memory suffice.

Reads only. Raises only when the index certainly does not fit; when nothing is known about the machine, it reports
nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from everindex.errors import DiskSpaceShort
from everindex.index.activity.blockers import find_blockers, vacuums_on
from everindex.index.build.shared_memory import SharedMemory, free_bytes, see_shared_memory
from everindex.index.spec import IndexSpec, NamedIndex
from everindex.pg.connections import Connection
from everindex.pg.pooler import route_of
from everindex.units import size_text

#: A parallel build allocates its maintenance_work_mem in shared memory at once, and PostgreSQL has other data in there.
SHARED_MEMORY_HEADROOM = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMachine:
    """What is known about the server's machine; None for values that are hidden from this user or on another machine."""

    disk_free_bytes: int | None
    shared_memory: SharedMemory

    @property
    def shared_memory_free_bytes(self) -> int | None:
        return self.shared_memory.free_bytes


def see_machine(connection: Connection) -> ServerMachine:
    """Inspects the backend of this connection through /proc, if it runs on this machine. Reads only."""
    pid = route_of(connection).server_pid
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            is_here = b"postgres" in file.read()
    except OSError:
        is_here = False
    if not is_here or not _is_ours(connection, pid):
        return ServerMachine(disk_free_bytes=None, shared_memory=see_shared_memory(connection, pid=None))
    return ServerMachine(
        disk_free_bytes=free_bytes(f"/proc/{pid}/cwd"),  # a backend works in its data directory
        shared_memory=see_shared_memory(connection, pid=pid),
    )


def warnings_before(connection: Connection, spec: NamedIndex) -> list[str]:
    """The sessions that the build will wait for, one sentence each. Reads only."""
    return [
        *(f"the build waits for this to end: {blocker.sentence}" for blocker in find_blockers(connection, spec)),
        *vacuums_on(connection, spec),
    ]


def require_disk(spec: IndexSpec, machine: ServerMachine, *, needed_bytes: int) -> None:
    """Raises DiskSpaceShort when the index will certainly not fit; does nothing when the free space is unknown."""
    free = machine.disk_free_bytes
    if free is not None and free < needed_bytes:
        raise DiskSpaceShort(
            f"index {spec.qualified_name} needs about {size_text(needed_bytes)} of disk space, but only {size_text(free)} is "
            "free.",
            why="a build that fills the disk stops the whole server.",
            next_step="free some space, or move the data directory, then run the same command again; nothing was changed.",
        )


def _is_ours(connection: Connection, pid: int) -> bool:
    """True when the local process with that pid is the backend. Its age is compared, since a pid of another machine may belong
    to any process here."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    age_here = uptime - ticks / os.sysconf("SC_CLK_TCK")
    age_there = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8 FROM pg_catalog.pg_stat_activity WHERE pid = %s",
        (pid,),
    ).fetchone()
    # NULL when the session's current role may not see its own row, for example after SET ROLE to a role that is not a member.
    return age_there is not None and age_there[0] is not None and abs(age_here - age_there[0]) < 2.0
