"""The keeper heals what breaks while it runs, leads alone, survives everything, and rebuilds on evidence and not otherwise."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg import sql

import scene
import warm
from by_hand import rows, run
from everindex.index.catalog.drift import declared_digests
from everindex.index.catalog.generations import serving_note
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import deploy
from everindex.index.keeper.loop import Keeper
from everindex.index.keeper.round import Round
from everindex.index.plan.policy import HEAL
from everindex.index.recall.history import graph_of, samples_of
from everindex.index.spec import BuildPolicy, IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.pg.embedded import running as embedded
from everindex.pg.locks import advisory_lock, try_lock
from places import open_place
from scene import SPEC, blocked_in, builder_in_phase, state, wait_until

GOOD = [(SPEC.name, True)]
LEADER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4 AND granted AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    "pg_backend_pid() AND application_name LIKE 'everindex%%'"
)


class Kept:
    """A keeper in a thread, with all its rounds."""

    def __init__(self, conninfo: str, spec: IndexSpec = SPEC, *, start: bool = True, **others: Any) -> None:
        self.starts = start
        self.rounds: list[Round] = []
        given = {"interval_seconds": 0.1, "recall_seconds": 0.0} | others
        self.keeper = Keeper(conninfo, lambda connection: [spec], on_round=self.rounds.append, **given)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.keeper.run, args=(self.stop,), daemon=True)

    def __enter__(self) -> Kept:
        if self.starts:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def next_round(self, seconds: float = 60.0) -> Round:
        """A round that begins from now on."""
        seen = len(self.rounds) + 1
        wait_until(lambda: len(self.rounds) > seen, seconds=seconds)
        return self.rounds[-1]

    def until(self, holds: Callable[[Round], Any], seconds: float = 60.0) -> Round:
        """The first round, past or coming, of which it holds."""
        return wait_until(
            lambda: next((round_ for round_ in list(self.rounds) if holds(round_)), None), seconds=seconds
        )


def is_good(conninfo: str) -> bool:
    return state(conninfo) == GOOD


def events(conninfo: str) -> list[str]:
    return [row[0] for row in rows(conninfo, "SELECT event FROM everindex_meta.journal ORDER BY id")]


# --- healing ---------------------------------------------------------------------------------------------------------

BREAKS = {
    "dropped": ["DROP INDEX items_embedding_idx"],
    "invalid": ["UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_embedding_idx'::regclass"],
    "neither valid nor ready": [
        "UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'items_embedding_idx'::regclass"
    ],
    "rest of a rebuild": [
        "CREATE INDEX items_embedding_idx_ccnew ON items USING hnsw (embedding vector_cosine_ops)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_embedding_idx_ccnew'::regclass",
    ],
    "renamed": ["ALTER INDEX items_embedding_idx RENAME TO something_else"],
    "duplicated": ["CREATE INDEX second_one ON items USING hnsw (embedding vector_cosine_ops)"],
}


def test_every_break_is_healed_while_the_keeper_runs_and_the_journal_says_so(items: str) -> None:
    own_schema.ensure(items)
    with Kept(items) as kept:
        wait_until(lambda: events(items).count("keeper: healed") == 1 and is_good(items), seconds=60)
        for number, statements in enumerate(BREAKS.values(), start=2):
            run(items, "; ".join(statements))  # in one transaction: the keeper sees the whole of it
            # The next break waits for the record too: it would be healed by the same deploy otherwise.
            wait_until(lambda n=number: events(items).count("keeper: healed") == n and is_good(items), seconds=60)
        calm = kept.next_round()
        assert [each.outcome for each in calm.indexes] == ["already-there"]
        assert calm.findings == ()
    assert events(items).count("keeper: healed") == 1 + len(BREAKS)


def test_nothing_is_done_and_nothing_is_logged_while_all_is_well(items: str, caplog: pytest.LogCaptureFixture) -> None:
    deploy(items, SPEC)
    before = rows(items, "SELECT oid, relfilenode FROM pg_class WHERE relname = 'items_embedding_idx'")
    with caplog.at_level(logging.INFO, logger="everindex"), Kept(items) as kept:
        kept.until(lambda round_: round_.role == "leads")
        caplog.clear()
        for _ in range(5):
            assert not kept.next_round().has_changed
        assert caplog.messages == []
    assert rows(items, "SELECT oid, relfilenode FROM pg_class WHERE relname = 'items_embedding_idx'") == before


def test_the_keeper_survives_its_connections_and_heals_afterwards(items: str) -> None:
    with Kept(items) as kept:
        wait_until(lambda: is_good(items), seconds=60)
        for _ in range(3):
            leader = rows(items, LEADER)
            run(items, TERMINATE, "DROP INDEX IF EXISTS items_embedding_idx")
            wait_until(lambda: is_good(items), seconds=60)
            wait_until(lambda old=leader: rows(items, LEADER) not in ([], old), seconds=60)
        assert kept.thread.is_alive()


def test_a_killed_build_of_the_keeper_is_made_anew(many_items: str) -> None:
    with Kept(many_items, start=False) as kept:
        with blocked_in(many_items, scene.WRITERS):
            kept.thread.start()
            pid = builder_in_phase(many_items, scene.WRITERS)
            run(many_items, f"SELECT pg_terminate_backend({pid})")
            wait_until(lambda: rows(many_items, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid) == [])
        wait_until(lambda: is_good(many_items), seconds=60)


@pytest.mark.long
def test_the_keeper_outlives_a_crash_of_the_server() -> None:
    with open_place() as place, embedded.running(place / "server", settings={"fsync": "off"}) as conninfo:
        scene.fill_items(conninfo, count=300)
        with Kept(conninfo):
            wait_until(lambda: is_good(conninfo), seconds=60)
            run(conninfo, "DROP INDEX items_embedding_idx")
            # One backend killed so makes PostgreSQL end all others and recover.
            os.kill(
                rows(conninfo, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")[0][0],
                signal.SIGKILL,
            )

            def is_good_again() -> bool:
                try:
                    return is_good(conninfo)
                except psycopg.OperationalError:
                    return False

            wait_until(is_good_again, seconds=90)


def test_stopping_in_the_middle_of_a_build_takes_seconds_and_leaves_nothing(many_items: str) -> None:
    spec = replace(SPEC, m=100, ef_construction=1000)
    with Kept(many_items, spec) as kept:
        builder_in_phase(many_items, "building index")
        started = time.monotonic()
        kept.stop.set()
        kept.thread.join(30)
        assert not kept.thread.is_alive()
        assert time.monotonic() - started < 10
    assert state(many_items) == []


# --- who leads -------------------------------------------------------------------------------------------------------


def test_of_two_keepers_one_leads_and_the_other_takes_over(items: str) -> None:
    with Kept(items) as first:
        first.until(lambda round_: round_.role == "leads")
        with Kept(items) as second:
            follows = second.until(lambda round_: round_.role == "follows")
            assert "leads" in str(follows.reason)
            assert follows.indexes == ()
            first.stop.set()
            first.thread.join(60)
            second.until(lambda round_: round_.role == "leads")
            run(items, "DROP INDEX items_embedding_idx")
            wait_until(lambda: is_good(items), seconds=60)


@contextmanager
def keeper_process(conninfo: str, declared: Path) -> Iterator[warm.Process]:
    """`everindex keep` in a process of its own."""
    with warm.Process(
        ["everindex", "keep", "--json", "--interval", "0.2", "--declared", str(declared)],
        env=os.environ | {"DATABASE_URL": conninfo, "EVERINDEX_KEEP_RECALL_SECONDS": "0"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_it_says(process: warm.Process, role: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["role"] == role:
            return
    raise AssertionError(f"it never said {role}")


def test_a_killed_leader_is_followed_by_another_process_which_heals(items: str, tmp_path: Path) -> None:
    declared = tmp_path / "indexes.json"
    declared.write_text(json.dumps({"name": SPEC.name, "table": "items", "column": "embedding"}))
    with keeper_process(items, declared) as first:
        until_it_says(first, "leads")
        wait_until(lambda: is_good(items), seconds=60)
        with keeper_process(items, declared) as second:
            until_it_says(second, "follows")
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            run(items, "DROP INDEX items_embedding_idx")
            until_it_says(second, "leads")
            wait_until(lambda: is_good(items), seconds=60)


# --- what it leaves alone --------------------------------------------------------------------------------------------


def test_a_valid_index_of_another_definition_is_told_once_and_left(
    items: str, caplog: pytest.LogCaptureFixture
) -> None:
    deploy(items, replace(SPEC, m=8))
    with caplog.at_level(logging.INFO, logger="everindex"), Kept(items) as kept:
        found = kept.until(lambda round_: round_.findings).findings[0]
        assert (found.slug, found.is_failure) == ("index-definition-differs", False)
        for _ in range(4):
            kept.next_round()
    assert len([line for line in caplog.messages if "index-definition-differs" in line]) == 1
    assert rows(items, "SELECT reloptions FROM pg_class WHERE relname = 'items_embedding_idx'") == [
        (["m=8", "ef_construction=64"],)
    ]


def test_where_it_is_told_to_it_replaces_another_definition_and_keeps_the_old_one(items: str) -> None:
    deploy(items, replace(SPEC, m=8))
    with Kept(items, policy=HEAL) as kept:
        done = kept.until(lambda round_: round_.has_changed)
        assert done.indexes[0].outcome == "replaced"
        assert not kept.next_round().has_changed
    assert [name for name, _ in state(items)] == ["items_embedding_idx", "items_embedding_idx__prev"]


def test_a_previous_generation_is_dropped_when_its_time_is_over(items: str) -> None:
    deploy(items, replace(SPEC, m=8))
    brief = replace(SPEC, build=BuildPolicy(keep_previous_seconds=1.0))
    deploy(items, brief, policy=HEAL)
    assert len(state(items)) == 2
    with Kept(items, brief):
        wait_until(lambda: is_good(items), seconds=60)


def test_without_a_table_it_says_so_once_and_begins_when_it_is_there(
    empty: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="everindex"), Kept(empty) as kept:
        assert kept.until(lambda round_: round_.findings).findings[0].slug == "table-not-found"
        kept.next_round()
        kept.next_round()
        assert len([line for line in caplog.messages if "table-not-found" in line]) == 1
        scene.fill_items(empty, count=300)
        wait_until(lambda: is_good(empty), seconds=60)


def test_a_read_only_server_is_waited_for(items: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(items)["dbname"]
    run(items, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with Kept(items) as kept:
        waits = kept.until(lambda round_: round_.role == "waits")
        assert "read-only" in str(waits.reason)
        assert state(items) == []
        run(
            items,
            "SET default_transaction_read_only = off",
            f'ALTER DATABASE "{name}" RESET default_transaction_read_only',
        )
        wait_until(lambda: is_good(items), seconds=60)


def test_while_a_load_has_the_index_aside_the_keeper_waits(items: str) -> None:
    with connect(items) as loading:
        assert try_lock(loading, "aside", is_shared=True)
        with Kept(items) as kept:
            assert "aside" in str(kept.until(lambda round_: round_.role == "waits").reason)
            kept.next_round()
            assert state(items) == []
            loading.close()
            wait_until(lambda: is_good(items), seconds=60)


def test_another_builder_is_let_be_and_what_it_leaves_is_healed(items: str) -> None:
    with advisory_lock(items, "build", wait_seconds=0), Kept(items) as kept:
        wait_until(lambda: rows(items, LEADER), seconds=60)
        time.sleep(0.5)
        assert state(items) == []
        kept.stop.set()
        kept.thread.join(10)
        assert not kept.thread.is_alive()
    with Kept(items):
        wait_until(lambda: is_good(items), seconds=60)


@pytest.mark.long
def test_what_fails_again_and_again_is_tried_less_and_less_often(items: str) -> None:
    """A role that does not own the table: every build is refused."""
    run(
        items,
        "DO $$ BEGIN CREATE ROLE keeps_nothing LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT ON items TO keeps_nothing",
    )
    stranger = psycopg.conninfo.make_conninfo(items, user="keeps_nothing")
    with Kept(stranger, interval_seconds=0.2) as kept:
        found = kept.until(lambda round_: round_.findings).findings[0]
        assert (found.slug, found.is_failure) == ("permission-denied", True)
        wait_until(lambda: len(kept.rounds) >= 12, seconds=60)
        quick = [round_ for round_ in kept.rounds if round_.findings]
        assert len(quick) >= 10
        tries = kept.keeper.failures_of(SPEC.qualified_name)
        assert 0 < tries < len(quick) - 3, "it was tried at every look"


# --- evidence --------------------------------------------------------------------------------------------------------


def hollow(conninfo: str) -> None:
    """Makes the graph of the index bad while the catalog says all is well: most of its rows were never inserted.

    They were written while the index was not ready, as rows are that a broken standby or a restored file lacks.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        register_vector(connection)
        vectors = connection.execute("SELECT id, embedding FROM items WHERE id % 3 <> 0").fetchall()
        connection.execute("DELETE FROM items WHERE id % 3 <> 0")
        connection.execute("VACUUM items")
        ready = (
            "UPDATE pg_index SET indisready = {0}, indisvalid = {0} WHERE indexrelid = 'items_embedding_idx'::regclass"
        )
        connection.execute(ready.format("false"))
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO items (id, embedding) VALUES (%s, %s)", vectors)
        connection.execute(ready.format("true"))
        connection.execute("ANALYZE items")


