"""A change of the model while articles are searched and written, and its process is killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pytest

from command_line import COMMAND, environment
from embeddings_endpoint import Endpoint, Reply, good, vector_of
from everindex.articles.connect import connect_instance
from everindex.articles.embedding import StaticEmbedder
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.migrate import runner
from everindex.settings import Settings

KILLS = int(os.environ.get("KILLS", "50"))
ROWS = int(os.environ.get("ROWS", "10000"))
WIDTH = 1536
SEARCHES_A_SECOND, WRITES_A_SECOND = 20, 5
NAME = "local"
QUERIES = ("memory leak", "regular expressions", "asyncio event loop", "unicode decode error", "ssl certificate")
SEED = 15


@dataclass
class Load:
    """What searchers and writers saw."""

    failed: list[str] = field(default_factory=list)
    answers: list[tuple[float, str, list[tuple[str, float | None]], list[str]]] = field(default_factory=list)
    write_seconds: list[float] = field(default_factory=list)


@contextmanager
def under_load(instance: Instance) -> Iterator[Load]:
    load, stop = Load(), threading.Event()

    def every(rate: float, work: Any) -> None:
        due = time.monotonic()
        while not stop.is_set():
            try:
                work()
            except Exception as exc:
                load.failed.append(f"{type(exc).__name__}: {exc}")
            due = max(due + 1 / rate, time.monotonic() - 1)
            stop.wait(max(0.0, due - time.monotonic()))

    def search() -> None:
        query = random.choice(QUERIES)
        answer = instance.search(query, mode="semantic", k=10)
        load.answers.append((time.monotonic(), query, [(hit.uri, hit.distance) for hit in answer.hits], answer.notices))

    def write() -> None:
        number = random.randrange(400)
        started = time.monotonic()
        instance.upsert([Article(uri=f"w:{number}", title=f"written {number}", summary=str(random.random()))])
        load.write_seconds.append(time.monotonic() - started)

    threads = [threading.Thread(target=every, args=(SEARCHES_A_SECOND / 2, search)) for _ in range(2)]
    threads.append(threading.Thread(target=every, args=(WRITES_A_SECOND, write)))
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def model_of(texts: dict[str, str], query: str, hits: list[tuple[str, float | None]], static: StaticEmbedder) -> str:
    """The model whose vectors gave these distances; "mixed" where the hits do not agree. Only of articles that nobody wrote
    meanwhile."""
    known = [(uri, distance) for uri, distance in hits if not uri.startswith("w:") and distance is not None]
    asked = {"old": static.embed([query]).vectors[0], "new": vector_of(query, WIDTH, model=NAME)}
    made = {
        "old": static.embed([texts[uri] for uri, _ in known]).vectors,
        "new": np.array([vector_of(texts[uri], WIDTH, model=NAME) for uri, _ in known]),
    }
    fits = {
        model for model in asked
        if np.allclose(1 - made[model] @ asked[model], [distance for _, distance in known], atol=1e-3)
    }  # fmt: skip
    return fits.pop() if len(fits) == 1 else "mixed"


@pytest.mark.long
def test_a_switch_that_is_killed_again_and_again_ends_with_both_vectors_and_no_mixed_answer(
    cluster: Any, endpoint: Endpoint
) -> None:
    endpoint.width = WIDTH
    endpoint.answer = lambda request, _: good(request, WIDTH)
    conninfo = cluster.database(
        cluster.template("campaign_of_models", lambda made: runner.upgrade(made, wait_seconds=0))
    )
    variables = {"DATABASE_URL": conninfo, "OPENAI_BASE_URL": endpoint.url, "EMBEDDING_MODEL": "static"}
    settings = Settings(OPENAI_BASE_URL=endpoint.url, EMBEDDING_MODEL="static")
    drawn = random.Random(SEED)
    with connect_instance(conninfo, settings=settings) as instance:
        instance.import_rows(list(read_source(str(sample_source())))[:ROWS])
        with psycopg.connect(conninfo, autocommit=True) as connection:
            texts = {
                uri: Article(uri=uri, title=title, summary=summary).text_to_embed
                for uri, title, summary in connection.execute("SELECT uri, title, summary FROM articles").fetchall()
            }
        command = [
            str(COMMAND), "model", "switch", NAME, "--dimensions", str(WIDTH), "--yes", "--json", "--least-overlap", "0",
            "--most-slower", "100",
        ]  # fmt: skip
        with under_load(instance) as load:
            for kill in range(KILLS):
                process = subprocess.Popen(
                    command, env=environment(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                time.sleep(drawn.uniform(0.5, 4.0))
                if drawn.random() < 0.3 and process.poll() is None:  # the backends instead of the process
                    with psycopg.connect(conninfo, autocommit=True) as connection:
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'everindex model'"
                        )
                    time.sleep(0.2)
                process.send_signal(signal.SIGKILL)
                process.communicate()
                if (
                    instance.model_switch.generations()
                    and instance.model_switch.generations()[-1]["state"] == "serving"
                ):
                    print(f"done before kill {kill}")
                    break
            done = subprocess.run(command, env=environment(variables), capture_output=True, timeout=500, check=False)
            cut_at = time.monotonic()
            print(done.stdout.decode()[-1500:], done.stderr.decode()[-800:])
            time.sleep(8)  # other processes follow
            after = time.monotonic()
            time.sleep(3)
            started = time.monotonic()
            back = instance.model_switch.rollback()
            rollback_seconds = time.monotonic() - started
            time.sleep(8)
        with instance.connection() as connection:
            lacking = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE a.embedding IS NULL), count(*) FILTER (WHERE v.uri IS NULL) "
                "FROM articles a LEFT JOIN everindex_meta.article_vector_2 v USING (uri)"
            ).fetchone()
    assert load.failed == []
    assert lacking is not None
    assert lacking[1:] == (0, 0)
    static = StaticEmbedder(width=WIDTH)
    seen = [(at, model_of(texts, query, hits, static)) for at, query, hits, _ in load.answers]
    counts = {model: sum(one == model for _, one in seen) for model in ("old", "new", "mixed")}
    print(
        {
            "answers": counts, "writes": len(load.write_seconds), "longest_write_s": max(load.write_seconds),
            "rollback_s": rollback_seconds, "rollback_locked_ms": back.locked_ms, "rows": lacking[0],
        }
    )  # fmt: skip
    assert counts["mixed"] == 0
    assert {model for at, model in seen if after < at < started} == {"new"}
    assert counts["old"] > 0
    assert max(load.write_seconds) < 5
    assert rollback_seconds <= 5
    assert cut_at < after


@pytest.mark.long
def test_an_endpoint_that_misbehaves_leaves_a_vector_or_a_reason(cluster: Any, endpoint: Endpoint) -> None:
    endpoint.width = 64
    drawn = random.Random(SEED)

    def answer(request: dict[str, Any], _: int) -> Reply:
        kind = drawn.random()
        right = good(request, 64)
        if kind < 0.5:
            return right
        if kind < 0.6:
            return Reply(status=429, headers={"Retry-After": "0"})
        if kind < 0.7:
            return Reply(status=500)
        if kind < 0.8:
            return good(request, 32)
        if kind < 0.9:
            items = right.body["data"]
            items[0]["embedding"] = [float("nan")] * 64
            return Reply(body=right.body)
        return Reply(body=b'{"data": [{"index": 0, "embed')

    endpoint.answer = answer
    conninfo = cluster.database(
        cluster.template("campaign_of_models", lambda made: runner.upgrade(made, wait_seconds=0))
    )
    settings = Settings(OPENAI_BASE_URL=endpoint.url, EMBEDDING_MODEL="static")
    with connect_instance(conninfo, settings=settings) as instance:
        instance.import_rows(list(read_source(str(sample_source())))[: min(ROWS, 2_000)])
        for _ in range(20):
            try:
                instance.model_switch.run(NAME, dimensions=64, confirm=lambda verdict: False)
            except Exception as exc:
                print(type(exc).__name__, getattr(exc, "what", exc))
        with instance.connection() as connection:
            found = connection.execute(
                "SELECT count(*), count(v.uri), count(*) FILTER (WHERE v.uri IS NULL AND f.uri IS NULL) FROM articles a "
                "LEFT JOIN everindex_meta.article_vector_2 v USING (uri) LEFT JOIN everindex_meta.model_failure f USING (uri)"
            ).fetchone()
        print(found)
    assert found is not None
    assert found[2] == 0
