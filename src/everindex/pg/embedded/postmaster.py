"""The postmaster of a data directory: its pid file, believed only where the kernel confirms a live process."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """What postmaster.pid says about a server."""

    pid: int
    socket_dir: Path
    status: str


def read_postmaster(data: Path) -> Postmaster | None:
    """Reads postmaster.pid; None when there is none. A server that has just begun has no socket and status in it."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).split("\n")
    except FileNotFoundError:
        return None
    if not lines[0].strip().isdigit():
        return None
    lines += [""] * 8
    return Postmaster(pid=int(lines[0]), socket_dir=Path(lines[4]), status=lines[7].strip())


def alive_postmaster(data: Path) -> Postmaster | None:
    """The server that runs on this data now, or None. A pid that another program has got meanwhile does not count."""
    found = read_postmaster(data)
    return found if found is not None and runs_in(found.pid, data) else None


def runs_in(pid: int, data: Path) -> bool:
    """True when the process is a living postmaster of this data: its working directory is the data directory."""
    process = Path("/proc") / str(pid)
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    name = "postgres"  # where nothing may be read, it counts as alive, and connecting decides
    try:
        name, _, rest = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        if rest.split()[0] in "ZX":
            return False
        return os.path.samefile(process / "cwd", data)
    except PermissionError:  # root without CAP_SYS_PTRACE, as in a container, may not look at another account's process
        return "postgres" in name
    except OSError:
        return False


def try_lock(descriptor: int) -> bool:
    """Takes the file's lock exclusively if that is possible at once; False when anybody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
