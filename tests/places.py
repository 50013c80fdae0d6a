"""Where may a server of a test keep its data? A place that every account may enter, also when root runs the tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_place() -> Iterator[Path]:
    """A directory that the server's account may enter (pytest's tmp_path is closed to it), removed at the end."""
    made = Path(tempfile.mkdtemp(prefix="everindex-test-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
