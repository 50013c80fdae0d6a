"""An import that fills the server's disk: its first error is told, and what it set aside comes back once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.model import Article
from everindex.errors import DiskSpaceShort, EverindexError
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

pytestmark = pytest.mark.long

#: Of what is left, the rows of the import take more.
LEFT_BYTES = 20 * 2**20
ROWS = 3000


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 160 MB; skips where none may be mounted."""
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    disk.chmod(0o755)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_told_as_such_and_the_index_comes_back_when_there_is_room(small_disk: Path) -> None:
    settings = {"shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "restart_after_crash": "on"}
    rows = [Article(uri=f"u{n}", title=f"title {n} of the load") for n in range(ROWS)]
    with embedded.running(small_disk / "server", settings=settings) as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        filler = small_disk / "filler"
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(free - LEFT_BYTES))
        with connect_instance(conninfo, settings=Settings()) as instance:
            with pytest.raises(EverindexError) as told:
                instance.import_rows(rows)
            # The rows find no room; or the log of their changes does not, and the server ends under the import.
            assert isinstance(told.value, DiskSpaceShort) or "was lost while" in told.value.what
            assert "recovery" not in told.value.what + told.value.why
            assert "is still set aside" in told.value.next_step or not isinstance(told.value, DiskSpaceShort)
        filler.unlink()
        with connect_instance(conninfo, settings=Settings(EVERINDEX_WAIT=30)) as instance:
            assert instance.import_rows(rows).rows == ROWS
        with psycopg.connect(conninfo) as connection:
            assert connection.execute(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass"
            ).fetchone() == (True,)
