"""The source of the shared memory of a parallel build on a server, and the free space there.

`dynamic_shared_memory_type` determines it: `posix` is /dev/shm; `mmap` is files in pg_dynshmem of the data directory, which
take disk space in addition to the index; `sysv` is segments within the kernel's limits. Reads only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from everindex.pg.connections import Connection

Kind = Literal["posix", "mmap", "sysv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """What is known about it; `free_bytes` is None when that cannot be determined."""

    kind: Kind
    free_bytes: int | None
    is_on_data_disk: bool = False
    """True when it uses space on the disk of the data directory."""

    def holds(self, needed_bytes: int, *, beside_bytes: int) -> bool:
        """Whether a build gets `needed_bytes` while its index takes `beside_bytes` of the data disk; True when unknown."""
        if self.free_bytes is None:
            return True
        return self.free_bytes - (beside_bytes if self.is_on_data_disk else 0) >= needed_bytes

    def shortage(self) -> str:
        """Describes what is too small for a parallel build, and what to do about it."""
        match self.kind:
            case "posix":
                return (
                    "shared memory (/dev/shm) is too small for a parallel build, so one process built the index; "
                    "give the container shm_size of at least maintenance_work_mem + 64 MB"
                )
            case "mmap":
                return (
                    "shared memory (pg_dynshmem, on the data disk: dynamic_shared_memory_type is mmap) has no space for a "
                    "parallel build in addition to the index, so one process built the index; free some disk space, or lower "
                    "maintenance_work_mem"
                )
            case "sysv":
                return (
                    "shared memory (System V, within kernel.shmmax and kernel.shmall) is too small for a parallel build, so "
                    "one process built the index; raise these limits, or set dynamic_shared_memory_type = posix"
                )


def see_shared_memory(connection: Connection, *, pid: int | None) -> SharedMemory:
    """The shared memory of the server; the free space is known only if its backend `pid` runs on this machine (None if not)."""
    row = connection.execute("SELECT pg_catalog.current_setting('dynamic_shared_memory_type')").fetchone()
    name = "posix" if row is None else str(row[0])
    match name:
        case "mmap":
            free = None if pid is None else free_bytes(f"/proc/{pid}/cwd/pg_dynshmem")
            at_home = None if pid is None else _device(f"/proc/{pid}/cwd")
            is_on_disk = at_home is None or at_home == _device(f"/proc/{pid}/cwd/pg_dynshmem")
            return SharedMemory(kind="mmap", free_bytes=free, is_on_data_disk=is_on_disk)
        case "sysv":
            return SharedMemory(kind="sysv", free_bytes=None if pid is None else _sysv_free(pid))
        case "posix":
            return SharedMemory(
                kind="posix", free_bytes=None if pid is None else free_bytes(f"/proc/{pid}/root/dev/shm")
            )
        case _:
            return SharedMemory(kind="posix", free_bytes=None)  # another operating system, such as Windows


def free_bytes(path: str) -> int | None:
    """The free space on the file system of `path`; None when that cannot be determined."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _sysv_free(pid: int) -> int | None:
    """The largest segment that the kernel would grant now. Limits and segments belong to an IPC namespace: ours is inspected,
    and the result is meaningful only if the server is in the same one."""
    try:
        if os.stat(f"/proc/{pid}/ns/ipc").st_ino != os.stat("/proc/self/ns/ipc").st_ino:
            return None
        with open("/proc/sys/kernel/shmmax", encoding="ascii") as file:
            largest = int(file.read())
        with open("/proc/sys/kernel/shmall", encoding="ascii") as file:
            total = int(file.read()) * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/sysvipc/shm", encoding="ascii") as file:
            heads, *lines = file.read().splitlines()
        size = heads.split().index("size")
        used = sum(int(line.split()[size]) for line in lines)
    except (OSError, ValueError, IndexError):
        return None
    return max(0, min(largest, total - used))
