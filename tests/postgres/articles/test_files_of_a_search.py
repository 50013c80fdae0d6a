"""The files that one search enters on its way from the API to the last statement that it sends.

docs/architecture.md says what is counted and draws them; a search that takes a longer way makes the next reader's walk longer.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlencode

import pytest

import everindex
from everindex.articles.instance import Instance
from everindex.web.app import create_app
from words_in_memory import remembered

ROOT = Path(everindex.__file__).parent
ARCHITECTURE = ROOT.parents[1] / "docs" / "architecture.md"
SEND = "pg/roundtrip.py"
ROUTE = "web/api/routes.py"
TEXT = "memory leak in the parser"


class Trace:
    """The files of everindex in the order in which they are entered, in this thread and in those that begin meanwhile."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.until_sent = 0

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(ROOT)):
            return
        name = Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()
        if name not in self.entered:
            self.entered.append(name)
        if name == SEND:
            self.until_sent = len(self.entered)

    def clear(self) -> None:
        self.entered.clear()
        self.until_sent = 0

    def counted(self) -> set[str]:
        """Those up to the last statement, without what docs/architecture.md leaves out."""
        crossed = self.entered[: self.until_sent]
        if ROUTE in crossed:
            crossed = crossed[crossed.index(ROUTE) :]
        return {
            name
            for name in crossed
            if name == SEND or (name.startswith(("articles/", "web/")) and not name.startswith("articles/embedding/"))
        }


@contextmanager
def traced() -> Iterator[Trace]:
    trace = Trace()
    threading.setprofile(trace.note)
    sys.setprofile(trace.note)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def drawn(heading: str) -> set[str]:
    """The files that docs/architecture.md draws below the sentence that begins with `heading`."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    block = text[text.index(heading) :].split("```text\n", 1)[1].split("```", 1)[0]
    return {line.split()[0] for line in block.splitlines()}


BY_VECTOR, HYBRID, OVER_HTTP = (
    "A search by vector enters 7 files",
    "A search by meaning and words (hybrid",
    "Over HTTP, five files",
)


@pytest.mark.parametrize(("mode", "most", "heading"), [("vector", 7, BY_VECTOR), ("hybrid", 14, HYBRID)])
def test_a_search_crosses_few_files_and_the_architecture_draws_them(
    read_only_instance: Instance, mode: str, most: int, heading: str
) -> None:
    vector = read_only_instance.embed_query(TEXT)
    search: Callable[[], Any] = {
        "vector": lambda: read_only_instance.search_vector(vector),
        "hybrid": lambda: read_only_instance.search(TEXT, mode="hybrid"),
    }[mode]
    remembered(read_only_instance)
    assert search().hits  # what is composed and read once is composed and read now
    with traced() as trace:
        assert search().hits
    assert len(trace.counted()) <= most
    assert trace.counted() == drawn(heading)


@pytest.mark.parametrize(("mode", "most", "heading"), [("vector", 11, BY_VECTOR), ("hybrid", 18, HYBRID)])
def test_a_search_over_http_crosses_five_files_more_instead_of_the_instance(
    read_only_instance: Instance, mode: str, most: int, heading: str
) -> None:
    remembered(read_only_instance)
    encoded = base64.urlsafe_b64encode(read_only_instance.embed_query(TEXT).astype("<f4").tobytes()).decode()
    query = urlencode({"vector": encoded} if mode == "vector" else {"q": TEXT})

    async def search() -> None:
        await get(app, query)  # what is composed and read once is composed and read now
        trace.clear()
        await get(app, query)

    with traced() as trace:
        app = create_app(read_only_instance, host="127.0.0.1")
        with ThreadPoolExecutor(
            1
        ) as pool:  # a browser of another test may have left a running event loop in this thread
            pool.submit(lambda: asyncio.run(search())).result()
    assert len(trace.counted()) <= most
    assert trace.counted() == (drawn(heading) - {"articles/searchable.py"}) | drawn(OVER_HTTP)


async def get(app: Any, query: str) -> None:
    """GET /api/search, as a server calls the application."""
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/api/search", "raw_path": b"/api/search", "root_path": "", "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1")], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    assert messages[0]["status"] == 200
