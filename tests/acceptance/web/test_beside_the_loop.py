"""What takes long is done beside the event loop, and not where every other request waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx2
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.embedding import static
from everindex.articles.instance import Instance
from everindex.articles.search.keyword import snippet
from everindex.articles.search.request.parsed_query import parse
from everindex.cli.serve import prepare_text_search
from everindex.settings import Settings
from everindex.web.api import answers
from everindex.web.api import routes as api
from everindex.web.api.answers import answers_response
from everindex.web.app import create_app
from everindex.web.http.protocol import LONG_PART_BYTES, OneWrite
from everindex.web.http.thread_slots import THREAD_NAME
from loops import in_a_loop


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which thread the numbers of a request became a vector, each time."""
    noted: list[str] = []
    true = api.vector_of

    def vector_of(numbers: list[float]) -> Any:
        noted.append(threading.current_thread().name)
        return true(numbers)

    monkeypatch.setattr(api, "vector_of", vector_of)
    return noted


def test_the_vectors_of_a_long_body_are_made_beside_the_loop(client: httpx2.Client, threads: list[str]) -> None:
    answer = client.post("/api/search/many", json={"vectors": [[0.123456789] * 1536] * 20, "k": 1})
    assert answer.status_code == 200
    assert threads == [THREAD_NAME] * 20


def test_a_vector_that_makes_a_long_body_is_made_beside_the_loop(client: httpx2.Client, threads: list[str]) -> None:
    assert client.post("/api/search", json={"vector": [0.123456789] * 16_000}).status_code == 409  # of another width
    assert threads == [THREAD_NAME]


def test_of_many_answers_the_articles_are_neither_looked_at_nor_given_back_in_the_loop(
    web_instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = create_app(web_instance).state.site
    found = web_instance.search_many(["crash", "leak"], k=100)
    monkeypatch.setattr(answers, "characters_of", lambda hits: pytest.fail("they were looked at"))
    response = in_a_loop(answers_response(site, found))
    assert bytes(response.body).count(b'"uri"') == 200
    assert found == []


class Written:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)


class Lingering:
    is_lingering = False


@pytest.mark.parametrize(("length", "writes"), [(2000, 1), (LONG_PART_BYTES, 2)])
def test_a_short_answer_is_one_write_and_a_long_one_is_not_copied(length: int, writes: int) -> None:
    head, body = b"HTTP/1.1 200 OK\r\n\r\n", b"a" * length

    async def write() -> tuple[list[bytes], int]:
        transport = Written()
        one = OneWrite(transport, asyncio.get_running_loop(), Lingering())  # type: ignore[arg-type]
        one.write(head)
        one.write(body)
        await asyncio.sleep(0)
        return transport.parts, one.written_bytes

    parts, written = in_a_loop(write())
    assert (b"".join(parts), written) == (head + body, len(head) + length)
    assert len(parts) == writes
    assert writes == 1 or parts[1] is body


@pytest.mark.parametrize(("k", "most"), [(snippet.MANY_HITS, 1), (10, 4)])
def test_texts_of_many_hits_are_marked_by_one_thread_at_a_time(
    web_instance: Instance, monkeypatch: pytest.MonkeyPatch, k: int, most: int
) -> None:
    counting = threading.Lock()
    together = threading.Barrier(most)
    now, highest = 0, 0
    true = snippet.as_json

    def as_json(hits: Any) -> str:
        nonlocal now, highest
        with counting:
            now += 1
            highest = max(highest, now)
        together.wait(60)  # of few hits, all four are here at once
        if most == 1:
            time.sleep(0.05)  # and of many they would be, if nothing kept them apart
        with counting:
            now -= 1
        return true(hits)

    monkeypatch.setattr(snippet, "as_json", as_json)
    hits = web_instance.search("crash", k=k, mode="semantic").hits
    config = web_instance.words.known().config
    marked: list[int] = []

    def mark() -> None:
        with web_instance.connection() as connection:
            marked.append(len(snippet.with_snippets(connection, config, parse("crash"), hits)))

    workers = [threading.Thread(target=mark) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert marked == [k] * 4
    assert highest == most


def test_the_model_of_the_package_is_loaded_before_anybody_asks(web_instance: Instance) -> None:
    static.read_model.cache_clear()
    prepare_text_search(web_instance)
    assert static.read_model.cache_info().currsize == 1


def test_a_model_that_is_an_endpoint_is_not_asked_at_the_start(filled: str) -> None:
    nobody = Settings().model_copy(update={"openai_base_url": "http://127.0.0.1:9/v1", "embedding_model": "x"})
    with connect_instance(filled, settings=nobody) as instance:
        instance.query_embedder.load()  # to ask would raise: nobody listens there
