"""A cancelled call ends its statement on the server and gives a clean connection back, or none; nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psycopg
import pytest

import everindex
from by_hand import rows
from everindex.articles.search.keyword import row_words
from everindex.errors import NoConnectionFree
from everindex.settings import Settings
from loops import in_a_loop

OURS = "datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'everindex%'"


@pytest.fixture(autouse=True)
def _no_words_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of ours wait for what a test does, and for nothing else."""
    monkeypatch.setattr(row_words, "FEWEST_ROWS", 1_000_000)


def in_an_instance(conninfo: str, work: Callable[[everindex.AsyncInstance], Awaitable[Any]], **settings: Any) -> Any:
    async def run() -> Any:
        async with everindex.connect_async(conninfo, settings=Settings(**settings)) as instance:
            return await work(instance)

    return in_a_loop(run())


@contextmanager
def locked(conninfo: str) -> Iterator[psycopg.Connection]:
    """Nobody reads articles for the time of the block."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK TABLE articles")
        yield connection


async def until(claim: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def waiting(conninfo: str) -> int:
    """How many sessions of ours wait for a lock."""
    return len(rows(conninfo, f"SELECT FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"))


def states(conninfo: str) -> list[str]:
    """The states of our sessions at the server."""
    return [state for (state,) in rows(conninfo, f"SELECT state FROM pg_stat_activity WHERE {OURS}")]


CALLS: dict[str, Callable[[everindex.AsyncInstance, np.ndarray], Awaitable[Any]]] = {
    "search_vector": lambda instance, vector: instance.search_vector(vector),
    "search": lambda instance, vector: instance.search("a deadlock"),
    "keyword": lambda instance, vector: instance.search("a deadlock", mode="keyword"),
    "browse": lambda instance, vector: instance.browse(),
    "article": lambda instance, vector: instance.article("https://nowhere.example"),
    "search_many": lambda instance, vector: instance.search_many([vector, vector]),
    "upsert": lambda instance, vector: instance.upsert([{"uri": "https://new.example", "title": "New"}]),
    "models": lambda instance, vector: instance.models(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_cancelled_call_ends_its_statement_and_its_connection_is_used_again(filled: str, call: Any) -> None:
    async def cancel(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("a deadlock")
        await instance.search("a deadlock")
        with locked(filled):
            task = asyncio.create_task(call(instance, vector))
            await until(lambda: waiting(filled) == 1)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 5
            await until(lambda: set(states(filled)) <= {"idle"})
        assert len((await instance.search_vector(vector)).hits) == 10

    in_an_instance(filled, cancel)


def test_a_time_limit_of_asyncio_holds(filled: str) -> None:
    async def limit(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("a deadlock")
        with locked(filled):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await instance.search_vector(vector)
            assert time.monotonic() - started < 5
        assert (await instance.search_vector(vector)).hits

    in_an_instance(filled, limit)


def test_a_group_that_fails_cancels_what_waits_for_a_turn_too(filled: str) -> None:
    async def fail(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("a deadlock")

        async def wrong() -> None:
            await until(lambda: waiting(filled) == 2)
            raise ZeroDivisionError

        async def group() -> None:
            async with asyncio.TaskGroup() as together:
                for _ in range(20):
                    together.create_task(instance.search_vector(vector))
                together.create_task(wrong())

        with locked(filled), pytest.raises(ExceptionGroup) as failed:
            await group()
        assert failed.group_contains(ZeroDivisionError)
        assert set(states(filled)) == {"idle"}
        assert all(answer.hits for answer in await asyncio.gather(*(instance.search_vector(vector) for _ in range(20))))

    in_an_instance(filled, fail, EVERINDEX_POOL_SIZE=2)


def test_who_gets_no_turn_in_time_learns_that_no_connection_was_free(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everindex.pg.on_loop.WAIT_SECONDS", 0.3)

    async def wait(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("a deadlock")
        with locked(filled):
            first = asyncio.create_task(instance.search_vector(vector))
            await until(lambda: waiting(filled) == 1)
            with pytest.raises(NoConnectionFree):
                await instance.search_vector(vector)
        assert (await first).hits

    in_an_instance(filled, wait, EVERINDEX_POOL_SIZE=1)


def test_an_upsert_that_is_cancelled_stores_nothing_and_leaves_no_transaction(filled: str) -> None:
    async def cancel(instance: everindex.AsyncInstance) -> None:
        before = rows(filled, "SELECT count(*) FROM articles")
        with locked(filled):
            task = asyncio.create_task(
                instance.upsert([{"uri": f"https://new.example/{n}", "title": "New"} for n in range(50)])
            )
            await until(lambda: waiting(filled) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until(lambda: set(states(filled)) <= {"idle"})
        assert rows(filled, "SELECT count(*) FROM articles") == before
        assert (await instance.upsert([{"uri": "https://new.example", "title": "New"}])).rows == 1

    in_an_instance(filled, cancel)


def test_closing_ends_while_calls_run(filled: str) -> None:
    async def close() -> list[Any]:
        instance = await everindex.connect_async(filled, settings=Settings(EVERINDEX_POOL_SIZE=2))
        vector = await instance.embed_query("a deadlock")
        with locked(filled):
            tasks = [asyncio.create_task(instance.search_vector(vector)) for _ in range(6)]
            tasks.append(asyncio.create_task(instance.upsert([{"uri": "https://new.example", "title": "New"}])))
            await until(lambda: waiting(filled) == 3)
            await asyncio.wait_for(instance.close(), 10)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    results = in_a_loop(close())
    assert len([result for result in results if not isinstance(result, BaseException)]) >= 2
    assert all(isinstance(result, psycopg.OperationalError | everindex.Answer) for result in results), results
    assert states(filled) == []


def test_an_opening_that_is_cancelled_leaves_nothing(filled: str, empty: str) -> None:
    async def cancel() -> None:
        nowhere = psycopg.conninfo.make_conninfo(filled, port=1)
        opening = asyncio.ensure_future(_opened(nowhere))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert time.monotonic() - started < 5

    async def _opened(conninfo: str) -> everindex.AsyncInstance:
        return await everindex.connect_async(conninfo, settings=Settings(), wait_seconds=60, tell_wait=lambda _: None)

    before = threading.active_count()
    in_a_loop(cancel())
    assert threading.active_count() <= before + 1


def campaign(conninfo: str, *, cancels: int, seed: int) -> None:
    """Calls cancelled at random moments; then all connections are idle, and the answers are what they were."""
    choose = random.Random(seed)

    async def cancel(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("a deadlock")
        expected = [hit.uri for hit in (await instance.search_vector(vector)).hits]
        kinds = [call for name, call in CALLS.items() if name != "upsert"]
        started = time.perf_counter()
        await asyncio.gather(*(instance.search("a deadlock") for _ in range(4)))
        whole = time.perf_counter() - started

        async def one(call: Any) -> None:
            task = asyncio.ensure_future(call(instance, vector))
            await asyncio.sleep(choose.uniform(0, whole))
            task.cancel()
            if choose.random() < 0.2:
                await asyncio.sleep(0)
                task.cancel()
            with suppress(asyncio.CancelledError, everindex.EverindexError):
                await task

        for start in range(0, cancels, 10):
            await asyncio.gather(*(one(choose.choice(kinds)) for _ in range(min(10, cancels - start))))
        await until(lambda: set(states(conninfo)) <= {"idle"})
        # As many at once as there are connections: none got lost.
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(instance.search_vector(vector) for _ in range(12)))
        assert [[hit.uri for hit in answer.hits] for answer in answers] == [expected] * 12
        with locked(conninfo):
            tasks = [asyncio.create_task(instance.search_vector(vector)) for _ in range(4)]
            await until(lambda: waiting(conninfo) == 4)
        await asyncio.gather(*tasks)

    in_an_instance(conninfo, cancel, EVERINDEX_POOL_SIZE=4)


def test_calls_cancelled_at_any_moment_lose_no_connection(filled: str) -> None:
    campaign(filled, cancels=200, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_calls_cancelled_at_many_moments_lose_no_connection(filled: str, seed: int) -> None:
    campaign(filled, cancels=1000, seed=seed)
