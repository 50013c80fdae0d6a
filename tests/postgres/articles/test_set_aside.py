"""An index that is set aside for a load comes back: after every error, and after every death, through whoever comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import warm
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.ingest.bulk_load import without_index
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.verification import verify
from everindex.errors import QueryInvalid
from everindex.index.catalog.set_aside import find_note
from everindex.index.deploy.executor import deploy
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.pg.connections import connect
from everindex.settings import Settings
from everindex.web.reports.readiness import read_readiness

INDEX = "articles_embedding_hnsw_idx"
#: Halts an import at the moment that its second argument names, says so and waits to be killed.
HALTING = """
import sys, time
from everindex.articles.ingest import bulk_load as bulk
from everindex.articles.connect import connect_instance
from everindex.articles.model import Article
from everindex.articles.verification import verify
from everindex.index.deploy import executor as apply

def halt(*_, **__):
    print("here", flush=True)
    time.sleep(600)

def after(function):
    return lambda *given, **named: (function(*given, **named), halt())

conninfo, moment = sys.argv[1:]
if moment == "noted":
    bulk.drop = halt
elif moment == "dropped":
    bulk.drop = after(bulk.drop)
elif moment == "loaded":
    bulk.deploy = halt
elif moment == "built":
    apply.settle = halt
with connect_instance(conninfo) as instance:
    instance.import_rows([Article(uri=f"u{n}", title=f"title {n} of the load") for n in range(1000)])
"""
MOMENTS = ("noted", "dropped", "loaded", "built")


@pytest.fixture
def database(migrated: str) -> Iterator[psycopg.Connection]:
    """A database at head, with comments of its owner on its indexes, as somebody else is connected to it."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute(f"COMMENT ON INDEX {INDEX} IS 'theirs, on the index'")
        connection.execute("COMMENT ON INDEX articles_pkey IS E'theirs, on\\nthe key'")
        yield connection


