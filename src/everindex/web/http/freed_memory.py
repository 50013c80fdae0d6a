"""The return of memory used by large answers to the system; for glibc, a no-op elsewhere.

Memory freed in the middle of the C library's heaps stays with the process: after 960 requests for a thousand rows each,
60 at once, 60 MB of it were free (docs/measurements/memory.md). So large blocks are allocated directly from the system,
which gets each back when it is freed, and the heaps are trimmed periodically.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

#: mallopt(3): the size from which a block is allocated directly from the system. Once set, it no longer grows
#: automatically.
_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 256 * 1024
TRIM_SECONDS = 15.0
#: Growth since the last trim that triggers the next one at once.
TRIM_BYTES = 8 * 2**20
#: Without such growth, the maximum number of rounds between two trims: 8 minutes.
LONGEST_ROUNDS = 32


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Trims the heaps for the duration of the block, in its own thread and without the GIL, a few milliseconds each time."""
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
    stop = threading.Event()
    thread = threading.Thread(target=_trim, args=(library, stop), name="everindex-trim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version") and hasattr(library, "malloc_trim"):
            return library
    except OSError:
        pass
    return None


def _trim(library: ctypes.CDLL, stop: threading.Event) -> None:
    """Trims when the process has grown, and then at increasing intervals, since memory in use the first time may be
    free later."""
    least = resident_bytes()
    rounds = left = LONGEST_ROUNDS
    while not stop.wait(TRIM_SECONDS):
        before = resident_bytes()
        left -= 1
        if before >= least + TRIM_BYTES:
            rounds = 1
        elif left > 0:
            least = min(least, before)
            continue
        library.malloc_trim(0)
        least = resident_bytes()
        rounds = 1 if before - least >= TRIM_BYTES else min(2 * rounds, LONGEST_ROUNDS)
        left = rounds
        log.debug(
            "trimmed the heaps: %.0f MB, were %.0f MB",
            least / 2**20,
            before / 2**20,
            extra={"event": "memory-returned"},
        )


def resident_bytes() -> int:
    """The resident memory of this process; 0 where /proc does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
