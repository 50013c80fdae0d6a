"""`everindex up` from nothing on a server of its own: started, ended, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import Running
from everindex.articles.connect import connect_instance
from everindex.settings import Settings

SAMPLE_ROWS = 9940


def ask(url: str, path: str) -> Any:
    # Without a proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url.rstrip("/") + path, timeout=30) as response:
        return json.load(response)


def search(url: str, text: str) -> list[str]:
    return [hit["uri"] for hit in ask(url, f"/api/search?q={urllib.parse.quote(text)}&k=5")["hits"]]


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def until_none(left: Callable[[], list[int]], *, seconds: float = 20) -> list[int]:
    """The servers that are still there when none is, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def everything_is_there(place: Path) -> None:
    """All of the sample, each article with its vector and the record of it, and a valid index."""
    with connect_instance(settings=Settings(EVERINDEX_HOME=place / "home")) as instance:
        with instance.connection() as connection:
            counted = connection.execute(
                "SELECT count(*), count(embedding), (SELECT count(*) FROM everindex_meta.embedding_record), "
                "(SELECT indisvalid FROM pg_index WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass) FROM articles"
            ).fetchone()
        assert counted == (SAMPLE_ROWS, SAMPLE_ROWS, SAMPLE_ROWS, True)
        assert instance.embedding_queue() == 0


def test_up_goes_from_nothing_to_an_answer_and_from_there_to_the_next_start(
    place: Path, servers_left: Callable[[], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    home = {"EVERINDEX_HOME": str(place / "home")}
    with Running("up", "--port", "0", cwd=place, **home) as up:
        url = up.url(seconds=180)
        first = search(url, "memory leak in the parser")
        first_seconds = time.monotonic() - up.started
        assert len(first) == 5
        assert "9940 articles new, 0 unchanged, 0 without a vector" in up.output
        for number in range(200):
            search(url, f"release {number} of the interpreter")
        memory_mb = resident_mb(up.process.pid)
        assert servers_left()
        assert up.end(signal.SIGTERM) == 0
    assert "Traceback" not in up.output
    assert until_none(servers_left) == []

    with Running("up", "--port", "0", cwd=place, **home) as up:
        url = up.url()
        assert search(url, "memory leak in the parser") == first
        second_seconds = time.monotonic() - up.started
        assert "importing the sample" not in up.output
        assert up.end(signal.SIGINT) == 0
    assert "Traceback" not in up.output
    assert until_none(servers_left) == []

    with capsys.disabled():
        print(
            f"\n  up: first answer after {first_seconds:.1f} s, at the second start after {second_seconds:.1f} s; "
            f"{memory_mb:.0f} MB after 201 searches"
        )
    assert first_seconds < 60
    assert second_seconds < 20
    assert memory_mb < 400


@pytest.mark.parametrize(
    ("moment", "after_seconds"),
    [
        pytest.param("PostgreSQL:", 0.0, id="before-the-chain", marks=pytest.mark.long),
        pytest.param("importing the sample", 1.0, id="in-the-import", marks=pytest.mark.long),
        pytest.param("articles new", 0.5, id="in-the-build", marks=pytest.mark.long),
    ],
)
def test_up_that_is_killed_at_its_first_start_completes_at_the_next(
    place: Path, servers_left: Callable[[], list[int]], moment: str, after_seconds: float
) -> None:
    home = {"EVERINDEX_HOME": str(place / "home")}
    with Running("up", "--port", "0", cwd=place, **home) as up:
        up.wait_for(moment, seconds=120)
        time.sleep(after_seconds)  # into the middle of what was announced
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
    with Running("up", "--port", "0", cwd=place, **home) as up:
        url = up.url(seconds=180)
        assert len(search(url, "memory leak in the parser")) == 5
        proofs = [line for line in up.lines if line.startswith(("✓", "✗", "–"))]
        assert [proof[0] for proof in proofs] == ["✓"] * 4
        assert up.end(signal.SIGTERM) == 0
    assert until_none(servers_left) == []
    everything_is_there(place)


def test_up_is_ended_cleanly_while_it_still_imports(place: Path, servers_left: Callable[[], list[int]]) -> None:
    with Running("up", "--port", "0", cwd=place, EVERINDEX_HOME=str(place / "home")) as up:
        up.wait_for("importing the sample", seconds=120)
        assert up.end(signal.SIGINT) == 130
    assert "Traceback" not in up.output
    assert until_none(servers_left) == []
