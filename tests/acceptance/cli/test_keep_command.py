"""`everindex keep`: one round with its exit status, and a process that keeps until it is told to stop."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psycopg
import pytest

from by_hand import run
from command_line import Running, everindex, url_of
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

INDEX = EMBEDDING_INDEX.name


def is_valid(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('articles_embedding_hnsw_idx')"
        ).fetchone()
    return row is not None and bool(row[0])


def until_valid(conninfo: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_valid(conninfo):
        assert time.monotonic() < deadline, "it was not healed in time"
        time.sleep(0.05)


def test_once_finds_nothing_to_do(filled: str) -> None:
    done = everindex("keep", "--once", DATABASE_URL=url_of(filled))
    assert done.status == 0
    assert done.stdout == f"index {INDEX}: already there\n"


def test_once_heals_and_says_what_it_did(filled: str) -> None:
    drop(filled, EMBEDDING_INDEX)
    done = everindex("keep", "--once", "--json", DATABASE_URL=url_of(filled))
    assert done.status == 0
    assert done.json["role"] == "leads"
    assert [(each["index"], each["outcome"], each["finding"]) for each in done.json["indexes"]] == [
        (INDEX, "built", None)
    ]
    assert is_valid(filled)


def test_once_leaves_a_drift_with_status_3_and_replaces_it_where_it_may(filled: str) -> None:
    run(
        filled,
        f"DROP INDEX {INDEX}",
        f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 8)",
    )
    done = everindex("keep", "--once", DATABASE_URL=url_of(filled))
    assert done.status == 3
    assert "left: index-definition-differs" in done.stdout
    done = everindex("keep", "--once", "--replace", DATABASE_URL=url_of(filled))
    assert done.status == 0, done.stdout
    assert f"index {INDEX}: replaced" in done.stdout


def test_once_fails_with_status_1_when_healing_is_refused(filled: str) -> None:
    drop(filled, EMBEDDING_INDEX)
    run(
        filled,
        "DO $$ BEGIN CREATE ROLE reads_only LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reads_only",
    )
    stranger = psycopg.conninfo.make_conninfo(filled, user="reads_only")
    done = everindex("keep", "--once", DATABASE_URL=url_of(stranger))
    assert done.status == 1
    assert "left: permission-denied" in done.stdout


def test_once_before_the_head_says_what_it_waits_for(filled: str) -> None:
    runner.downgrade(filled, BEFORE_INDEX)
    done = everindex("keep", "--once", DATABASE_URL=url_of(filled))
    assert done.status == 3
    assert done.stdout.startswith(f"waiting: the database is at revision {BEFORE_INDEX}")


def test_an_index_that_nobody_declares_is_a_mistake_of_usage(filled: str) -> None:
    done = everindex("keep", "--once", "--index", "no_such_index", DATABASE_URL=url_of(filled))
    assert done.status == 2
    assert "no index no_such_index is declared" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_keeps_until_a_signal_and_ends_well(filled: str, number: signal.Signals) -> None:
    with Running("keep", "--interval", "0.2", DATABASE_URL=url_of(filled)) as keeping:
        keeping.wait_for("everindex maintains the indexes of", seconds=120)
        keeping.wait_for("keeper leads")
        run(filled, f"DROP INDEX {INDEX}")
        until_valid(filled)
        keeping.wait_for("built index")
        for _ in range(20):  # beside that of a terminal come those that `make` and `timeout` pass on
            keeping.process.send_signal(number)
        assert keeping.end(number) == 0
    assert "Traceback" not in keeping.output


def test_a_signal_in_the_middle_of_a_build_removes_what_it_had_begun(filled: str) -> None:
    drop(filled, EMBEDDING_INDEX)
    with psycopg.connect(filled) as holding:
        # An older snapshot holds the build up in its last phase, and does not hold up the clean-up's lock.
        holding.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holding.execute("SELECT count(*) FROM pg_class")
        with Running("keep", "--interval", "0.2", DATABASE_URL=url_of(filled)) as keeping:
            keeping.wait_for("building index", seconds=120)
            with psycopg.connect(filled, autocommit=True) as looking:
                deadline = time.monotonic() + 60
                while not looking.execute(
                    "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for old%'"
                ).fetchall():
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            started = time.monotonic()
            assert keeping.end(signal.SIGTERM) == 0
            assert time.monotonic() - started < 15
    assert "the work on index public.articles_embedding_hnsw_idx was stopped" in keeping.output
    if "was removed" in keeping.output:
        with psycopg.connect(filled) as connection:
            assert connection.execute("SELECT to_regclass('articles_embedding_hnsw_idx')").fetchone() == (None,)
    else:
        assert "may be left" in keeping.output
    assert deploy(filled, EMBEDDING_INDEX).outcome in ("built", "rebuilt")


def test_json_lines_are_one_round_each_for_the_declaration_of_a_file(empty: str, tmp_path: Path) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE notes (id int, v vector(3))",
        "INSERT INTO notes SELECT n, ARRAY[n, 1, 2]::real[]::vector FROM generate_series(1, 50) n",
    )
    declared = tmp_path / "notes.json"
    declared.write_text(json.dumps({"name": "notes_v", "table": "notes", "column": "v", "type": "vector"}))
    with Running(
        "keep", "--json", "--interval", "0.2", "--declared", str(declared), DATABASE_URL=url_of(empty)
    ) as keeping:
        first = json.loads(keeping.wait_for('"outcome"', seconds=120))
        keeping.wait_for('"already-there"')
        assert keeping.end(signal.SIGTERM) == 0
    assert [(each["index"], each["outcome"]) for each in first["indexes"]] == [("notes_v", "built")]


def filenodes(conninfo: str) -> list[tuple[str, int]]:
    """The files of all indexes of `articles`: an index that is rebuilt has another one."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT indexrelid::regclass::text, pg_relation_filenode(indexrelid)::int FROM pg_index "
            "WHERE indrelid = 'articles'::regclass ORDER BY 1"
        ).fetchall()


@pytest.mark.parametrize("text_search", ["english", "german", "pg_catalog.simple"])
@pytest.mark.parametrize("attached", ["true", "false"])
def test_a_record_that_is_gone_is_no_reason_to_rebuild_anything(filled: str, text_search: str, attached: str) -> None:
    variables = {"DATABASE_URL": url_of(filled), "EVERINDEX_TEXT_SEARCH": text_search, "EVERINDEX_ATTACHED": attached}
    assert everindex("heal", **variables).status == 0
    assert everindex("keep", "--once", **variables).status == 0
    before = filenodes(filled)
    assert {"articles_text_search_idx", INDEX} <= {name for name, _ in before}
    for path in ("public", '"$user", public', "pg_catalog, public"):
        run(filled, "DROP SCHEMA everindex_meta CASCADE")
        done = everindex("keep", "--once", **variables, PGOPTIONS=f"-c search_path={path.replace(' ', chr(92) + ' ')}")
        assert done.status == 0, done.stdout
        assert done.stdout == f"index {INDEX}: already there\n"
        assert filenodes(filled) == before
        run(filled, "CREATE SCHEMA IF NOT EXISTS everindex_meta")
