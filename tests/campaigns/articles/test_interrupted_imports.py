"""Imports that are killed, and imports that are large."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

import import_process
import warm
from everindex.articles.embedding.static import StaticEmbedder
from everindex.articles.importers import read_source, sample_source
from everindex.articles.ingest import import_rows as ingest
from everindex.articles.ingest.bulk_load import without_index
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from import_process import ROWS, rows_of

PROCESS = Path(import_process.__file__)
SHORT, LONG = 6, 30


def valid_index(connection: psycopg.Connection) -> bool | None:
    row = connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('articles_embedding_hnsw_idx')"
    ).fetchone()
    return None if row is None else row[0]


def backends_end(connection: psycopg.Connection) -> None:
    """Waits until the server has noticed that the importing process is gone."""
    deadline = time.monotonic() + 30
    while importing := backends(connection):
        assert time.monotonic() < deadline, importing
        time.sleep(0.02)


def backends(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    """What the importers' backends do."""
    return connection.execute(
        "SELECT pid, state, wait_event_type, wait_event, now() - state_change, left(query, 100), pg_blocking_pids(pid) "
        "FROM pg_stat_activity WHERE application_name = 'everindex import' AND datname = current_database()"
    ).fetchall()


def check_whole(connection: psycopg.Connection, embedder: StaticEmbedder) -> Counter[str]:
    """Every stored article is all of one round, its vector that of its text, and recorded once; rounds and their rows."""
    rows = connection.execute(
        "SELECT a.uri, a.title, a.summary, a.category, r.raw_markdown, a.embedding, e.model FROM articles a "
        "LEFT JOIN raw_articles r USING (uri) LEFT JOIN everindex_meta.embedding_record e USING (uri)"
    ).fetchall()
    seen: Counter[str] = Counter()
    for uri, title, summary, category, raw_text, vector, model in rows:
        number = int(category.split()[1])
        expected = rows_of_round(number)[int(uri[1:])]
        assert (title, summary, raw_text) == (expected.title, expected.summary, expected.raw_text)
        assert vector is not None
        assert model == embedder.model
        seen[category] += 1
    if rows:
        texts = [Article(uri=row[0], title=row[1], summary=row[2]).text_to_embed for row in rows]
        assert np.allclose(embedder.embed(texts).vectors, np.array([row[5].to_numpy() for row in rows]), atol=1e-6)
    records = connection.execute("SELECT count(*) FROM everindex_meta.embedding_record").fetchone()[0]
    assert records == len(rows)
    return seen


def rows_stored(connection: psycopg.Connection, number: int, *, at_least: int) -> None:
    """Waits until so many rows of a round are there."""
    deadline = time.monotonic() + 20
    query = "SELECT count(*) FROM articles WHERE category = %s"
    while connection.execute(query, (f"round {number}",)).fetchone()[0] < at_least:
        assert time.monotonic() < deadline, backends(connection)
        time.sleep(0.002)


_ROUNDS: dict[int, list[Article]] = {}


def rows_of_round(number: int) -> list[Article]:
    return _ROUNDS.setdefault(number, rows_of(number))


