"""Statements of other people's applications: which use the vector index, and what is said about those that do not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

import scene
from by_hand import rows, run
from everindex.errors import PermissionDenied, StatementNotCheckable
from everindex.statement_check.check import StatementCheck, check_statement

INDEX = "items_embedding_idx"
VECTOR = "[" + ",".join(["0.25"] * scene.DIMENSIONS) + "]"


def fill(conninfo: str) -> None:
    scene.fill_items(conninfo, count=3000)
    run(
        conninfo,
        "UPDATE items SET n = id % 100",
        f"CREATE INDEX {INDEX} ON items USING hnsw (embedding vector_cosine_ops)",
        "VACUUM ANALYZE items",
    )


@pytest.fixture(scope="module")
def shared(cluster: Any) -> Iterator[str]:
    """3,000 rows with a cosine index; for tests that only read."""
    conninfo = cluster.database(cluster.template("items_searched", fill))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def searched(cluster: Any) -> Iterator[str]:
    """The same for one test alone."""
    conninfo = cluster.database(cluster.template("items_searched", fill))
    yield conninfo
    cluster.drop(conninfo)


def check(conninfo: str, statement: str, parameters: Any = None, **others: Any) -> StatementCheck:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return check_statement(connection, statement, parameters, **others)


def slugs(found: StatementCheck) -> list[str]:
    return [reason.slug for reason in found.reasons]


USED = {
    "parameter": "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10",
    "cast parameter": "SELECT id FROM items ORDER BY embedding <=> :v::vector LIMIT 10",
    "literal": f"SELECT id FROM items ORDER BY embedding <=> '{VECTOR}' LIMIT 10",
    "vector first": "SELECT id FROM items ORDER BY $1 <=> embedding LIMIT 10",
    "nulls last": "SELECT id FROM items ORDER BY embedding <=> $1 NULLS LAST LIMIT 10",
    "subquery constant": "SELECT id FROM items ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 3) LIMIT 10",
    "cast to the same typmod": "SELECT id FROM items ORDER BY embedding::vector(64) <=> $1 LIMIT 10",
    "threshold and order": "SELECT id FROM items WHERE embedding <=> $1 < 0.9 ORDER BY embedding <=> $1 LIMIT 10",
    "tie-break": "SELECT id FROM items ORDER BY embedding <=> $1, id LIMIT 10",
    "similarity in the list": "SELECT 1 - (embedding <=> %(v)s) AS s FROM items ORDER BY embedding <=> %(v)s LIMIT 10",
    "in a CTE": "WITH near AS MATERIALIZED (SELECT id, embedding <=> $1 AS d FROM items ORDER BY d LIMIT 40) "
    "SELECT * FROM near ORDER BY d + 0",
    "join above": "SELECT o.id FROM items i JOIN items o ON o.id = i.id ORDER BY i.embedding <=> $1 LIMIT 10",
    "in IN": "SELECT count(*) FROM items WHERE id IN (SELECT id FROM items ORDER BY embedding <=> $1 LIMIT 10)",
}


@pytest.mark.parametrize("shape", USED)
def test_a_statement_of_an_indexable_shape_uses_the_index(shared: str, shape: str) -> None:
    found = check(shared, USED[shape])
    assert found.uses_index
    assert found.is_chosen
    assert found.index_names == (INDEX,)
    assert found.reasons == ()
    assert (found.table_rows, found.is_small_table) == (3000, False)


UNUSED = {
    "1 - distance DESC": (
        "SELECT id, 1 - (embedding <=> %s) AS similarity FROM items ORDER BY similarity DESC LIMIT 10",
        ["similarity-descending"],
    ),
    "DESC": ("SELECT id FROM items ORDER BY embedding <=> %s DESC LIMIT 10", ["descending"]),
    "other operator": ("SELECT id FROM items ORDER BY embedding <-> %s LIMIT 10", ["operator-of-another-opclass"]),
    "function": ("SELECT id FROM items ORDER BY cosine_distance(embedding, %s) LIMIT 10", ["function-instead-of-operator"]),
    "halfvec without such an index": (
        "SELECT id FROM items ORDER BY embedding::halfvec(64) <=> %s LIMIT 10",
        ["cast-of-the-column"],
    ),
    "round": ("SELECT id FROM items ORDER BY round((embedding <=> %s)::numeric, 3) LIMIT 10", ["computed-from-distance"]),
    "coalesce": ("SELECT id FROM items ORDER BY coalesce(embedding <=> %s, 2) LIMIT 10", ["computed-from-distance"]),
    "no LIMIT": ("SELECT id FROM items ORDER BY embedding <=> %s", ["no-limit"]),
    "NULLS FIRST": ("SELECT id FROM items ORDER BY embedding <=> %s NULLS FIRST LIMIT 10", ["nulls-first"]),
    "vector from a join": (
        "SELECT a.id FROM items a, items b WHERE b.id = 3 ORDER BY a.embedding <=> b.embedding LIMIT 10",
        ["vector-from-join"],
    ),
    "vector from a CTE": (
        "WITH q AS MATERIALIZED (SELECT embedding FROM items WHERE id = 3) "
        "SELECT i.id FROM items i, q ORDER BY i.embedding <=> q.embedding LIMIT 10",
        ["vector-from-join"],
    ),
    "DISTINCT ON": ("SELECT DISTINCT ON (n) id FROM items ORDER BY n, embedding <=> %s LIMIT 10", ["distinct-on"]),
    "another key first": ("SELECT id FROM items ORDER BY n, embedding <=> %s LIMIT 10", ["distance-not-first"]),
    "count(*) over ()": ("SELECT id, count(*) OVER () FROM items ORDER BY embedding <=> %s LIMIT 10", ["window-function"]),
    "threshold without ORDER BY": ("SELECT id FROM items WHERE embedding <=> %s < 0.3 LIMIT 10", ["threshold-without-order"]),
    "ordered outside": (
        "WITH all_rows AS MATERIALIZED (SELECT id, embedding <=> %s AS d FROM items) SELECT id FROM all_rows ORDER BY d LIMIT 10",
        ["not-ordered-by-distance"],
    ),
    "no distance": ("SELECT id FROM items ORDER BY id LIMIT 10", ["no-distance"]),
    "several at once": (
        "SELECT id FROM items ORDER BY embedding <-> %s DESC",
        ["operator-of-another-opclass", "descending", "no-limit"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", UNUSED)
def test_a_statement_of_another_shape_is_told_why_not(shared: str, shape: str) -> None:
    statement, reasons = UNUSED[shape]
    found = check(shared, statement)
    assert not found.uses_index
    assert slugs(found) == reasons
    # The remedy was tried: PostgreSQL itself said that it then uses the index.
    if reasons != ["no-distance"]:
        assert found.reasons[0].proven_by == INDEX
    assert all(VECTOR not in reason.why and len(reason.why) < 400 for reason in found.reasons)


@pytest.mark.parametrize("shape", UNUSED)
def test_on_a_small_table_the_same_shapes_are_told_the_same(items: str, shape: str) -> None:
    run(items, f"CREATE INDEX {INDEX} ON items USING hnsw (embedding vector_cosine_ops)")
    statement, reasons = UNUSED[shape]
    found = check(items, statement)
    assert not found.uses_index
    assert slugs(found) == reasons


@pytest.mark.parametrize("shape", USED)
def test_on_a_small_table_the_index_is_not_needed_yet_and_proven_usable(items: str, shape: str) -> None:
    run(items, f"CREATE INDEX {INDEX} ON items USING hnsw (embedding vector_cosine_ops)")
    found = check(items, USED[shape])
    assert found.uses_index
    assert not found.is_chosen
    assert found.is_small_table
    assert found.sentence.startswith("not needed yet: items has 300 rows")
    assert found.index_names == (INDEX,)


def test_the_remedies_name_the_users_own_columns_and_the_opclass_to_build(shared: str) -> None:
    found = check(shared, "SELECT id FROM items AS i ORDER BY i.embedding <-> %s LIMIT 10")
    assert found.reasons[0].why == f"{INDEX} serves <=> (vector_cosine_ops); the statement orders by <->."
    assert "i.embedding <=>" in found.reasons[0].next_step
    assert "vector_l2_ops" in found.reasons[0].next_step
    similar = check(shared, "SELECT 1 - (embedding <=> %s) AS s FROM items ORDER BY s DESC LIMIT 10").reasons[0]
    assert "1 - distance DESC" in similar.why
    assert "items.embedding <=> '…' LIMIT k" in similar.next_step


def test_an_index_on_an_expression_is_named_with_the_expression_to_write(searched: str) -> None:
    run(
        searched,
        f"DROP INDEX {INDEX}",
        "CREATE INDEX items_half ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)",
    )
    found = check(searched, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["index-on-an-expression"]
    assert "(embedding)::halfvec(64)" in found.reasons[0].next_step
    assert found.reasons[0].proven_by == "items_half"
    assert check(searched, "SELECT id FROM items ORDER BY embedding::halfvec(64) <=> %s LIMIT 10").uses_index
    run(searched, "CREATE INDEX items_bits ON items USING hnsw ((binary_quantize(embedding)::bit(64)) bit_hamming_ops)")
    coarse = "ORDER BY binary_quantize(embedding)::bit(64) <~> binary_quantize(%(v)s::vector) LIMIT 40"
    reranked = f"SELECT id FROM (SELECT id, embedding FROM items {coarse}) near ORDER BY embedding <=> %(v)s LIMIT 10"
    found = check(searched, reranked)
    assert found.uses_index
    assert found.index_names == ("items_bits",)


def test_an_invalid_index_is_named_with_its_repair(searched: str) -> None:
    run(searched, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass")
    found = check(searched, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["index-invalid"]
    assert f'REINDEX INDEX CONCURRENTLY "public"."{INDEX}"' in found.reasons[0].next_step


def test_without_any_index_the_one_to_build_is_written_out(many_items: str) -> None:
    found = check(many_items, "SELECT id FROM items ORDER BY embedding <#> %s LIMIT 10")
    assert slugs(found) == ["no-index"]
    assert (
        'CREATE INDEX CONCURRENTLY ON "public"."items" USING hnsw (embedding vector_ip_ops)'
        in found.reasons[0].next_step
    )
    statement = found.reasons[0].next_step.split(". Existing")[0]
    run(many_items, statement)
    assert check(many_items, "SELECT id FROM items ORDER BY embedding <#> %s LIMIT 10").uses_index


def test_a_partial_index_asks_for_its_predicate(searched: str) -> None:
    run(
        searched,
        f"DROP INDEX {INDEX}",
        "CREATE INDEX items_even ON items USING hnsw (embedding vector_cosine_ops) WHERE n < 90",
    )
    found = check(searched, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["partial-index"]
    assert "(n < 90)" in found.reasons[0].next_step
    assert check(searched, "SELECT id FROM items WHERE n < 90 ORDER BY embedding <=> %s LIMIT 10").uses_index
    # As a parameter its value is not known to a generic plan.
    found = check(searched, "SELECT id FROM items WHERE n < $2 ORDER BY embedding <=> $1 LIMIT 10", {"2": 90})
    assert found.uses_index
    assert "generic-plan" in [warning.slug for warning in found.warnings]


def test_limit_as_a_parameter_is_warned_of_because_of_generic_plans(shared: str) -> None:
    # At 300 rows, a tenth of the table, reads at this price are dearer than a scan; at 10 they are not.
    dear = {"random_page_cost": 7}
    found = check(shared, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT %s", {"2": 10}, settings=dear)
    assert found.uses_index
    assert [warning.slug for warning in found.warnings] == ["generic-plan"]
    assert "Seq Scan" in found.warnings[0].why
    assert check(shared, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10", settings=dear).warnings == ()


def test_a_limit_above_ef_search_is_warned_of_as_long_as_nothing_iterates(shared: str) -> None:
    statement = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 30 OFFSET 20"
    found = check(shared, statement)
    assert [warning.slug for warning in found.warnings] == ["limit-above-ef-search"]
    assert "50 rows are requested" in found.warnings[0].why
    assert "SET LOCAL hnsw.ef_search = 50" in found.warnings[0].next_step
    assert check(shared, statement, settings={"hnsw.ef_search": 60}).warnings == ()
    assert check(shared, statement, settings={"hnsw.iterative_scan": "strict_order"}).warnings == ()
    with psycopg.connect(shared) as connection:  # the warning is true
        rows = connection.execute(statement, (VECTOR,)).fetchall()
    assert len(rows) == 20


def test_a_filter_is_warned_of_with_the_rows_to_expect(shared: str) -> None:
    statement = "SELECT id FROM items WHERE n = 7 ORDER BY embedding <=> %s LIMIT 10"
    found = check(shared, statement, settings={"enable_seqscan": "off"})
    assert [warning.slug for warning in found.warnings] == ["filter-after-index"]
    assert "items.n = 7" in found.warnings[0].why
    assert "about 0 remain of the 10 requested" in found.warnings[0].why
    iterated = {"enable_seqscan": "off", "hnsw.iterative_scan": "strict_order"}
    assert check(shared, statement, settings=iterated).warnings == ()


def test_relaxed_order_without_a_sort_above_is_warned_of(shared: str) -> None:
    relaxed = {"hnsw.iterative_scan": "relaxed_order"}
    found = check(shared, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10", settings=relaxed)
    assert [warning.slug for warning in found.warnings] == ["relaxed-order"]
    assert check(shared, USED["in a CTE"], settings=relaxed).warnings == ()


def test_a_large_offset_or_limit_is_told_as_what_makes_a_scan_cheaper(shared: str) -> None:
    found = check(shared, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10 OFFSET 2900")
    assert slugs(found) == ["many-rows-asked-for"]
    assert "LIMIT 10 OFFSET 2900" in found.reasons[0].why
    assert slugs(check(shared, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 2900")) == ["many-rows-asked-for"]


def test_dear_random_reads_and_a_large_ef_search_are_told_apart_from_a_wrong_shape(shared: str) -> None:
    statement = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10"
    found = check(shared, statement, settings={"random_page_cost": 40})
    assert slugs(found) == ["random-page-cost"]
    assert found.reasons[0].proven_by == INDEX
    found = check(shared, statement, settings={"hnsw.ef_search": 1000, "random_page_cost": 6})
    assert "ef-search-too-dear" in slugs(found)


def test_index_scans_switched_off_are_told_with_where(searched: str) -> None:
    name = rows(searched, "SELECT current_database()")[0][0]
    run(searched, sql.SQL("ALTER DATABASE {} SET enable_indexscan = off").format(sql.Identifier(name)))
    found = check(searched, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["index-scans-off"]
    assert "set by: database" in found.reasons[0].why
    assert found.reasons[0].proven_by == INDEX


def test_a_table_without_statistics_is_told_to_be_analyzed(searched: str) -> None:
    run(
        searched,
        "CREATE TABLE fresh (id int PRIMARY KEY, embedding vector(64)) WITH (autovacuum_enabled = off)",
        "CREATE INDEX fresh_idx ON fresh USING hnsw (embedding vector_cosine_ops)",
        "INSERT INTO fresh SELECT id, embedding FROM items LIMIT 2500",
    )
    found = check(searched, "SELECT id FROM fresh ORDER BY embedding <=> %s LIMIT 10")
    said = [*found.reasons, *found.warnings]
    assert "never-analyzed" in [reason.slug for reason in said]
    assert found.table_rows >= 2000


def test_another_index_that_serves_the_filter_is_named(searched: str) -> None:
    run(searched, "CREATE INDEX items_n ON items (n)", "ANALYZE items")
    found = check(searched, "SELECT id FROM items WHERE n = 7 ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["another-index-is-cheaper"]
    assert "items_n" in found.reasons[0].why


def test_an_index_by_name_is_demanded_also_of_a_partitioned_table(searched: str) -> None:
    statement = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10"
    assert check(searched, statement, index=INDEX).uses_index
    assert slugs(check(searched, statement, index="items_other")) == ["another-vector-index"]
    run(
        searched,
        "CREATE TABLE parts (id int, embedding vector(64)) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (1500)",
        "CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM (1500) TO (3000)",
        "INSERT INTO parts SELECT id, embedding FROM items",
        "CREATE INDEX parts_idx ON parts USING hnsw (embedding vector_cosine_ops)",
        "ANALYZE parts",
    )
    found = check(
        searched,
        "SELECT id FROM parts ORDER BY embedding <=> %s LIMIT 10",
        index="parts_idx",
        settings={"enable_seqscan": "off"},
    )
    assert found.uses_index
    assert len(found.index_names) == 2
    assert found.table_rows == 3000


def test_a_part_of_a_statement_that_sorts_every_row_is_not_hidden_by_one_that_uses_the_index(shared: str) -> None:
    found = check(
        shared,
        "(SELECT id FROM items ORDER BY embedding <=> $1 LIMIT 10) UNION ALL "
        "(SELECT id FROM items ORDER BY embedding <-> $1 LIMIT 10)",
    )
    assert not found.is_chosen
    assert slugs(found) == ["operator-of-another-opclass"]


def test_operators_outside_of_search_path_are_told_instead_of_42883(searched: str) -> None:
    run(searched, "CREATE SCHEMA extensions", "ALTER EXTENSION vector SET SCHEMA extensions")
    found = check(searched, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    assert slugs(found) == ["operators-not-in-search-path"]
    assert 'OPERATOR("extensions".<=>)' in found.reasons[0].next_step
    qualified = "SELECT id FROM items ORDER BY embedding OPERATOR(extensions.<=>) %s LIMIT 10"
    assert check(searched, qualified).uses_index
    assert slugs(check(searched, qualified.replace("LIMIT", "DESC LIMIT"))) == ["descending"]
    assert check(
        searched,
        "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10",
        settings={"search_path": "public, extensions"},
    ).uses_index


def test_missing_parameters_are_all_named_with_their_types(shared: str) -> None:
    with pytest.raises(StatementNotCheckable) as caught:
        check(shared, "SELECT id FROM items WHERE n = :topic ORDER BY embedding <=> :v LIMIT :k")
    assert "topic (int4), k (int8)" in caught.value.what


def test_a_missing_vector_is_made_to_fit_an_empty_table_too(empty: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE nothing (id int, title vector(3), embedding vector(5))",
        "CREATE INDEX nothing_idx ON nothing USING hnsw (embedding vector_cosine_ops)",
    )
    found = check(empty, "SELECT id FROM nothing ORDER BY embedding <=> $1::vector(5) LIMIT 10")
    assert found.uses_index
    assert found.is_small_table
    assert "[1,0,0,0,0]" in "\n".join(found.plan)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO items (id) VALUES (-1)", "writes"),
        ("DELETE FROM items", "is not a SELECT"),
        ("EXPLAIN ANALYZE DELETE FROM items", "is not a SELECT"),
        ("WITH gone AS (DELETE FROM items RETURNING id) SELECT * FROM gone", "writes"),
        ("SELECT 1 AS a INTO made FROM items", "writes"),
        ("SELECT 1; DELETE FROM items", "2 statements"),
        ("SELECT missing FROM items", "rejects"),
        ("SELECT FROM nowhere", "rejects"),
        ("SELECT id FROM items ORDER BY embedding <=> $1::vector(3) LIMIT 1", "rejects"),
        ("SELECT id FROM items LIMIT 'x'", "rejects"),
        ("SELEC 1", "is not a SELECT"),
    ],
)
def test_what_is_no_single_select_is_refused_and_nothing_is_executed(shared: str, statement: str, says: str) -> None:
    with pytest.raises(StatementNotCheckable) as caught:
        check(shared, statement)
    assert says in caught.value.what
    assert rows(shared, "SELECT count(*) FROM items") == [(3000,)]


def test_nothing_of_a_statement_is_executed_and_nothing_stays_behind(searched: str) -> None:
    run(searched, "CREATE SEQUENCE told", "CREATE TABLE slow AS SELECT 1 AS a")
    with psycopg.connect(searched, row_factory=dict_row) as connection:
        connection.execute("INSERT INTO items (id, embedding) VALUES (-1, %s)", (VECTOR,))
        started = time.monotonic()
        check_statement(
            connection, "SELECT id, nextval('told'), pg_sleep(60) FROM items ORDER BY embedding <=> %s LIMIT 10"
        )
        assert time.monotonic() - started < 30
        # The transaction of the caller is as it was: open, writing, with what it wrote.
        connection.execute("UPDATE items SET n = 5 WHERE id = -1")
        left = "SELECT count(*) AS n FROM pg_prepared_statements WHERE name LIKE 'everindex%%'"
        assert connection.execute(left).fetchall() == [{"n": 0}]
        with pytest.raises(StatementNotCheckable):
            check_statement(connection, "SELECT nowhere FROM items")
        assert connection.execute("SELECT n FROM items WHERE id = -1").fetchall() == [{"n": 5}]
        assert connection.execute("SHOW plan_cache_mode").fetchall() == [{"plan_cache_mode": "auto"}]
        connection.rollback()
        check_statement(connection, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute(left).fetchall() == [{"n": 0}]
    assert rows(searched, "SELECT is_called FROM told") == [(False,)]


def test_a_setting_that_does_not_exist_is_refused_even_in_pgvectors_own_name(shared: str) -> None:
    statement = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10"
    for name, value in (("hnsw.ef_serch", 100), ("no_such_setting", "on"), ("hnsw.ef_search", 5000)):
        with pytest.raises(StatementNotCheckable) as caught:
            check(shared, statement, settings={name: value})
        assert name in caught.value.what
    assert check(shared, statement, settings={"app.tenant": "7", "jit": False}).uses_index


def test_python_values_are_taken_as_a_driver_takes_them(shared: str) -> None:
    numpy = pytest.importorskip("numpy")
    statement = "SELECT id FROM items WHERE n IN %s ORDER BY embedding <=> %s LIMIT %s"
    for vector in (numpy.full(64, 0.5, dtype="float32"), [0.5] * 64, VECTOR):
        found = check(shared, statement, [(1, 2, 3), vector, numpy.int64(5)], settings={"enable_seqscan": "off"})
        assert found.uses_index
        assert "ANY ('{1,2,3}'" in "\n".join(found.plan)
    with pytest.raises(StatementNotCheckable, match="cannot be written as SQL"):
        check(shared, "SELECT id FROM items WHERE n = %s", [object()])
    # PostgreSQL alone cannot tell this parameter's type; a driver that writes values into the text can use it.
    untyped = "SELECT id, %s AS marked FROM items WHERE %s IS NOT NULL ORDER BY embedding <=> %s LIMIT 10"
    assert check(shared, untyped, ["a", "b", VECTOR]).uses_index


def test_a_role_that_may_not_read_the_table_is_told_so(searched: str) -> None:
    run(searched, "DROP ROLE IF EXISTS check_reader", "CREATE ROLE check_reader")
    try:
        with psycopg.connect(searched, autocommit=True) as connection:
            connection.execute("SET ROLE check_reader")
            with pytest.raises(PermissionDenied):
                check_statement(connection, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10")
    finally:
        run(searched, "DROP ROLE check_reader")


def test_the_sets_of_a_text_are_in_force_for_its_select(shared: str) -> None:
    search = "SELECT id FROM items ORDER BY embedding <=> $1 LIMIT 60"
    assert [warning.slug for warning in check(shared, search).warnings] == ["limit-above-ef-search"]
    assert check(shared, f"BEGIN; SET LOCAL hnsw.ef_search = 100; {search}; COMMIT").warnings == ()
    assert check(shared, f"SELECT set_config('hnsw.ef_search', :ef, true); {search}", {"ef": "80"}).warnings == ()
    assert check(shared, f"SET hnsw.iterative_scan TO 'strict_order'; {search}").warnings == ()
    lost = f"SET hnsw.ef_search = 100; RESET hnsw.ef_search; {search}"
    assert [warning.slug for warning in check(shared, lost).warnings] == ["limit-above-ef-search"]
    for wrong, says in (
        ("hnsw.ef_serch = 1", "no setting hnsw.ef_serch"),
        ("hnsw.ef_search = 'x'", "rejects SET LOCAL"),
    ):
        with pytest.raises(StatementNotCheckable) as caught:
            check(shared, f"SET LOCAL {wrong}; {search}")
        assert says in caught.value.what
    assert check(shared, f"SELECT set_config(:name, '80', true); {search}", {"name": "hnsw.ef_search"}).warnings == ()
    assert check(shared, f"SET statement_timeout = 1; {search}").uses_index
    with pytest.raises(StatementNotCheckable, match="without a value: 1"):
        check(shared, f"SET LOCAL hnsw.ef_search = %s; {search}")
    assert rows(shared, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]
