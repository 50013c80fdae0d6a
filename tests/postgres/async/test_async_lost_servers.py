"""With asyncio too, a server that is gone or stands still is reported within seconds, and used again when it is back."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import psycopg
import pytest

import everindex
from by_hand import run
from everindex.errors import EverindexError, ServerUnreachable
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings
from loops import in_a_loop
from places import open_place
from stopped_servers import frozen, stop
from templates import migrate


async def answers_again(instance: everindex.AsyncInstance, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(EverindexError, psycopg.Error):
            await instance.search("crash", mode="keyword")
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def test_a_search_goes_on_after_the_server_has_ended_its_connections(filled: str) -> None:
    async def search() -> None:
        async with everindex.connect_async(filled, settings=Settings()) as instance:
            for _ in range(3):
                assert (await instance.search("crash")).hits
                run(
                    filled,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'everindex web'",
                )

    in_a_loop(search())


def test_a_frozen_server_is_unreachable_within_seconds_while_the_loop_goes_on() -> None:
    async def search(admin: str) -> None:
        async with everindex.connect_async(admin, settings=Settings()) as instance:
            await asyncio.gather(*(instance.search("crash", mode="keyword") for _ in range(6)))
            longest, stopped = 0.0, False

            async def beat() -> None:
                nonlocal longest
                while not stopped:
                    used = time.thread_time()
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.thread_time() - used)

            heart = asyncio.create_task(beat())
            with frozen(admin):
                started = time.monotonic()
                results = await asyncio.gather(
                    *(instance.search(f"crash{number}", mode="keyword") for number in range(20)), return_exceptions=True
                )
                assert {type(result) for result in results} <= set(ServerUnreachable.__subclasses__()), results
                assert time.monotonic() - started < 25
                async with asyncio.timeout(10):
                    with pytest.raises(ServerUnreachable):
                        await instance.search("crash", mode="keyword")
            stopped = True
            await heart
            assert longest < 0.25
            await answers_again(instance)

    with open_place() as place, embedded.running(place / "server") as admin:
        migrate(admin)
        in_a_loop(search(admin))


def test_a_cancelled_search_of_a_frozen_server_ends_within_seconds() -> None:
    async def search(admin: str) -> None:
        async with everindex.connect_async(admin, settings=Settings()) as instance:
            await instance.search("crash", mode="keyword")
            with frozen(admin):
                started = time.monotonic()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await instance.search("crash", mode="keyword")
                assert time.monotonic() - started < 8
            await answers_again(instance)

    with open_place() as place, embedded.running(place / "server") as admin:
        migrate(admin)
        in_a_loop(search(admin))


def test_a_server_that_was_stopped_and_started_is_used_again() -> None:
    async def search() -> None:
        with open_place() as place:
            with embedded.running(place / "server") as admin:
                migrate(admin)
            server = embedded.running(place / "server")
            address = server.__enter__()
            try:
                async with everindex.connect_async(address, settings=Settings()) as instance:
                    await instance.search("crash", mode="keyword")
                    await asyncio.to_thread(stop, address)
                    with pytest.raises(ServerUnreachable):
                        await instance.search("crash", mode="keyword")
                    with embedded.running(place / "server") as again:
                        if again == address:
                            await answers_again(instance)
            finally:
                with suppress(EverindexError):
                    server.__exit__(None, None, None)

    in_a_loop(search())
