"""The MCP server as a client sees it: in process, through `everindex mcp` on its pipes, and over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from everindex.articles.instance import Instance
from everindex.mcp.server import make_server

COMMAND = Path(sys.executable).with_name("everindex")
TOOLS = {"search", "similar", "article", "collections", "explain", "status", "verify", "check"}


@pytest.fixture
def client(read_only_instance: Instance) -> AbstractAsyncContextManager[Client]:
    return Client(make_server(read_only_instance))


def lines(result: Any) -> list[str]:
    """The text of an answer that is an error."""
    assert result.is_error
    return str(result.content[0].text).splitlines()


async def test_every_tool_is_listed_as_reading_only(client: Client) -> None:
    async with client:
        listed = (await client.list_tools()).tools
    assert {tool.name for tool in listed} == TOOLS
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed)
    assert all(tool.description for tool in listed)


async def test_articles_are_searched_read_and_followed(client: Client) -> None:
    async with client:
        found = await client.call_tool("search", {"text": "a crash of the garbage collector", "k": 3})
        hits = found.structured_content["hits"]
        assert len(hits) == 3
        whole = await client.call_tool("article", {"key": hits[0]["uri"]})
        assert whole.structured_content["title"] == hits[0]["title"]
        near = await client.call_tool("similar", {"key": hits[0]["uri"], "k": 2})
        assert len(near.structured_content["hits"]) == 2
        assert hits[0]["uri"] not in {hit["uri"] for hit in near.structured_content["hits"]}
        of_one = {"text": "crash", "filters": {"category": hits[0]["category"]}, "mode": "semantic"}
        narrowed = await client.call_tool("search", of_one)
        assert {hit["category"] for hit in narrowed.structured_content["hits"]} == {hits[0]["category"]}


async def test_the_index_is_reported_proven_and_explained(client: Client) -> None:
    async with client:
        status = (await client.call_tool("status", {})).structured_content
        assert status["holds"]
        assert "pgvector" in status["server"]
        assert (await client.call_tool("verify", {})).structured_content["proofs"]
        explained = (await client.call_tool("explain", {"text": "crash", "k": 5})).structured_content
        assert {"strategy", "reason"} <= set(explained)
        nearest = "SELECT uri FROM articles ORDER BY embedding <=> %(query)s LIMIT 10"
        assert "uses_index" in (await client.call_tool("check", {"statement": nearest})).structured_content


async def test_an_error_reaches_the_model_in_three_lines(client: Client) -> None:
    async with client:
        for name, arguments in (
            ("search", {"text": " "}),
            ("search", {"text": "x", "collection": "nothing"}),
            ("search", {"text": "x", "filters": {"category": {"$above": 1}}}),
            ("article", {"key": "nowhere"}),
            ("check", {"statement": "DELETE FROM articles"}),
        ):
            said = lines(await client.call_tool(name, arguments))
            assert [line[:7] for line in said[1:3]] == ["  why: ", "  next:"], said
        assert (await client.call_tool("search", {"text": "x", "k": 5000})).is_error


async def test_no_tool_writes(client: Client, read_only_instance: Instance) -> None:
    count = "SELECT count(*), max(xmin::text::bigint) FROM articles"
    with read_only_instance.connection() as connection:
        before = connection.execute(count).fetchone()
    async with client:
        hostile = "SELECT 1; DELETE FROM articles"
        assert (await client.call_tool("check", {"statement": hostile})).is_error
        await client.call_tool(
            "check", {"statement": "WITH gone AS (DELETE FROM articles RETURNING 1) SELECT * FROM gone"}
        )
        await client.call_tool("search", {"text": "'; DELETE FROM articles; --"})
    with read_only_instance.connection() as connection:
        assert connection.execute(count).fetchone() == before


async def test_a_collection_is_searched_by_its_name(
    client: Client, cluster: Any, with_articles: str, open_instance: Callable[..., Instance]
) -> None:
    conninfo = cluster.database(with_articles)
    instance = open_instance(conninfo)
    instance.collection("docs", dim=384).upsert([{"id": "a", "text": "a tiger sleeps", "year": 2024}])
    async with Client(make_server(instance)) as own:
        assert (await own.call_tool("collections", {})).structured_content["collections"][0]["name"] == "docs"
        found = await own.call_tool("search", {"text": "tiger", "collection": "docs"})
        assert [hit["key"] for hit in found.structured_content["hits"]] == ["a"]
        row = await own.call_tool("article", {"key": "a", "collection": "docs"})
        assert row.structured_content == {"id": "a", "text": "a tiger sleeps", "metadata": {"year": 2024}}
        assert "no row" in lines(await own.call_tool("article", {"key": "b", "collection": "docs"}))[0]


# --- the command -----------------------------------------------------------------------------------------------------


async def test_the_command_serves_on_its_pipes(filled: str) -> None:
    server = StdioServerParameters(command=str(COMMAND), args=["mcp"], env=os.environ | {"DATABASE_URL": filled})
    with anyio.fail_after(60):
        async with Client(stdio_client(server)) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            found = await client.call_tool("search", {"text": "deadlock", "k": 2})
            assert len(found.structured_content["hits"]) == 2


@pytest.fixture
def served(filled: str) -> Iterator[str]:
    """The address of `everindex mcp --http`, and at its end the command is stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(COMMAND), "mcp", "--http", "--port", str(port)],
        env=os.environ | {"DATABASE_URL": filled}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert f"http://127.0.0.1:{port}/mcp" in process.stderr.readline()
    yield f"http://127.0.0.1:{port}/mcp"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


async def test_the_command_serves_over_http(served: str) -> None:
    with anyio.fail_after(60):
        while True:
            try:
                async with Client(served) as client:
                    found = await client.call_tool("search", {"text": "deadlock", "k": 2})
                break
            except* OSError:  # announced, and not listening yet
                await anyio.sleep(0.1)
            except* Exception as group:
                if "connect" not in repr(group.exceptions).lower():
                    raise
                await anyio.sleep(0.1)
    assert len(found.structured_content["hits"]) == 2
