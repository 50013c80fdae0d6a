"""What the doctor says about tables: each sickness is made on a real server, told, mended and then good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import patient
from by_hand import run
from everindex.doctor.rules import vacuum_running_long
from patient import apply_fix, ask, findings, is_good, make_items, the_finding

HNSW = "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops)"


def test_an_unlogged_table_is_told_and_made_logged(empty: str) -> None:
    make_items(empty)
    assert is_good(empty, "table-is-unlogged")
    run(empty, "ALTER TABLE items SET UNLOGGED")
    found = the_finding(empty, "table-is-unlogged")
    assert 'table "public"."items" is UNLOGGED' in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "table-is-unlogged")


def test_many_vectors_without_an_index_are_told_and_the_fix_builds_one(empty: str) -> None:
    make_items(empty, count=10_000, dimensions=3)
    make_items(empty, name="few", count=9_000, dimensions=3)
    found = the_finding(empty, "vector-column-without-index")
    assert found.about == '"public"."items"'
    assert "about 10000 rows" in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "vector-column-without-index")


def test_an_index_on_a_cast_of_the_column_is_an_index_on_it(empty: str) -> None:
    make_items(empty, count=10_000, dimensions=3)
    run(
        empty,
        "CREATE INDEX ON items USING hnsw ((embedding::halfvec(3)) halfvec_l2_ops) WITH (m = 2, ef_construction = 4)",
    )
    assert is_good(empty, "vector-column-without-index")


def test_how_many_rows_a_table_has_that_was_never_analyzed_comes_from_the_counters(empty: str) -> None:
    make_items(empty, count=10_000, dimensions=3, analyze=False)
    assert "about 10000 rows" in the_finding(empty, "vector-column-without-index").sentence
    run(empty, "SELECT pg_stat_reset()")
    assert [answer.status for answer in ask(empty, "vector-column-without-index")] == ["unknown"]


def test_a_table_without_statistics_is_told_and_safely_analyzed(empty: str) -> None:
    make_items(empty, analyze=False)
    found = the_finding(empty, "statistics-missing")
    assert found.fix is not None
    assert found.fix.is_safe
    apply_fix(empty, found)
    assert is_good(empty, "statistics-missing")


def test_rows_counted_by_a_vacuum_are_no_statistics(empty: str) -> None:
    make_items(empty, analyze=False)
    run(empty, "VACUUM items")
    assert findings(empty, "statistics-missing")


def test_an_empty_table_needs_no_statistics(empty: str) -> None:
    make_items(empty, count=0, analyze=False)
    assert is_good(empty, "statistics-missing")


def test_statistics_are_stale_after_many_changes(empty: str) -> None:
    make_items(empty, count=1000)
    run(empty, "UPDATE items SET n = 1 WHERE id < 100")
    assert is_good(empty, "statistics-stale")
    run(empty, "UPDATE items SET n = 1 WHERE id < 100")
    found = the_finding(empty, "statistics-stale")
    assert '200 of about 1000 rows of "public"."items" changed' in found.sentence
    assert found.fix is not None
    assert found.fix.is_safe
    apply_fix(empty, found)
    assert is_good(empty, "statistics-stale")


@pytest.mark.parametrize(("deleted", "urgency"), [(50, "searches will soon suffer"), (150, "act now")])
def test_dead_rows_are_told_by_how_much_they_hurt_and_vacuumed(empty: str, deleted: int, urgency: str) -> None:
    make_items(empty, count=400)
    run(empty, HNSW)
    assert is_good(empty, "dead-tuples")
    run(empty, f"DELETE FROM items WHERE id <= {deleted}")
    found = the_finding(empty, "dead-tuples")
    assert urgency in found.sentence
    assert f"({deleted + 1} dead," in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "dead-tuples")


@pytest.mark.parametrize("slug", ["dead-tuples", "statistics-stale"])
def test_counters_that_begin_anew_are_not_taken_for_a_table_in_order(empty: str, slug: str) -> None:
    make_items(empty)
    run(empty, HNSW)
    run(empty, "SELECT pg_stat_reset()")
    assert [answer.status for answer in ask(empty, slug)] == ["unknown"]
    run(empty, "UPDATE items SET n = 1 WHERE id = 1")
    assert is_good(empty, slug)


def test_updates_without_room_on_their_page_are_told_and_a_fillfactor_gives_it(empty: str) -> None:
    make_items(empty, count=200)
    run(empty, HNSW)
    assert [answer.status for answer in ask(empty, "hot-updates-lost")] == ["unknown"]
    assert is_good(empty, "hot-updates-lost", counting_since=datetime.now(UTC) - timedelta(days=8))
    run(empty, *["UPDATE items SET n = n + 1"] * 5)
    found = the_finding(empty, "hot-updates-lost")
    assert "of 1000 updates" in found.sentence
    assert "fillfactor 100" in found.sentence
    apply_fix(empty, found)
    assert findings(
        empty,
        "hot-updates-lost",
    )
    run(
        empty,
        "VACUUM FULL items",
        "SELECT pg_stat_reset()",
        # One row at a time, as applications do: what an update leaves is pruned by the next one on the page.
        "DO $$ BEGIN FOR i IN 0..1100 LOOP UPDATE items SET n = n + 1 WHERE id = i % 200; COMMIT; END LOOP; END $$",
    )
    assert is_good(empty, "hot-updates-lost")


def test_a_table_that_autovacuum_passes_over_is_told(empty: str) -> None:
    make_items(empty)
    assert not ask(empty, "vacuum-off-for-table")
    run(empty, HNSW, "ALTER TABLE items SET (toast.autovacuum_enabled = 'no')")
    found = the_finding(empty, "vacuum-off-for-table")
    assert "(autovacuum_enabled, toast.autovacuum_enabled)" in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "vacuum-off-for-table")


def test_a_big_table_that_is_vacuumed_late_is_told(empty: str) -> None:
    make_items(empty, count=100_000, dimensions=2)
    # A partial index: a graph of all rows would take minutes, and the rule asks for the table's size only.
    run(empty, f"{HNSW} WHERE id < 100")
    found = the_finding(empty, "vacuum-begins-late")
    assert "at about 20000 dead rows of 100000: that is 20%" in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "vacuum-begins-late")


def test_a_small_table_may_be_vacuumed_by_the_default(empty: str) -> None:
    make_items(empty)
    run(empty, HNSW)
    assert is_good(empty, "vacuum-begins-late")


def test_a_vacuum_at_work_is_told_with_its_phase_and_when_it_takes_long(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_items(empty, count=2000)
    run(empty, HNSW, "DELETE FROM items WHERE id % 2 = 0")
    assert is_good(empty, "vacuum-running-long")
    vacuum = patient.InBackground(empty, "SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1", "VACUUM items")
    try:
        patient.wait_until(lambda: "working on" in ask(empty, "vacuum-running-long")[0].sentence)
        assert is_good(empty, "vacuum-running-long")
        monkeypatch.setattr(vacuum_running_long, "LONG_SECONDS", 0.01)
        found = the_finding(empty, "vacuum-running-long")
    finally:
        vacuum.cancel()
    assert f"VACUUM (pid {vacuum.pid}) has been working on" in found.sentence
    assert found.fix is not None
    assert f"pg_cancel_backend({vacuum.pid})" in found.fix.advice
    assert is_good(empty, "vacuum-running-long")


def test_vectors_that_are_compressed_are_told(empty: str) -> None:
    make_items(empty)
    assert is_good(empty, "vectors-compressed")
    run(empty, "ALTER TABLE items ALTER COLUMN embedding SET STORAGE EXTENDED")
    found = the_finding(empty, "vectors-compressed")
    apply_fix(empty, found)
    assert is_good(empty, "vectors-compressed")


def test_inline_vectors_are_a_choice_and_not_told(empty: str) -> None:
    make_items(empty)
    run(empty, "ALTER TABLE items ALTER COLUMN embedding SET STORAGE PLAIN")
    assert is_good(empty, "vectors-compressed")


def test_partitions_are_asked_one_by_one_and_their_parent_not_at_all(empty: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE parts (id int, embedding vector(3)) PARTITION BY RANGE (id)",
        "CREATE TABLE part_0 PARTITION OF parts FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (5) TO (9)",
        "INSERT INTO parts VALUES (1, '[1,2,3]'), (6, '[1,2,4]')",
    )
    assert [answer.about for answer in findings(empty, "statistics-missing")] == [
        '"public"."part_0"',
        '"public"."part_1"',
    ]