MEASURING: dict[str, Any] = {"recall_seconds": 5.0, "recall_share": 1.0}


def test_an_index_that_is_measured_as_bad_is_rebuilt_once_and_then_it_is_good(many_items: str) -> None:
    own_schema.ensure(many_items)
    deploy(many_items, SPEC)
    hollow(many_items)
    before = rows(many_items, "SELECT oid FROM pg_class WHERE relname = 'items_embedding_idx'")
    with Kept(many_items, **MEASURING) as kept:
        rebuilt = kept.until(lambda round_: round_.has_changed, seconds=120)
        assert rebuilt.indexes[0].outcome == "replaced"
        assert "recall@10 of the serving index is" in str(rebuilt.indexes[0].because)
        with connect(many_items) as connection:
            observed = observe(connection, SPEC)
            new = next(index for index in observed.indexes if index.name == SPEC.name)
            generation = graph_of(connection, new)
            wait_until(
                lambda: sum(sample.queries for sample in samples_of(connection, SPEC, generation)) >= 40, seconds=60
            )
            after = samples_of(connection, SPEC, generation)
        assert sum(sample.found for sample in after) / sum(sample.wanted for sample in after) > 0.95
        assert len([round_ for round_ in kept.rounds if round_.has_changed]) == 1
    assert [(new.oid,)] != before
    assert events(many_items).count("keeper: rebuilt") == 1
    assert [valid for name, valid in state(many_items) if name == SPEC.name] == [True]


