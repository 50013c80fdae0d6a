"""A process that is killed while it cuts whole texts loses nothing: the next one completes its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg
import pytest

from everindex.articles.instance import Instance
from whole_texts import digests, of_article, whole_text

TEXTS = 12
#: Rounds of one text, so that there is much to be killed in.
PROCESS = """
import sys
from everindex.articles.connect import connect_instance
from everindex.articles.passages import writer
writer.ROUND_CHARACTERS = 1
with connect_instance(sys.argv[1]) as instance:
    print("ready", flush=True)
    instance.embed_missing()
"""


def counted(connection: psycopg.Connection) -> tuple[int, int]:
    """Passages, and texts that are recorded as cut."""
    if connection.execute("SELECT to_regclass('everindex_meta.article_passage')").fetchone() == (None,):
        return 0, 0
    row = connection.execute(
        "SELECT (SELECT count(*) FROM everindex_meta.article_passage), (SELECT count(*) FROM everindex_meta.article_cut)"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("kill_at", [1, 30, 60, pytest.param(90, marks=pytest.mark.long)])
def test_embed_killed_while_it_cuts_is_completed_by_the_next(
    migrated: str, open_instance: Callable[..., Instance], kill_at: int
) -> None:
    open_instance(migrated, EVERINDEX_PASSAGES="off").upsert(digests(TEXTS))
    with (
        psycopg.connect(migrated, autocommit=True) as connection,
        subprocess.Popen([sys.executable, "-c", PROCESS, migrated], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while counted(connection)[0] < kill_at:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        passages, cut = counted(connection)
        assert cut < TEXTS
        instance = open_instance(migrated)
        report = instance.embed_missing()
        assert report.passages.texts == TEXTS - cut
        assert instance.passages.due(instance.embedder) == []
        stored = connection.execute(
            "SELECT uri, starts_at, ends_at, text, embedding IS NOT NULL FROM everindex_meta.article_passage"
        ).fetchall()
        assert (
            passages
            <= len(stored)
            == sum(row[0] for row in connection.execute("SELECT passages FROM everindex_meta.article_cut"))
        )
        for uri, start, end, text, has_vector in stored:
            assert has_vector
            assert whole_text(int(uri.removeprefix("digest/")))[start:end] == text
        valid = connection.execute(
            "SELECT bool_and(indisvalid), count(*) FROM pg_index "
            "WHERE indrelid = 'everindex_meta.article_passage'::regclass"
        ).fetchone()
        assert valid == (True, 4)
    for number in range(TEXTS):
        assert instance.search(of_article(number)[3]).hits[0].uri == f"digest/{number}"


def test_embed_killed_between_the_last_text_and_the_index_is_completed_by_the_next(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    open_instance(migrated, EVERINDEX_PASSAGES="off").upsert(digests(TEXTS))
    is_valid = (
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "WHERE i.indrelid = 'everindex_meta.article_passage'::regclass AND m.amname = 'hnsw' AND i.indisvalid"
    )
    with (
        psycopg.connect(migrated, autocommit=True) as connection,
        psycopg.connect(migrated) as holding,
        subprocess.Popen([sys.executable, "-c", PROCESS, migrated], stdout=subprocess.PIPE, text=True) as process,
    ):
        deadline = time.monotonic() + 60
        while counted(connection)[1] < 1:
            assert time.monotonic() < deadline
        # Rows are stored under this lock; an index is not built.
        holding.execute("LOCK TABLE everindex_meta.article_passage IN SHARE UPDATE EXCLUSIVE MODE")
        while counted(connection)[1] < TEXTS:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        holding.rollback()
        assert connection.execute(is_valid).fetchone() == (0,)
        instance = open_instance(migrated)
        assert instance.passages.due(instance.embedder) == []
        instance.embed_missing()
        assert connection.execute(is_valid).fetchone() == (1,)
