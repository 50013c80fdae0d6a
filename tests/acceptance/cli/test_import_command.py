"""`everindex import` and `everindex embed`: good rows in, bad rows named, vectors completed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_line import Done, three_lines

Run = Callable[..., Done]

GOOD = [{"uri": f"u{number}", "title": f"title {number}", "summary": "words"} for number in range(3)]


def jsonl(*rows: Any) -> str:
    return "".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


def test_bad_rows_are_left_out_and_named_and_the_good_ones_stored(on_head: Run, place: Path) -> None:
    source = place / "news.jsonl"
    rows = [GOOD[0], {"title": "no uri"}, "{not json", GOOD[1], {"uri": "u9", "title": "x", "analyzed": "soon"}]
    source.write_text(jsonl(*rows), encoding="utf-8")
    done = on_head("import", str(source))
    assert done.status == 1
    assert done.stdout.splitlines()[0] == f"{source}: 2 new, 0 changed, 0 unchanged"
    told = [line.strip() for line in done.stderr.splitlines() if "skipped: " in line]
    assert len(told) == 3
    assert told[0] == "skipped: line 2: uri is missing or empty"
    assert told[1].startswith("skipped: line 3: ")
    assert told[2].startswith("skipped: line 5 (u9): analyzed is neither")
    done = on_head("import", str(source), "--json")
    assert done.status == 1
    report = done.json[str(source)]
    assert (report["inserted"], report["unchanged"], report["left_out"]) == (0, 2, 3)
    assert [problem["line"] for problem in report["problems"]] == [2, 3, 5]


def test_standard_input_is_a_source(on_head: Run) -> None:
    done = on_head("import", "-", "--format", "jsonl", "--category", "Given", stdin=jsonl(*GOOD))
    assert (done.status, done.stdout) == (0, "-: 3 new, 0 changed, 0 unchanged\n")
    done = on_head("import", "-", "--format", "jsonl", "--json", stdin=jsonl(*GOOD))
    assert done.status == 0
    assert done.json["-"] == {
        "inserted": 0, "updated": 0, "unchanged": 3, "without_vector": 0, "failure_reason": None, "kept_vectors": 0,
        "left_out": 0, "problems": [], "noted": 0, "notes": [],
    }  # fmt: skip
    assert len(on_head("search", "title", "--category", "Given", "--json").json["hits"]) == 3


@pytest.mark.parametrize("name", ["missing.jsonl", "", "unknown.kind", "empty.jsonl"])
def test_a_source_that_cannot_be_read_is_named(on_head: Run, place: Path, name: str) -> None:
    (place / "unknown.kind").write_bytes(b"\x00\x01\x02 what is this")
    (place / "empty.jsonl").touch()
    done = on_head("import", str(place / name))
    three_lines(done, "source-unreadable", status=2)
    assert str(place) in done.stderr


def test_what_was_stored_before_a_source_that_cannot_be_read_is_told(on_head: Run, place: Path) -> None:
    (place / "good.jsonl").write_text(jsonl(*GOOD), encoding="utf-8")
    done = on_head("import", str(place / "good.jsonl"), str(place / "missing.jsonl"))
    assert done.status == 2
    assert "good.jsonl: 3 new, 0 changed, 0 unchanged" in done.stdout
    assert "source-unreadable" in done.stderr


# --- an endpoint ---------------------------------------------------------------------------------------------------


class Endpoint:
    """An OpenAI-compatible server that answers 503 to the next `busy` requests."""

    def __init__(self) -> None:
        self.url = ""
        self.busy = 0
        self.asked = 0


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            state.asked += 1
            is_busy, state.busy = state.busy > 0, max(0, state.busy - 1)
            data = [{"index": n, "embedding": [float(len(text)), *([1.0] * 1535)]} for n, text in enumerate(texts)]
            self.send_response(503 if is_busy else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": data} if not is_busy else {"error": {"message": "busy"}}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_endpoint_that_is_asked_again_leaves_stdout_to_the_result(
    on_head: Run, endpoint: Endpoint, log_format: str
) -> None:
    endpoint.busy = 1
    done = on_head(
        "import", "-", "--format", "jsonl", "--json",
        stdin=jsonl(GOOD[0]), OPENAI_BASE_URL=endpoint.url, EMBEDDING_MODEL="local", EVERINDEX_LOG_FORMAT=log_format,
    )  # fmt: skip
    assert done.status == 0
    assert endpoint.asked == 2
    assert done.json["-"]["inserted"] == 1
    assert done.json["-"]["without_vector"] == 0
    assert "stamina" in done.stderr
    logged = [line for line in done.stderr.splitlines() if "stamina" in line]
    assert log_format == "console" or json.loads(logged[0])["level"] == "warning"


def test_embed_completes_what_has_no_vector_or_one_of_another_model(
    on_head: Run, migrated: str, endpoint: Endpoint
) -> None:
    assert on_head("import", "-", "--format", "jsonl", stdin=jsonl(*GOOD)).status == 0
    assert on_head("embed", "--dry-run", "--json").json["waiting"] == 0
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("UPDATE articles SET embedding = NULL WHERE uri = 'u1'")
    assert on_head("embed", "--dry-run").stdout.startswith("1 article without a vector of everindex/")
    done = on_head("embed")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("1 article embedded with everindex/")

    other = {"OPENAI_BASE_URL": endpoint.url, "EMBEDDING_MODEL": "local"}
    three_lines(on_head("search", "title", "--mode", "semantic", **other), "embedding-models-mixed")
    done = on_head("embed", "--json", **other)
    assert done.status == 0
    assert done.json == {
        "embedded": 3, "without_vector": 0, "failure_reason": None, "model": "openai-compatible/local@1536",
    }  # fmt: skip
    assert len(on_head("search", "title", "--json", **other).json["hits"]) == 3


def test_articles_that_stay_without_a_vector_are_told(on_head: Run) -> None:
    nowhere = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "EMBEDDING_MODEL": "local", "EMBEDDING_TIMEOUT": "1"}
    assert on_head("import", "-", "--format", "jsonl", stdin=jsonl({"uri": "u", "title": "\U000e0001"})).status == 0
    done = on_head("embed")
    assert done.status == 1
    assert done.stdout.startswith("0 articles embedded with ")
    assert "first reason: the text has no word" in done.stdout
    document = on_head("embed", "--json")
    assert (document.status, document.json["without_vector"]) == (1, 1)
    assert on_head("embed", "--dry-run", **nowhere).status == 0