def killed_at(conninfo: str, moment: str, connection: psycopg.Connection) -> None:
    """An import that was killed at that moment, its sessions gone."""
    with warm.Process(["-c", HALTING, conninfo, moment]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n", process.communicate()
        process.kill()
        process.wait()
    while connection.execute(
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'everindex%' AND datname = current_database()"
    ).rowcount:
        pass


def state(connection: psycopg.Connection) -> tuple[Any, ...]:
    """(is the index valid, its comment, the comment on the key, is a note left)."""
    row = connection.execute(
        "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)), "
        "obj_description(to_regclass(%s)), "
        "obj_description('articles_pkey'::regclass)",
        (INDEX, INDEX),
    ).fetchone()
    assert row is not None
    return *row, find_note(connection, EMBEDDING_INDEX) is not None


WHOLE = (True, "theirs, on the index", "theirs, on\nthe key", False)


def few(instance: Instance) -> None:
    instance.import_rows([Article(uri=f"more {n}", title=f"another title {n}") for n in range(5)])


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_next_import_brings_back_what_a_killed_one_set_aside(
    database: psycopg.Connection, migrated: str, moment: str
) -> None:
    killed_at(migrated, moment, database)
    assert state(database)[3]  # the note outlives the process
    left = verify(migrated, floor=0.9).proofs[1]
    if not left.holds:
        assert left.sentence == f"index {INDEX} was set aside for a load, which ended before it was restored"
        assert "everindex heal" in str(left.next_step)
    told: list[str] = []
    with connect_instance(migrated, settings=Settings()) as instance:
        instance.import_rows(
            [Article(uri=f"u{n}", title=f"title {n} of the load") for n in range(1000)],
            reporter=Reporter(say=told.append),
        )
    assert state(database) == WHOLE
    if moment in ("dropped", "loaded"):
        assert any("set aside by an earlier load that did not finish" in line for line in told)


@pytest.mark.parametrize("has_own_schema", [True, False])
def test_five_more_rows_are_enough_to_bring_it_back_and_no_schema_of_ours_is_needed(
    database: psycopg.Connection, migrated: str, has_own_schema: bool
) -> None:
    killed_at(migrated, "dropped", database)
    if not has_own_schema:
        database.execute("DROP SCHEMA everindex_meta CASCADE")
    with connect_instance(migrated, settings=Settings()) as instance:
        few(instance)
    assert state(database) == WHOLE


@pytest.mark.parametrize("who", ["migrate", "deploy"])
def test_whoever_deploys_brings_it_back_with_its_comment(database: psycopg.Connection, migrated: str, who: str) -> None:
    killed_at(migrated, "loaded", database)
    come: dict[str, Callable[[], object]] = {
        "migrate": lambda: runner.upgrade(migrated, wait_seconds=0),
        "deploy": lambda: deploy(migrated, EMBEDDING_INDEX),
    }
    come[who]()
    assert state(database) == WHOLE


def test_after_an_error_of_the_load_it_is_back_and_that_error_is_told(
    database: psycopg.Connection, migrated: str
) -> None:
    def load() -> None:
        with without_index(migrated, vectors_coming=5000):
            assert state(database)[0] is None
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        load()
    assert state(database) == WHOLE


def test_where_it_cannot_come_back_yet_the_first_error_says_so_and_the_note_stays(
    database: psycopg.Connection, migrated: str
) -> None:
    first = QueryInvalid("the rows are bad.", why="they are.", next_step="mend them.")

    def load() -> None:
        with without_index(migrated, vectors_coming=5000):
            # A table of its name stands where the index has to be.
            database.execute(f"CREATE TABLE {INDEX} ()")
            raise first

    with pytest.raises(QueryInvalid) as told:
        load()
    assert told.value is first
    assert told.value.next_step.startswith("mend them. Index public.articles_embedding_hnsw_idx is still set aside (")
    assert state(database)[3]
    database.execute(f"DROP TABLE {INDEX}")
    with connect_instance(migrated, settings=Settings()) as instance:
        few(instance)
    assert state(database) == WHOLE


def test_of_two_loads_the_one_that_ends_last_brings_it_back(database: psycopg.Connection, migrated: str) -> None:
    told: list[str] = []
    with without_index(migrated, vectors_coming=5000) as is_aside:
        assert is_aside
        with connect_instance(migrated, settings=Settings()) as instance:
            instance.import_rows([Article(uri="one", title="more")], reporter=Reporter(say=told.append))
        assert state(database)[0] is None
        assert any("is still set aside: pid" in line for line in told)
        during = verify(migrated, floor=0.9).proofs[1]
        assert f"index {INDEX} is set aside for a load by pid " in during.sentence
        assert during.next_step == "wait for the load; until then searches read every row."
        with connect(migrated) as connection:
            ready = read_readiness(connection)
            assert ready.is_ready
            assert "is set aside for a load by pid " in ready.reasons[0]
    assert state(database) == WHOLE


def test_an_index_that_is_dropped_on_purpose_leaves_no_note_and_no_import_builds_it(
    database: psycopg.Connection, migrated: str
) -> None:
    killed_at(migrated, "noted", database)
    runner.downgrade(migrated, "-1", wait_seconds=0)
    assert state(database) == (None, None, "theirs, on\nthe key", False)
    with connect_instance(migrated, settings=Settings()) as instance:
        few(instance)
    assert state(database)[0] is None
    runner.upgrade(migrated, wait_seconds=0)
    assert state(database) == WHOLE  # its comment survived the downgrade


def test_what_could_not_be_brought_back_as_it_is_stays_in_place(database: psycopg.Connection, migrated: str) -> None:
    database.execute(f"DROP INDEX {INDEX}")
    database.execute(f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 8)")
    told: list[str] = []
    with without_index(migrated, vectors_coming=5000, reporter=Reporter(say=told.append)) as is_aside:
        assert not is_aside
    assert any("could not be restored as it is" in line for line in told)
    assert state(database)[0] is True
