"""With asyncio too, reads go to the standby and follow their own writes, and all works behind a pooler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import everindex
from everindex.articles.model import MODES
from everindex.pg import replica as replica_module
from everindex.settings import Settings
from loops import in_a_loop
from poolers import of_every_session
from standbys import Pair


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "RETRY_SECONDS", 0.2)


def in_an_instance(
    conninfo: str | None, work: Callable[[everindex.AsyncInstance], Awaitable[Any]], **settings: Any
) -> Any:
    async def run() -> Any:
        async with everindex.connect_async(conninfo, settings=Settings(**settings)) as instance:
            return await work(instance)

    return in_a_loop(run())


def in_the_pair(pair: Pair, work: Callable[[everindex.AsyncInstance], Awaitable[Any]]) -> Any:
    return in_an_instance(None, work, DATABASE_URL=pair.primary.conninfo, DATABASE_URL_READ=pair.standby.conninfo)


def test_searches_go_to_the_standby_and_find_what_the_process_has_just_written(replicated: Pair) -> None:
    async def write_and_read(instance: everindex.AsyncInstance) -> None:
        assert len((await instance.search("elections", k=5)).hits) == 5
        last = "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE application_name = 'everindex web'"
        assert "ts_headline" in str(replicated.standby.value(last))
        assert "ts_headline" not in str(replicated.primary.value(last))
        replicated.standby.run("SELECT pg_wal_replay_pause()")
        await instance.upsert([{"uri": "own:async", "title": "A lighthouse that blinks"}])
        answer = await instance.search("lighthouse", mode="keyword")
        assert [hit.uri for hit in answer.hits] == ["own:async"]
        assert (await instance.article("own:async")).title == "A lighthouse that blinks"
        replicated.standby.run("SELECT pg_wal_replay_resume()")

    in_the_pair(replicated, write_and_read)


def test_searches_go_on_while_the_standby_stops_and_starts(replicated: Pair) -> None:
    async def search(instance: everindex.AsyncInstance) -> None:
        stopped, failed = False, []

        async def searching() -> None:
            while not stopped:
                try:
                    assert (await instance.search("elections", k=3)).hits
                except BaseException as exc:
                    failed.append(exc)
                    raise

        clients = [asyncio.create_task(searching()) for _ in range(3)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(replicated.standby.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(replicated.standby.start)
        await asyncio.sleep(1.0)
        stopped = True
        await asyncio.gather(*clients, return_exceptions=True)
        assert failed == []

    in_the_pair(replicated, search)


def test_everything_works_behind_a_pooler_and_leaves_nothing_in_its_sessions(
    filled: str, in_transaction_mode: Callable[[str], str]
) -> None:
    address = in_transaction_mode(filled)

    async def use(instance: everindex.AsyncInstance) -> None:
        vector = await instance.embed_query("deadlock")
        expected = [hit.uri for hit in (await instance.search_vector(vector)).hits]
        calls: list[Awaitable[Any]] = [instance.search("deadlock", mode=mode) for mode in MODES for _ in range(5)]
        calls += [instance.search_vector(vector, ef_search=20 + number) for number in range(10)]
        answers = await asyncio.gather(*calls)
        assert all(answer.hits for answer in answers)
        assert (await instance.upsert([{"uri": "own:async", "title": "New"}])).rows == 1
        for number in range(30):
            task = asyncio.ensure_future(instance.search_vector(vector))
            await asyncio.sleep(0.0005 * number)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with instance.connection() as connection:
            row = await (await connection.execute("SELECT current_setting('statement_timeout')")).fetchone()
            assert row == ("4321ms",)
        assert [hit.uri for hit in (await instance.search_vector(vector)).hits] == expected

    in_an_instance(address, use, EVERINDEX_STATEMENT_TIMEOUT_MS=4321)
    for settings in of_every_session(address, ("statement_timeout", "hnsw.ef_search")).values():
        assert settings["statement_timeout"] == "0"
