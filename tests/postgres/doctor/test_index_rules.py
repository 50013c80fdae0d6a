"""What the doctor says about indexes: each sickness is made on a real server, told, mended and then good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import patient
from by_hand import rows, run
from everindex.index.spec import IndexSpec
from patient import SPEC, apply_fix, ask, findings, is_good, make_items, the_finding

HNSW = "CREATE INDEX CONCURRENTLY items_idx ON items USING hnsw (embedding vector_cosine_ops)"
MONTH_AGO = datetime.now(UTC) - timedelta(days=30)


def _fill(conninfo: str) -> None:
    make_items(conninfo)
    run(conninfo, HNSW)


@pytest.fixture
def indexed(cluster: Any) -> Iterator[str]:
    """300 vectors of 64 dimensions in `items` under the hnsw index items_idx, for cosine."""
    conninfo = cluster.database(cluster.template("doctor_indexed_items", _fill))
    yield conninfo
    cluster.drop(conninfo)


def _fill_big(conninfo: str) -> None:
    # 8 kB a row: the smallest number of vectors that make an index worth telling about.
    make_items(conninfo, count=1400, dimensions=1990)
    run(
        conninfo,
        "SET maintenance_work_mem = '64MB'",
        "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 2, ef_construction = 4)",
    )


@pytest.fixture
def big(cluster: Any) -> Iterator[str]:
    """1,400 vectors of 1,990 dimensions under an index of 11 MB, whose blocks are not in shared_buffers yet."""
    template = cluster.template("doctor_big_items", _fill_big)
    name = psycopg.conninfo.conninfo_to_dict(cluster.database())["dbname"]
    conninfo = cluster.conninfo(name)
    cluster.drop(conninfo)
    run(cluster.admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield conninfo
    cluster.drop(conninfo)


# --- invalid and left behind -----------------------------------------------------------------------------------------


def test_an_interrupted_build_is_told_and_dropped(indexed: str) -> None:
    patient.fail_late(indexed, HNSW.replace("items_idx", "second_idx"))
    found = the_finding(indexed, "index-is-invalid")
    assert 'index "public"."second_idx" on "public"."items" is INVALID' in found.sentence
    apply_fix(indexed, found)
    assert is_good(indexed, "index-is-invalid")


def test_what_a_failed_reindex_left_is_told_once_and_dropped(indexed: str) -> None:
    patient.fail_late(indexed, "REINDEX INDEX CONCURRENTLY items_idx")
    found = the_finding(indexed, "leftover-of-reindex")
    assert '"public"."items_idx_ccnew"' in found.sentence
    assert "never finished" in found.sentence
    assert found.fix is not None
    assert found.fix.is_safe
    assert not findings(indexed, "index-is-invalid")
    apply_fix(indexed, found)
    assert not ask(indexed, "leftover-of-reindex")
    assert rows(indexed, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


@pytest.mark.parametrize(
    ("name", "meaning"), [("items_idx_ccold", "never dropped"), ("items_idx_ccnew12", "never finished")]
)
def test_leftovers_are_known_by_their_names_also_with_a_number(indexed: str, name: str, meaning: str) -> None:
    patient.fail_late(indexed, HNSW.replace("items_idx", name))
    assert meaning in the_finding(indexed, "leftover-of-reindex").sentence


def test_a_reindex_at_work_has_left_nothing(indexed: str) -> None:
    with patient.old_snapshot(indexed):
        reindex = patient.InBackground(indexed, "REINDEX INDEX CONCURRENTLY items_idx")
        patient.wait_until(lambda: ask(indexed, "leftover-of-reindex"))
        (answer,) = ask(indexed, "leftover-of-reindex")
        reindex.cancel()
    assert answer.status == "good"
    assert "in progress" in answer.sentence
    assert findings(indexed, "leftover-of-reindex")


def test_a_build_of_another_role_is_not_taken_for_a_failed_one(cluster: Any, indexed: str) -> None:
    role = f"sees_little_{os.getpid()}_{id(indexed)}"
    run(indexed, f"CREATE ROLE {role}")
    try:
        with patient.old_snapshot(indexed):
            build = patient.InBackground(indexed, HNSW.replace("items_idx", "second_idx"))
            patient.wait_until(lambda: rows(indexed, "SELECT FROM pg_index WHERE NOT indisvalid"))
            assert is_good(indexed, "index-is-invalid", role=role)
            build.cancel()
        assert findings(indexed, "index-is-invalid", role=role)
    finally:
        run(indexed, f"DROP ROLE {role}")


# --- more than one ---------------------------------------------------------------------------------------------------


def test_a_second_index_of_the_same_definition_is_told_whatever_its_options(indexed: str) -> None:
    assert is_good(indexed, "duplicate-index")
    run(indexed, "CREATE INDEX a_copy ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 8)")
    found = the_finding(indexed, "duplicate-index", declared=(SPEC,))
    assert found.about == '"public"."a_copy"'
    assert 'as "public"."items_idx"' in found.sentence
    assert found.fix is not None
    assert not found.fix.is_safe
    apply_fix(indexed, found)
    assert is_good(indexed, "duplicate-index")


def test_a_generation_kept_for_a_rollback_is_no_duplicate(indexed: str) -> None:
    run(
        indexed,
        "CREATE INDEX items_idx__prev ON items USING hnsw (embedding vector_cosine_ops)",
        """COMMENT ON INDEX items_idx__prev IS 'everindex: previous generation {"is_hidden": false}'""",
    )
    assert is_good(indexed, "duplicate-index")


def test_indexes_over_different_rows_or_operators_are_no_duplicates(indexed: str) -> None:
    run(
        indexed,
        "CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) WHERE n = 1",
        "CREATE INDEX ON items USING hnsw (embedding vector_l2_ops)",
        "CREATE INDEX ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)",
    )
    assert is_good(indexed, "duplicate-index")


def test_parts_of_partitioned_duplicates_are_told_by_their_parents_only(empty: str) -> None:
    _make_partitioned(empty)
    for name in ("one", "two"):
        run(empty, f"CREATE INDEX {name} ON parts USING hnsw (embedding vector_cosine_ops)")
    found = the_finding(empty, "duplicate-index")
    assert found.about == '"public"."two"'
    apply_fix(empty, found)
    assert is_good(empty, "duplicate-index")


def test_ivfflat_beside_hnsw_is_told_when_it_answers_the_same_searches(indexed: str) -> None:
    run(indexed, "CREATE INDEX lists_l2 ON items USING ivfflat (embedding vector_l2_ops) WITH (lists = 1)")
    assert is_good(indexed, "second-method-on-column")
    run(indexed, "CREATE INDEX lists ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 1)")
    found = the_finding(indexed, "second-method-on-column")
    assert found.about == '"public"."lists"'
    apply_fix(indexed, found)
    assert is_good(indexed, "second-method-on-column")


def test_indexes_for_two_distances_are_told_with_their_scans(indexed: str) -> None:
    assert is_good(indexed, "two-distances-on-column")
    run(indexed, "CREATE INDEX other ON items USING hnsw (embedding vector_l2_ops)")
    found = the_finding(indexed, "two-distances-on-column")
    assert '"public"."other" (vector_l2_ops, scanned 0 times)' in found.sentence
    run(indexed, "DROP INDEX other")
    assert is_good(indexed, "two-distances-on-column")


# --- declared --------------------------------------------------------------------------------------------------------


def test_a_declared_index_that_is_missing_is_told(indexed: str) -> None:
    assert is_good(indexed, "declared-index-missing", declared=(SPEC,))
    run(indexed, "DROP INDEX items_idx")
    found = the_finding(indexed, "declared-index-missing", declared=(SPEC,))
    assert "every search reads the whole table" in found.sentence
    run(indexed, HNSW)
    assert is_good(indexed, "declared-index-missing", declared=(SPEC,))


def test_a_declared_index_that_serves_under_another_name_is_told_as_such(indexed: str) -> None:
    run(indexed, "ALTER INDEX items_idx RENAME TO by_hand")
    found = the_finding(indexed, "declared-index-missing", declared=(SPEC,))
    assert "by_hand has its definition and serves" in found.sentence


def test_a_declared_index_without_its_table_is_told(indexed: str) -> None:
    spec = IndexSpec(name="other_idx", table="other", column="embedding")
    assert "does not exist" in the_finding(indexed, "declared-index-missing", declared=(spec,)).sentence


def test_drift_is_told_in_the_words_of_the_catalog(indexed: str) -> None:
    assert is_good(indexed, "declared-index-drifted", declared=(SPEC,))
    declared = (IndexSpec(name="items_idx", table="items", column="embedding", m=24),)
    found = the_finding(indexed, "declared-index-drifted", declared=declared)
    assert "m is 16, declared 24" in found.sentence
    run(
        indexed,
        "DROP INDEX items_idx",
        "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 24)",
    )
    assert is_good(indexed, "declared-index-drifted", declared=declared)


def test_an_index_of_another_distance_than_declared_is_critical_and_told_once(indexed: str) -> None:
    assert is_good(indexed, "declared-index-for-other-distance", declared=(SPEC,))
    run(indexed, "DROP INDEX items_idx", "CREATE INDEX items_idx ON items USING hnsw (embedding vector_l2_ops)")
    found = the_finding(indexed, "declared-index-for-other-distance", declared=(SPEC,))
    assert "vector_l2_ops, but vector_cosine_ops is declared" in found.sentence
    assert not ask(indexed, "declared-index-drifted", declared=(SPEC,))
    run(indexed, "DROP INDEX items_idx", HNSW)
    assert is_good(indexed, "declared-index-for-other-distance", declared=(SPEC,))


# --- what can be indexed ---------------------------------------------------------------------------------------------


def test_a_column_without_a_width_gets_the_width_of_its_vectors(empty: str) -> None:
    make_items(empty)
    run(empty, "ALTER TABLE items ALTER COLUMN embedding TYPE vector")
    found = the_finding(empty, "column-without-width")
    assert "all of 300 sampled vectors have 64" in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "column-without-width")
    run(empty, HNSW)


def test_a_column_without_a_width_and_with_two_gets_no_statement(empty: str) -> None:
    make_items(empty)
    run(
        empty,
        "ALTER TABLE items ALTER COLUMN embedding TYPE vector",
        "UPDATE items SET embedding = '[1,2]' WHERE id = 7",
    )
    found = the_finding(empty, "column-without-width")
    assert "from 2 to 64" in found.sentence
    assert found.fix is not None
    assert not found.fix.statements


def test_every_column_without_a_width_is_told_also_those_that_are_not_sampled(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        make_items(empty, name=name, count=3)
        run(empty, f"ALTER TABLE {name} ALTER COLUMN embedding TYPE vector")
    monkeypatch.setattr("everindex.doctor.examined.SAMPLED_COLUMNS", 1)
    found = findings(empty, "column-without-width")
    assert len(found) == 3
    assert len([answer for answer in found if answer.fix is not None and answer.fix.statements]) == 1


def test_a_column_without_a_width_may_have_an_index_that_gives_one(empty: str) -> None:
    make_items(empty)
    run(
        empty,
        "ALTER TABLE items ALTER COLUMN embedding TYPE vector",
        "CREATE INDEX ON items USING hnsw ((embedding::vector(64)) vector_cosine_ops) WHERE (n = 0)",
    )
    assert is_good(empty, "column-without-width")


@pytest.mark.parametrize(
    ("column_type", "dimensions", "way_out"),
    [("vector", 2100, "halfvec"), ("vector", 4100, "binary_quantize"), ("halfvec", 4100, "binary_quantize")],
)
def test_a_column_beyond_the_limit_is_told_with_an_index_that_can_be_built(
    empty: str, column_type: str, dimensions: int, way_out: str
) -> None:
    make_items(empty, count=5, dimensions=dimensions, column_type=column_type)
    found = the_finding(empty, "dimensions-beyond-limit")
    assert f"{dimensions} dimensions" in found.sentence
    assert found.fix is not None
    assert way_out in found.fix.statements[0]
    apply_fix(empty, found)
    assert is_good(empty, "dimensions-beyond-limit")


def test_small_options_are_told_and_the_rebuild_has_the_defaults(empty: str) -> None:
    make_items(empty)
    run(empty, "CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 4, ef_construction = 200)")
    found = the_finding(empty, "option-below-default")
    assert "m = 4 and ef_construction = 200" in found.sentence
    apply_fix(empty, found)
    assert rows(empty, "SELECT reloptions FROM pg_class WHERE relname = 'items_embedding_idx'") == [
        (["m=16", "ef_construction=200"],)
    ]
    assert is_good(empty, "option-below-default")


# --- partitioned -----------------------------------------------------------------------------------------------------


def _make_partitioned(conninfo: str) -> None:
    run(
        conninfo,
        "CREATE EXTENSION vector",
        "CREATE TABLE parts (id int, embedding vector(3)) PARTITION BY RANGE (id)",
        *(f"CREATE TABLE part_{n} PARTITION OF parts FOR VALUES FROM ({n}) TO ({n + 1})" for n in range(3)),
        "INSERT INTO parts SELECT g % 3, array[g, 1, 2]::vector FROM generate_series(1, 30) AS g",
    )


def test_partitions_without_their_part_are_told_and_mended_online(empty: str) -> None:
    _make_partitioned(empty)
    run(
        empty,
        "CREATE INDEX whole ON ONLY parts USING hnsw (embedding vector_cosine_ops) WITH (m = 12)",
        "CREATE INDEX own ON part_0 USING hnsw (embedding vector_cosine_ops) WITH (m = 12)",
    )
    found = the_finding(empty, "partitioned-index-incomplete")
    assert '3 of 3 partitions ("public"."part_0", "public"."part_1"' in found.sentence
    assert found.fix is not None
    assert found.fix.statements[0] == 'ALTER INDEX "public"."whole" ATTACH PARTITION "public"."own"'
    apply_fix(empty, found)
    assert is_good(empty, "partitioned-index-incomplete")
    assert rows(
        empty,
        "SELECT DISTINCT c.reloptions FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE i.inhparent = 'whole'::regclass",
    ) == [(["m=12"],)]


def test_a_partitioned_partition_is_completed_level_by_level(empty: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE parts (id int, embedding vector(3)) PARTITION BY RANGE (id)",
        "CREATE TABLE lower PARTITION OF parts FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF lower FOR VALUES FROM (0) TO (9)",
        "CREATE INDEX whole ON ONLY parts USING hnsw (embedding vector_cosine_ops)",
    )
    for _ in range(2):
        apply_fix(
            empty,
            the_finding(
                empty,
                "partitioned-index-incomplete",
            ),
        )
    assert is_good(empty, "partitioned-index-incomplete")


def test_a_part_that_is_invalid_is_named_and_rebuilt(empty: str) -> None:
    _make_partitioned(empty)
    run(empty, "CREATE INDEX whole ON ONLY parts USING hnsw (embedding vector_cosine_ops)")
    patient.fail_late(empty, "CREATE INDEX CONCURRENTLY own_0 ON part_0 USING hnsw (embedding vector_cosine_ops)")
    run(
        empty,
        *(f"CREATE INDEX own_{n} ON part_{n} USING hnsw (embedding vector_cosine_ops)" for n in (1, 2)),
        *(f"ALTER INDEX whole ATTACH PARTITION own_{n}" for n in range(3)),
    )
    found = the_finding(empty, "partitioned-index-incomplete")
    assert 'its parts "public"."own_0" are INVALID' in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "partitioned-index-incomplete")


# --- use, size and cache ---------------------------------------------------------------------------------------------

SEARCH = "SELECT id FROM items ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = {}) LIMIT 10"


def _search(conninfo: str, *numbers: int) -> None:
    run(
        conninfo,
        "SET enable_seqscan = off",
        "SET enable_sort = off",
        "SET hnsw.ef_search = 200",
        *(SEARCH.format(number) for number in numbers),
    )


def test_an_index_that_was_never_scanned_is_told_after_a_week_and_not_before(big: str) -> None:
    (answer,) = ask(big, "index-unused", counting_since=datetime.now(UTC) - timedelta(days=2))
    assert answer.status == "unknown"
    assert "2 days" in answer.sentence
    found = the_finding(big, "index-unused", counting_since=MONTH_AGO)
    assert "never scanned in the 30 days" in found.sentence
    assert found.fix is not None
    assert found.fix.statements == ('DROP INDEX CONCURRENTLY "public"."items_idx"',)
    _search(big, 1)
    assert is_good(big, "index-unused", counting_since=MONTH_AGO)


def test_a_small_index_without_scans_is_nobodys_business(indexed: str) -> None:
    assert is_good(indexed, "index-unused", counting_since=MONTH_AGO)


def test_since_when_the_server_counts_is_read_from_it(indexed: str) -> None:
    run(indexed, "SELECT pg_stat_reset()")
    (since,) = rows(indexed, "SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()")[0]
    with psycopg.connect(indexed, autocommit=True) as connection:
        from everindex.doctor.examined import Examined
        from everindex.pg.capabilities import look

        assert Examined(connection=connection, capabilities=look(connection)).counting_since == since


def test_an_index_that_is_read_from_disk_is_told_until_it_is_warm(big: str) -> None:
    assert [answer.status for answer in ask(big, "index-cold")] == ["unknown"]
    _search(big, *range(0, 1400, 14))
    found = the_finding(big, "index-cold")
    assert "found the block in shared_buffers" in found.sentence
    run(big, "SELECT pg_stat_reset_single_table_counters('items_idx'::regclass)")
    _search(big, *range(0, 1400, 14))
    assert is_good(big, "index-cold")


def test_an_index_full_of_deleted_rows_is_told_and_rebuilt(big: str) -> None:
    run(big, "ANALYZE items")
    assert is_good(big, "index-bigger-than-expected")
    run(big, "DELETE FROM items WHERE id % 4 > 0", "VACUUM (ANALYZE) items")
    found = the_finding(big, "index-bigger-than-expected")
    assert "11 MB for about 350 rows" in found.sentence
    apply_fix(big, found)
    assert not findings(big, "index-bigger-than-expected")
    assert rows(big, "SELECT pg_relation_size('items_idx') < 4 * 1024 * 1024") == [(True,)]


def test_an_invalid_part_of_a_valid_whole_is_named_and_rebuilt(empty: str) -> None:
    _make_partitioned(empty)
    run(
        empty,
        "CREATE INDEX whole ON parts USING hnsw (embedding vector_cosine_ops)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'part_1_embedding_idx'::regclass",
    )
    found = the_finding(empty, "partitioned-index-incomplete")
    assert 'has INVALID parts (1 of 3: "public"."part_1_embedding_idx" on "public"."part_1")' in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "partitioned-index-incomplete")
