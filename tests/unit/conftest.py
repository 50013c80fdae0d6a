"""The rule of this ring: a test that connects to a server of PostgreSQL or starts a process fails."""

from __future__ import annotations

import multiprocessing.process
import os
import subprocess
from typing import NoReturn

import hypothesis
import psycopg.generators
import pytest

# Every run tries other examples: half as many in each find as much within a few runs.
# Time is no subject here: a busy machine makes examples slowly.
hypothesis.settings.register_profile(
    "every run", max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("every run")


def _refused(*_: object, **__: object) -> NoReturn:
    pytest.fail("a unit test connects to no PostgreSQL and starts no process: tests/postgres and tests/acceptance do")


@pytest.fixture(autouse=True)
def _no_server_and_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.generators, "connect", _refused)
    monkeypatch.setattr(subprocess, "Popen", _refused)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", _refused)
    for name in ("fork", "posix_spawn", "system"):
        monkeypatch.setattr(os, name, _refused)