@pytest.mark.long
def test_a_role_that_only_owns_the_table_measures_and_rebuilds_too(many_items: str) -> None:
    """Without the right to hide an index, and without everindex_meta: the samples are kept in memory."""
    deploy(many_items, SPEC)
    hollow(many_items)
    run(
        many_items,
        "DO $$ BEGIN CREATE ROLE owns_items LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT CREATE ON SCHEMA public TO owns_items",
        "ALTER TABLE items OWNER TO owns_items",
    )
    owner = psycopg.conninfo.make_conninfo(many_items, user="owns_items")
    with Kept(owner, **MEASURING) as kept:
        rebuilt = kept.until(lambda round_: round_.has_changed or round_.findings, seconds=120)
        assert rebuilt.findings == ()
        assert "recall@10" in str(rebuilt.indexes[0].because)
        for _ in range(20):
            assert not kept.next_round().has_changed
    assert dict(state(many_items))[SPEC.name]


@pytest.mark.long
def test_a_rebuild_that_does_not_help_is_not_tried_again(many_items: str) -> None:
    """m = 2 and ef_construction = 4 cannot reach the floor, however often they are built."""
    own_schema.ensure(many_items)
    poor = replace(SPEC, m=2, ef_construction=4, recall_floor=0.99)
    deploy(many_items, poor)
    with Kept(many_items, poor, **MEASURING) as kept:
        kept.until(lambda round_: round_.findings or round_.has_changed, seconds=120)
        wait_until(
            lambda: (
                rows(
                    many_items,
                    "SELECT coalesce(sum(queries), 0) FROM everindex_meta.recall_history WHERE index_name = %s "
                    "AND at > (SELECT max(at) FROM everindex_meta.journal WHERE event = 'keeper: evidence')",
                    SPEC.name,
                )[0][0]
                >= 60
            ),
            seconds=120,
        )
        tries = events(many_items).count("keeper: evidence")
        assert tries <= 2  # a second graph may happen to be a little better; a third is not even tried
        for _ in range(5):
            kept.next_round()
        assert events(many_items).count("keeper: evidence") == tries
    assert [valid for name, valid in state(many_items) if name == SPEC.name] == [True]


