"""What a server leaves in /dev/shm that is stopped at once while it makes room for a parallel build.

PostgreSQL removes such segments when it ends or starts again, except for one that a process was still filling: it is not in
the list yet. Each is as large as maintenance_work_mem, and a campaign of kills would fill the memory of the machine with them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SEGMENTS = Path("/dev/shm")  # where POSIX shared memory is on Linux


def segments() -> set[Path]:
    """The segments of all servers that this account may remove."""
    with suppress(OSError):
        return {one for one in SEGMENTS.glob("PostgreSQL.*") if os.geteuid() in (0, one.stat().st_uid)}
    return set()


def remove_left_over(before: set[Path]) -> None:
    """Removes the segments that came after `before` and that no process has, open or mapped."""
    came = segments() - before
    if not came:
        return
    had = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # A segment is open first and mapped then: looked at in this order, none slips through.
            had |= {Path(os.readlink(one)) for one in (process / "fd").iterdir()}
        with suppress(OSError):
            had |= {
                Path(line.split()[-1]) for line in (process / "maps").read_text().splitlines() if "/dev/shm/" in line
            }
    for one in came - had:
        one.unlink(missing_ok=True)