@pytest.mark.parametrize("rounds", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_an_import_killed_at_any_moment_leaves_whole_articles_and_the_next_completes_it(
    migrated: str, rounds: int
) -> None:
    random.seed(rounds)
    embedder = StaticEmbedder(width=1536)
    mixed = 0
    with (
        psycopg.connect(migrated, autocommit=True) as connection,
        subprocess.Popen(
            [sys.executable, str(PROCESS), migrated],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        ) as process,
    ):
        register_vector(connection)
        assert process.stdout.readline() == "ready\n"
        for number in itertools.count(1):
            # Killed between two batches, as is meant: an import that had ended before its kill does not count.
            if number > rounds and mixed > rounds / 2:
                break
            assert number <= 3 * rounds, mixed
            process.stdin.write(f"{number}\n")
            pid = int(process.stdout.readline())
            rows_stored(connection, number, at_least=random.randrange(ROWS))
            time.sleep(random.uniform(0, 0.06))  # within the batch that follows; the moment is what is drawn
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            backends_end(connection)
            mixed += len(check_whole(connection, embedder)) > 1
        process.stdin.write(f"{number}\n")
        pid = int(process.stdout.readline())
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert check_whole(connection, embedder) == {f"round {number}": ROWS}
        process.stdin.close()


def test_a_process_killed_while_the_index_is_aside_is_healed_by_the_next_migration(migrated: str) -> None:
    script = (
        "import sys, time\nfrom everindex.articles.ingest.bulk_load import without_index\n"
        "with without_index(sys.argv[1], vectors_coming=5000) as is_aside:\n"
        "    print(is_aside, flush=True)\n    time.sleep(60)\n"
    )
    with (
        psycopg.connect(migrated, autocommit=True) as connection,
        warm.Process(["-c", script, migrated]) as process,
    ):
        assert process.stdout.readline() == "True\n"
        assert valid_index(connection) is None
        process.kill()
        process.wait()
        backends_end(connection)
        assert valid_index(connection) is None
        runner.upgrade(migrated, wait_seconds=0)
        assert valid_index(connection) is True


def test_an_error_while_the_index_is_aside_builds_it_all_the_same(migrated: str) -> None:
    with pytest.raises(ZeroDivisionError), without_index(migrated, vectors_coming=5000):
        _ = 1 / 0
    with psycopg.connect(migrated, autocommit=True) as connection:
        assert valid_index(connection) is True


@pytest.mark.long
def test_ten_thousand_rows_go_in_before_the_index_which_is_then_valid(
    migrated: str, open_instance: Callable[..., Instance], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    counted: list[int] = []
    instance = open_instance(migrated)
    rows = [*read_source(str(sample_source())), *(Article(uri=f"u{n}", title=f"title {n}") for n in range(60))]
    started, used = time.monotonic(), time.process_time()
    report = instance.import_rows(rows, on_rows=counted.append, reporter=Reporter(say=told.append))
    seconds, processor_seconds = time.monotonic() - started, time.process_time() - used
    with capsys.disabled():
        print(
            f"\n  {report.rows} rows stored and indexed in {seconds:.1f} s, {processor_seconds:.1f} s of this process"
        )
    assert (report.stored.inserted, report.without_vector, sum(counted)) == (10_000, 0, 10_000)
    assert any("loading first, then building the index once" in text for text in told)
    with instance.connection() as connection:
        assert valid_index(connection) is True
    assert instance.search("memory leak in the parser").strategy == "index"
    assert instance.verify(samples=20).holds
    # Of this process alone: how long the server takes depends on what else the machine does.
    assert processor_seconds < 10

    # The second load is not worth taking the index away for: it serves throughout.
    told.clear()
    more = [Article(uri=f"more{n}", title=f"another title {n}") for n in range(200)]
    assert instance.import_rows(more, reporter=Reporter(say=told.append)).stored.inserted == 200
    assert told == []


def test_importers_of_the_same_articles_wait_for_each_other_and_none_fails(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(migrated)

    def load(number: int) -> None:
        rows = [Article(uri=f"u{row}", title=f"title {row} by {number}", raw_text=f"by {number}") for row in range(400)]
        for _ in range(3):
            instance.upsert(rows[::-1] if number % 2 else rows)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(load, range(4)))
    with instance.connection() as connection:
        assert connection.execute(
            "SELECT count(*), count(embedding), count(DISTINCT e.uri) FROM articles a "
            "JOIN everindex_meta.embedding_record e USING (uri)"
        ).fetchone() == (400, 400, 400)


def test_rows_come_in_batches_and_each_is_told(
    migrated: str, open_instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH_ROWS", 7)
    counted: list[int] = []
    report = open_instance(migrated).import_rows(
        itertools.islice(read_source(str(sample_source())), 24), on_rows=counted.append
    )
    assert (report.rows, counted) == (24, [7, 7, 7, 3])
