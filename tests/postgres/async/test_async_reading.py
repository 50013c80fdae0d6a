"""Reading with asyncio: the same answers as with threads, many at once, and a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

import everindex
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.errors import ArticleNotFound, QueryInvalid
from everindex.settings import Settings
from loops import in_a_loop

TEXTS = ["a deadlock in the import lock", "unicode", "file descriptor -windows", "the"]


def shown(answer: Answer) -> Any:
    """An answer without what two equal searches may differ in."""
    return replace(answer, elapsed_ms=0.0, more=None), answer.next_cursor


def in_an_instance(conninfo: str, work: Callable[[everindex.AsyncInstance], Awaitable[Any]], **settings: Any) -> Any:
    async def run() -> Any:
        async with everindex.connect_async(conninfo, settings=Settings(**settings)) as instance:
            return await work(instance)

    return in_a_loop(run())


def test_every_kind_of_reading_has_the_answer_that_threads_get(read_only_instance: Instance) -> None:
    there = read_only_instance
    vectors = [there.embed_query(text) for text in TEXTS[:2]]
    key = there.search(TEXTS[0]).hits[0].uri
    filters = {"category": there.article(key).category}

    async def compare(here: everindex.AsyncInstance) -> None:
        for text in TEXTS:
            for mode in ("hybrid", "semantic", "keyword"):
                with suppress(QueryInvalid):
                    assert shown(await here.search(text, mode=mode, k=5)) == shown(there.search(text, mode=mode, k=5))
        first = await here.search(TEXTS[0], k=5)
        assert shown(await here.search(TEXTS[0], k=5, after=first.next_cursor)) == shown(
            there.search(TEXTS[0], k=5, after=first.next_cursor)
        )
        for options in ({}, {"filters": filters}, {"exact": True}, {"diversity": 0.5}, {"min_similarity": 0.3}):
            assert shown(await here.search_vector(vectors[0], **options)) == shown(
                there.search_vector(vectors[0], **options)
            )
        assert [shown(one) for one in await here.search_many([*TEXTS[:2], vectors[1]])] == [
            shown(one) for one in there.search_many([*TEXTS[:2], vectors[1]])
        ]
        assert shown(await here.browse(filters)) == shown(there.browse(filters))
        assert shown(await here.similar(key, without_near_duplicates=True)) == shown(
            there.similar(key, without_near_duplicates=True)
        )
        assert (await here.explain(vectors[0])).statement == there.explain(vectors[0]).statement
        assert await here.article(key) == there.article(key)
        assert (await here.embed_query(TEXTS[0]) == vectors[0]).all()
        assert await here.models() == there.models()
        assert await here.collections() == there.collections()
        assert (await here.verify()).holds
        with pytest.raises(ArticleNotFound):
            await here.article("https://nowhere.example")

    in_an_instance(there.conninfo, compare)


def test_a_hundred_searches_at_once_share_eight_connections(filled: str) -> None:
    async def search(instance: everindex.AsyncInstance) -> tuple[list[Answer], int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(instance.search(f"python {number}")) for number in range(100)]
        async with instance.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everindex web'"
                " AND datname = current_database()"
            )
            row = await cursor.fetchone()
        assert row is not None
        return [task.result() for task in tasks], row[0]

    answers, connections = in_an_instance(filled, search, EVERINDEX_POOL_SIZE=8)
    assert all(len(answer.hits) == 10 for answer in answers)
    assert 1 <= connections <= 8
    # A search is timed from when it runs, not from when it began to wait for others.
    assert max(answer.elapsed_ms for answer in answers) < sum(answer.elapsed_ms for answer in answers) / 4


def test_a_search_that_waits_for_the_server_lets_the_loop_go_on(filled: str) -> None:
    async def search(instance: everindex.AsyncInstance) -> int:
        vector = await instance.embed_query(TEXTS[0])
        await instance.search_vector(vector)
        with psycopg.connect(filled) as blocker:
            blocker.execute("LOCK TABLE articles")
            waiting = asyncio.create_task(instance.search_vector(vector))
            ticks = 0
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                await asyncio.sleep(0.005)
                ticks += 1
            assert not waiting.done()
        assert (await waiting).hits
        return ticks

    assert in_an_instance(filled, search) >= 10


def test_a_search_computes_for_less_than_twenty_milliseconds_at_a_time(read_only_instance: Instance) -> None:
    async def search(instance: everindex.AsyncInstance) -> float:
        for text in TEXTS[:2]:
            await instance.search(text)
        longest, stop = 0.0, False

        async def beat() -> None:
            nonlocal longest
            while not stop:
                since = time.thread_time()  # what others do on this machine is none of the search's business
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - since)

        heart = asyncio.create_task(beat())
        for number in range(30):
            await instance.search(f"{TEXTS[0]} {number}")
        stop = True
        await heart
        return longest

    assert in_an_instance(read_only_instance.conninfo, search) < 0.020


def test_context_variables_reach_the_search_and_come_back(read_only_instance: Instance) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(variable.get())

    async def search(instance: everindex.AsyncInstance) -> None:
        async def one(value: str) -> None:
            variable.set(value)
            await instance.search("unicode", mode="semantic")
            assert variable.get() == value

        await asyncio.gather(*(one(str(number)) for number in range(5)))

    log, handler = logging.getLogger("everindex.search"), Watching()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        in_an_instance(read_only_instance.conninfo, search)
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    assert sorted(seen) == list("01234")


def test_a_connection_may_be_borrowed(filled: str) -> None:
    async def borrow(instance: everindex.AsyncInstance) -> None:
        async with instance.connection() as connection:
            row = await (await connection.execute("SELECT current_setting('statement_timeout')")).fetchone()
            assert row == ("1234ms",)
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with instance.connection() as connection, connection.transaction():
                await connection.execute("SELECT FROM nothing_of_this_name")
        assert (await instance.search("unicode")).hits

    in_an_instance(filled, borrow, EVERINDEX_STATEMENT_TIMEOUT_MS=1234)


def test_nothing_of_it_is_loaded_by_who_uses_threads() -> None:
    program = (
        "import sys, everindex; everindex.connect; everindex.Instance; "
        "print([name for name in sys.modules if name.startswith('greenlet') or 'async_instance' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
