"""Directories for the data of test servers, which every account may enter, also when root runs the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everindex.pg.embedded.config import this_machine

#: Thousands of small databases are made and dropped: on a disk, a third of the time goes to its file system.
MEMORY = Path("/dev/shm")
#: What the servers of eight workers may need there at the same time, well counted.
ROOM = 8 * 2**30


@contextmanager
def open_place(prefix: str = "everindex-test-", *, on_disk: bool = False) -> Iterator[Path]:
    """A directory that the server's account may enter (pytest's tmp_path is closed to it), removed at the end."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=None if on_disk else _parent()))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _parent() -> Path | None:
    """Memory where there is enough of it and programs may be started from it; else, or if TMPDIR says so, the usual place."""
    if os.environ.get("TMPDIR"):
        return None
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    has_room = found.f_bavail * found.f_frsize >= ROOM and this_machine().memory_bytes >= 2 * ROOM
    return MEMORY if has_room and not found.f_flag & os.ST_NOEXEC else None
