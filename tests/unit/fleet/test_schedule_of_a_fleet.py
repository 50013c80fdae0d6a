"""The schedule: every job once, never more of a server at a time than allowed, and nothing begun once it is closed."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from everindex.fleet.schedule import Schedule


@pytest.mark.parametrize(("workers", "per_server"), [(1, 1), (4, 1), (8, 3)])
def test_every_job_runs_once_within_the_limits(workers: int, per_server: int) -> None:
    lock, running, most = threading.Lock(), Counter[str](), Counter[str]()

    def perform(job: int) -> int:
        server = str(job % 3)
        with lock:
            running[server] += 1
            most[server] = max(most[server], running[server])
            most["all"] = max(most["all"], running.total())
        threading.Event().wait(0.001)
        with lock:
            running[server] -= 1
        return job * 2

    schedule = Schedule(
        list(range(60)), perform, workers=workers, server_of=lambda job: str(job % 3), per_server=per_server
    )
    events = [event for event in schedule.events() if event is not None]
    assert sorted(result for _, result in events if result is not None) == [job * 2 for job in range(60)]
    assert [job for job, result in events if result is None and job is not None].__len__() >= 60
    assert max(most[server] for server in "012") <= per_server
    assert most["all"] <= workers


def test_a_closed_schedule_begins_nothing_more_and_ends_what_runs() -> None:
    begun, release = threading.Event(), threading.Event()

    def perform(job: int) -> str:
        begun.set()
        assert release.wait(10)
        return f"ended {job}"

    schedule = Schedule(list(range(10)), perform, workers=1, server_of=lambda job: None, per_server=1)
    results = []
    for event in schedule.events():
        if begun.is_set() and not release.is_set():
            assert schedule.close() == list(range(1, 10))
            release.set()
        if event is not None and event[1] is not None:
            results.append(event[1])
    assert results == ["ended 0"]
