"""Rule: /dev/shm is large enough for a parallel build.

The size can be read only if the server's process runs on this machine; otherwise the result is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.pg.pooler import route_of
from everindex.units import MIB, size_text

SHARED_MEMORY = Path("/dev/shm")
#: Space needed above maintenance_work_mem; with both at 64 MB a build still fails (als-apg/osprey#1026).
HEADROOM_BYTES = 64 * MIB


def check(examined: Examined) -> Iterator[RuleResult]:
    if examined.capabilities.extension_version is None:
        return
    if int(examined.number_of("max_parallel_maintenance_workers")) == 0:
        yield good("no build runs in parallel, so none needs /dev/shm")
        return
    kind = examined.setting("dynamic_shared_memory_type")
    if kind != "posix":
        where = {"mmap": " and use the data disk", "sysv": " but on kernel.shmmax and kernel.shmall"}
        yield good(
            f"dynamic_shared_memory_type is {kind}: builds do not depend on the size of /dev/shm{where.get(str(kind), '')}"
        )
        return
    needed = examined.bytes_of("maintenance_work_mem") + HEADROOM_BYTES
    size = shared_memory_bytes(examined)
    if size is None:
        yield unknown(
            f"the server is not on this machine: its /dev/shm should have {size_text(needed)}; containers have 64 MB by default "
            "(docker run --shm-size, shm_size in compose, a memory emptyDir in Kubernetes)"
        )
    elif size < needed:
        yield finding(
            f"/dev/shm has {size_text(size)}, but a parallel build with maintenance_work_mem of "
            f"{size_text(needed - HEADROOM_BYTES)} needs {size_text(needed)}",
            fix=Fix(
                statements=("SET max_parallel_maintenance_workers = 0",),
                advice="in the session that builds; or give the server's container more (--shm-size, shm_size).",
            ),
        )
    else:
        yield good(f"/dev/shm has {size_text(size)}, a parallel build needs {size_text(needed)}")


def shared_memory_bytes(examined: Examined) -> int | None:
    """The size of the server's /dev/shm; None unless the server's process is found on this machine."""
    if not examined.connection.info.host.startswith("/"):
        return None
    # A socket may be shared with a container, whose process then has a different PID here and a different /dev/shm.
    try:
        name = Path(f"/proc/{route_of(examined.connection).server_pid}/comm").read_text(
            encoding="utf-8", errors="replace"
        )
    except OSError:
        return None
    if not name.startswith("postgres") or not SHARED_MEMORY.is_dir():
        return None
    found = os.statvfs(SHARED_MEMORY)
    return found.f_frsize * found.f_blocks


RULE = Rule(
    slug="shared-memory-small",
    severity="warning",
    title="a parallel build has enough shared memory",
    reason="a parallel HNSW build allocates its whole maintenance_work_mem at once in /dev/shm, and fails with `could not resize "
    "shared memory segment` in the 64 MB of a container (pgvector#453, #714; pgvector README).",
    check=check,
)
