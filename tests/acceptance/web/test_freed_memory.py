"""Memory that is freed goes back to the system: shown in a process of its own, whose heap has holes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOLES = """
import sys, time
from everindex.web.http import freed_memory
freed_memory.TRIM_SECONDS = 0.05
with freed_memory.freed_memory_returned():
    blocks = [bytes(100_000) for _ in range(2_000)]  # below the size that is taken from the system alone
    keep = blocks[::50]
    full = freed_memory.resident_bytes()
    time.sleep(float(sys.argv[1]))
    del blocks
    deadline = time.monotonic() + 20
    while freed_memory.resident_bytes() > full - 120 * 2**20 and time.monotonic() < deadline:
        time.sleep(0.02)
    print((full - freed_memory.resident_bytes()) // 2**20)
"""


@pytest.mark.parametrize("held_seconds", [0.0, 0.4], ids=["at once", "held while the heaps are trimmed"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt and malloc_trim are glibc's")
def test_what_large_answers_have_used_is_given_back(held_seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES, str(held_seconds)], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) >= 120
