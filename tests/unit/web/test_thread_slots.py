"""Work of one kind runs in so many threads and no more; who asks is told what came of it, or that no slot is free."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from everindex.errors import EverindexError, ServerBusy
from everindex.web.http import thread_slots
from everindex.web.http.thread_slots import ThreadSlots
from loops import in_a_loop


def refusal() -> EverindexError:
    return ServerBusy("too many.", why="of a test.", next_step="wait.")


def test_never_more_threads_than_places_and_all_work_is_done() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return number

    async def ask() -> list[int]:
        room = ThreadSlots(3, wait_seconds=30, refusal=refusal)

        def one(number: int) -> Callable[[], int]:
            return lambda: work(number)

        return await asyncio.gather(*(room.run(one(number)) for number in range(100)))

    assert in_a_loop(ask()) == list(range(100))
    assert most == 3


def test_an_error_is_the_askers() -> None:
    async def ask() -> None:
        room = ThreadSlots(1, wait_seconds=1, refusal=refusal)
        with pytest.raises(ZeroDivisionError):
            await room.run(lambda: 1 / 0)
        assert await room.run(lambda: "next") == "next"

    in_a_loop(ask())


def test_who_finds_no_place_in_time_is_refused_and_the_next_is_not() -> None:
    async def ask() -> None:
        room = ThreadSlots(1, wait_seconds=0.05, refusal=refusal)
        release = threading.Event()
        long = asyncio.create_task(room.run(release.wait))
        await asyncio.sleep(0.01)
        with pytest.raises(ServerBusy):
            await room.run(lambda: None)
        release.set()
        assert await long
        assert await room.run(lambda: "free") == "free"

    in_a_loop(ask())


def test_work_that_nobody_waits_for_any_more_holds_its_place_until_it_is_done() -> None:
    async def ask() -> None:
        room = ThreadSlots(1, wait_seconds=0.05, refusal=refusal)
        release = threading.Event()
        gone = asyncio.create_task(room.run(release.wait))
        await asyncio.sleep(0.01)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(ServerBusy):
            await room.run(lambda: None)
        release.set()
        await asyncio.sleep(0.05)
        assert await room.run(lambda: "free") == "free"

    in_a_loop(ask())


def test_idle_threads_end_keep_nothing_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_slots, "IDLE_SECONDS", 0.05)

    class Result:
        pass

    async def ask() -> None:
        before = set(threading.enumerate())
        room = ThreadSlots(4, wait_seconds=1, refusal=refusal)
        kept = weakref.ref(await room.run(Result))
        await asyncio.sleep(0.01)  # this step of the loop still holds what began it
        gc.collect()
        assert kept() is None
        for _ in range(5):
            await asyncio.gather(*(room.run(lambda: time.sleep(0.01)) for _ in range(4)))
            # Around the moment at which the threads end: none may be counted on that has just gone.
            await asyncio.sleep(0.05)
            assert await asyncio.wait_for(room.run(lambda: 1), 5) == 1
        await asyncio.sleep(0.3)
        assert set(threading.enumerate()) <= before

    in_a_loop(ask())


def test_work_that_outlives_its_loop_troubles_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    release, done = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        done.set()

    async def ask() -> None:
        room = ThreadSlots(1, wait_seconds=1, refusal=refusal)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(room.run(work), 0.05)

    in_a_loop(ask())
    release.set()
    assert done.wait(10)
    time.sleep(0.05)
    assert capfd.readouterr().err == ""
