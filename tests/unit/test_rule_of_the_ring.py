"""What every test of this ring is kept from, so that the ring runs anywhere in seconds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

import warm
from everindex.pg.connections import connect
from everindex.pg.embedded import running as embedded


def in_a_thread(what: Callable[[], Any]) -> Any:
    """A browser of another test may have left a running event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(what).result()


@pytest.mark.parametrize(
    "what",
    [
        lambda: psycopg.connect("host=127.0.0.1"),
        lambda: in_a_thread(lambda: asyncio.run(psycopg.AsyncConnection.connect("host=127.0.0.1"))),
        lambda: connect("host=127.0.0.1").__enter__(),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: warm.run(["-c", ""], timeout=5),
        lambda: os.fork(),
        lambda: os.system("true"),
    ],
    ids=["psycopg", "psycopg asynchronously", "everindex", "subprocess", "warm", "fork", "system"],
)
def test_a_unit_test_that_connects_or_starts_a_process_fails(what: Callable[[], Any]) -> None:
    with pytest.raises(pytest.fail.Exception, match="a unit test connects to no PostgreSQL"):
        what()


def test_a_unit_test_can_start_no_cluster(tmp_path: Path) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match="a unit test connects to no PostgreSQL"),
        embedded.running(tmp_path / "server"),
    ):
        pass