def test_the_refused_rebuild_is_known_to_the_next_keeper(many_items: str) -> None:
    own_schema.ensure(many_items)
    poor = replace(SPEC, m=2, ef_construction=4, recall_floor=0.99)
    deploy(many_items, poor)
    with connect(many_items) as connection:
        (digest,) = declared_digests(poor, observe(connection, poor))
    note = serving_note((digest,))
    run(many_items, sql.SQL("COMMENT ON INDEX items_embedding_idx IS {}").format(sql.Literal(note)))
    with Kept(many_items, poor, **MEASURING) as kept:
        left = kept.until(lambda round_: round_.findings, seconds=120).findings[0]
        assert "did not help" in left.text
        assert not left.is_failure
    assert "keeper: rebuilt" not in events(many_items)
    assert rows(many_items, "SELECT obj_description('items_embedding_idx'::regclass)") == [(note,)]


@pytest.mark.long
def test_an_index_of_many_deleted_rows_is_rebuilt_for_its_size_and_only_once(empty: str) -> None:
    own_schema.ensure(empty)
    vectors = scene.fill_items(empty, count=6000, dimensions=256)
    assert vectors.dtype == np.float32
    spec = replace(SPEC, build=BuildPolicy(keep_previous_seconds=0))
    deploy(empty, spec)
    size = "SELECT pg_relation_size('items_embedding_idx')"
    before = rows(empty, size)[0][0]
    run(empty, "DELETE FROM items WHERE id >= 1500", "VACUUM ANALYZE items")
    with Kept(empty, spec) as kept:
        rebuilt = kept.until(lambda round_: round_.has_changed, seconds=120)
        assert "but needs only" in str(rebuilt.indexes[0].because)
        for _ in range(4):
            assert not kept.next_round().has_changed
    assert rows(empty, size)[0][0] < before / 3
    assert events(empty).count("keeper: rebuilt") == 1


@pytest.mark.long
def test_old_statistics_are_no_evidence(empty: str) -> None:
    """A load that was not analyzed yet makes every index look too big for its rows."""
    scene.fill_items(empty, count=6000, dimensions=256)
    deploy(empty, SPEC)
    run(empty, "UPDATE pg_class SET reltuples = 1000 WHERE relname = 'items'")
    with Kept(empty) as kept:
        for _ in range(3):
            assert not kept.next_round().has_changed
