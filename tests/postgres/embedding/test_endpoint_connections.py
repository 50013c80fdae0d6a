"""Connections to an embedding endpoint end when what has opened them is closed or discarded."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx2
import pytest

from embeddings_endpoint import Endpoint
from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from scene import wait_until

Connections = Callable[[], set[Any]]


@pytest.fixture
def opened(endpoint: Endpoint) -> Connections:
    """Which connections to the endpoint exist that did not before the test."""
    before = set(endpoint.connections)
    return lambda: endpoint.connections - before


@contextmanager
def searched(conninfo: str, endpoint: Endpoint, *, by_page: bool) -> Iterator[None]:
    """An instance whose model is behind the endpoint, and that has embedded a search text, in the server or by itself."""
    endpoint.width = 1536
    settings = Settings(embedding_model="local", openai_base_url=endpoint.url)
    with connect_instance(conninfo, settings=settings) as instance:
        instance.upsert([{"uri": "u1", "title": "a title"}])
        instance.query_embedder.close()
        if by_page:
            with serve_in_thread(instance) as url:
                found = httpx2.get(f"{url}/api/search?q=title&mode=semantic", timeout=30).json()
                assert [hit["uri"] for hit in found["hits"]] == ["u1"]
                yield
        else:
            assert [hit.uri for hit in instance.search("title", mode="semantic").hits] == ["u1"]
            yield


def test_a_closed_embedder_has_none_and_connects_anew(endpoint: Endpoint, opened: Connections) -> None:
    embedder = endpoint.embedder()
    embedder.embed(["a"])
    assert len(opened()) == 1
    embedder.close()
    wait_until(lambda: not opened())
    assert embedder.embed(["a"]).failures == {}
    assert len(opened()) == 1
    embedder.close()


def test_an_embedder_that_the_garbage_collector_finds_has_none(endpoint: Endpoint, opened: Connections) -> None:
    embedder: Any = endpoint.embedder()
    embedder.embed(["a"])
    embedder.itself = embedder
    del embedder
    gc.collect()
    wait_until(lambda: not opened())


@pytest.mark.parametrize("by_page", [False, True], ids=["instance", "server"])
def test_a_closed_instance_or_server_has_none(
    migrated: str, endpoint: Endpoint, opened: Connections, by_page: bool
) -> None:
    scene: AbstractContextManager[None] = searched(migrated, endpoint, by_page=by_page)
    gc.disable()  # it is closed, and not found by chance
    try:
        with scene:
            assert opened()
        wait_until(lambda: not opened())
    finally:
        gc.enable()
