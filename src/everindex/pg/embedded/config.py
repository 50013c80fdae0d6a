"""The configuration of the embedded server: a postgresql.conf sized for this machine, written at every start."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from everindex.errors import EmbeddedServerFailed
from everindex.units import GIB, MIB

#: Below this a shared memory file system cannot hold the memory of a parallel build (Docker gives 64 MB).
SMALL_SHM_BYTES = GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What of this machine the server may use: limits of the container included."""

    memory_bytes: int
    cores: int
    shm_bytes: int


def this_machine() -> Machine:
    """Reads memory, cores and the size of /dev/shm, and the limits of the control groups (v2 and v1) above us."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory = min(memory, _first_number(folder / name) or memory)
        cores = min(cores, _cores_of(folder) or cores)
    return Machine(memory_bytes=memory, cores=max(1, cores), shm_bytes=_size_of_shm())


def _control_groups() -> list[Path]:
    """The folders of our control groups, each with all above it; a limit anywhere on the way up holds."""
    folders: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        for top in (root, *(root / name for name in controllers.split(",") if name)):
            inside = top / path.lstrip("/")
            folders += [inside, *(above for above in inside.parents if above.is_relative_to(top))]
    return list(dict.fromkeys(folders))


def _first_number(file: Path) -> int | None:
    """The first word of a control file as a number; None for `max`, `-1`, or no such file."""
    try:
        word = file.read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return None
    return int(word) if word.isdigit() else None


def _cores_of(folder: Path) -> int | None:
    """The CPU quota of a control group in whole cores, rounded up; None without a quota."""
    try:
        words = (folder / "cpu.max").read_text(encoding="utf-8").split()
        quota, period = int(words[0]), int(words[1])
    except (OSError, ValueError, IndexError):
        quota = _first_number(folder / "cpu.cfs_quota_us") or 0
        period = _first_number(folder / "cpu.cfs_period_us") or 0
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else None


def _size_of_shm() -> int:
    """Size of the shared memory file system in bytes; 0 where Linux has none, -1 where the system does without."""
    if sys.platform != "linux":
        return -1
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return found.f_frsize * found.f_blocks


def sized_settings(machine: Machine) -> dict[str, str]:
    """The settings that depend on the machine."""
    # An index is searched fast while it is in shared_buffers: a quarter of a large machine, not of a small one's idea.
    quarter = min(max(machine.memory_bytes // 4, 128 * MIB), 8 * GIB)
    return {
        "shared_buffers": f"{quarter // MIB}MB",
        # For VACUUM, by three workers of autovacuum at once. Builds of an index set their own where they need more; a
        # parallel one takes all of it from shared memory at its start, so that it is no larger on a large machine.
        "maintenance_work_mem": f"{min(max(machine.memory_bytes // 32, 64 * MIB), 256 * MIB) // MIB}MB",
        "effective_cache_size": f"{max(machine.memory_bytes // 2, 128 * MIB) // MIB}MB",
        "max_worker_processes": str(max(8, machine.cores + 8)),
        "max_parallel_workers": str(max(8, machine.cores)),
        "max_parallel_maintenance_workers": str(machine.cores),
        # A parallel build asks for its maintenance_work_mem at once in dynamic shared memory; in a container's 64 MB of
        # /dev/shm it dies. Files in the data directory hold it instead.
        "dynamic_shared_memory_type": "mmap" if 0 <= machine.shm_bytes < SMALL_SHM_BYTES else "posix",
    }


FIXED_SETTINGS: Mapping[str, str] = {
    "cluster_name": "everindex",
    # Reached through a socket in a private directory, never over the network.
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "work_mem": "16MB",
    # Vectors lie in TOAST, so the heap looks small and a full scan cheap; at the default of 4, made for spinning disks,
    # the planner leaves the vector index at ef_search 100 and scans the table, a hundred times slower. 1.1 kept it.
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than any statement of a search takes
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "track_io_timing": "on",
    "logging_collector": "off",  # the log is our file; one writer fewer
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
}


def config_text(settings: Mapping[str, str], *, socket_dir: Path) -> str:
    """A whole postgresql.conf with these settings. Raises EmbeddedServerFailed for a name that no setting can have."""
    lines = ["# Written by everindex at every start of the server; what is changed here is lost."]
    # A list of directories inside a quoted string: each is quoted once for the list, then all for the file.
    directory = '"' + str(socket_dir).replace('"', '""') + '"'
    for name, value in {**settings, "unix_socket_directories": directory}.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
            raise EmbeddedServerFailed(
                f"{name!r} cannot be a setting of the embedded server.",
                why="the name of a setting contains only letters, digits, underscores and dots.",
                next_step="correct the name; the server was not started.",
            )
        lines.append(f"{name} = {quoted(value)}")
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    """A value as postgresql.conf reads it back: quotes doubled, backslashes and line ends escaped."""
    text = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{text}'"
