"""Statements whose answer depends on more than their shape: row security, functions, partitions, subqueries, several indexes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import scene
from by_hand import run
from everindex.errors import StatementNotCheckable
from everindex.statement_check.check import StatementCheck, check_statement

INDEX = "items_embedding_idx"
ROLE = f"check_app_{os.getpid()}"
SEARCH = "SELECT id FROM secured ORDER BY embedding <=> $1 LIMIT 10"
#: A shape of PostgreSQL's functions, each with the same body.
BODY = "SELECT i.id, i.embedding <=> q FROM items i ORDER BY i.embedding <=> q LIMIT 10"


def fill(conninfo: str) -> None:
    scene.fill_items(conninfo, count=3000)
    run(
        conninfo,
        "UPDATE items SET n = id % 100",
        f"CREATE INDEX {INDEX} ON items USING hnsw (embedding vector_cosine_ops)",
        "CREATE FUNCTION unmarked() RETURNS vector LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN array_fill(0.1, ARRAY[64])::vector; END $$",
        "CREATE FUNCTION stable() RETURNS vector LANGUAGE plpgsql STABLE AS "
        "$$ BEGIN RETURN array_fill(0.1, ARRAY[64])::vector; END $$",
        *(
            f"CREATE FUNCTION {name}(q vector) RETURNS TABLE (id int, d float8) {how} AS $$ {body} $$"
            for name, how, body in (
                ("in_plpgsql", "LANGUAGE plpgsql STABLE", f"BEGIN RETURN QUERY {BODY}; END"),
                (
                    "as_owner",
                    "LANGUAGE plpgsql SECURITY DEFINER SET hnsw.ef_search = 80",
                    f"BEGIN RETURN QUERY {BODY}; END",
                ),
                ("in_sql", "LANGUAGE sql STABLE", BODY),
                ("in_volatile_sql", "LANGUAGE sql", BODY),
            )
        ),
        "CREATE TABLE secured AS SELECT id, n AS tenant, embedding FROM items",
        "CREATE INDEX secured_idx ON secured USING hnsw (embedding vector_cosine_ops)",
        "ALTER TABLE secured ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY of_tenant ON secured USING (tenant = current_setting('app.tenant')::int)",
        "CREATE TABLE denied AS SELECT id, embedding FROM items",
        "ALTER TABLE denied ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE parts (id int, embedding vector(64)) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (500)",
        "CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM (500) TO (3000)",
        "INSERT INTO parts SELECT id, embedding FROM items",
        "CREATE TABLE halves (id int, n int, embedding vector(64)) PARTITION BY RANGE (id)",
        "CREATE TABLE halves_a PARTITION OF halves FOR VALUES FROM (0) TO (500)",
        "CREATE TABLE halves_b PARTITION OF halves FOR VALUES FROM (500) TO (3000)",
        "INSERT INTO halves SELECT id, id % 4, embedding FROM items",
        "CREATE INDEX halves_idx ON halves USING hnsw (embedding vector_cosine_ops)",
        "CREATE INDEX parts_a_idx ON parts_a USING hnsw (embedding vector_cosine_ops)",
        "CREATE TABLE parent (id int, embedding vector(64))",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent SELECT id, embedding FROM items",
        "INSERT INTO child SELECT id, embedding FROM items",
        "CREATE INDEX child_idx ON child USING hnsw (embedding vector_cosine_ops)",
        "VACUUM ANALYZE",
    )


@pytest.fixture(scope="module")
def shared(cluster: Any) -> Iterator[str]:
    """3,000 rows in tables of several kinds, and a role without privileges of its own that row security applies to."""
    conninfo = cluster.database(cluster.template("items_in_scenes", fill))
    run(
        conninfo,
        f"CREATE ROLE {ROLE}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}",
        f"ALTER ROLE {ROLE} SET hnsw.max_scan_tuples = 30000",
    )
    yield conninfo
    run(conninfo, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")
    cluster.drop(conninfo)


def check(conninfo: str, statement: str, parameters: Any = None, **others: Any) -> StatementCheck:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return check_statement(connection, statement, parameters, **others)


def slugs(found: StatementCheck) -> list[str]:
    return [reason.slug for reason in found.reasons]


def warned(found: StatementCheck) -> list[str]:
    return [warning.slug for warning in found.warnings]


# --- row security --------------------------------------------------------------------------------------------------


def test_row_security_is_told_as_a_filter_after_the_index_with_the_rows_that_pass(shared: str) -> None:
    found = check(shared, SEARCH, role=ROLE, settings={"app.tenant": 7, "enable_seqscan": "off"})
    assert found.uses_index
    assert (found.table_rows, found.tables[0].passing) == (3000, 30)
    assert warned(found) == ["row-security"]
    warning = found.warnings[0]
    assert "policy of_tenant" in warning.why
    assert "30 of 3,000 rows pass" in warning.why
    assert warning.proven_by == "secured_idx"
    # It is true, and so is what is said to help.
    with psycopg.connect(shared) as connection:
        for name, value in (("app.tenant", "7"), ("enable_seqscan", "off"), ("role", ROLE)):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        vector = str([0.25] * scene.DIMENSIONS)
        assert len(connection.execute(SEARCH.replace("$1", "%s"), (vector,)).fetchall()) < 10
        connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        assert len(connection.execute(SEARCH.replace("$1", "%s"), (vector,)).fetchall()) == 10
    helped = {"app.tenant": 7, "enable_seqscan": "off", "hnsw.iterative_scan": "strict_order"}
    assert warned(check(shared, SEARCH, role=ROLE, settings=helped)) == []


def test_row_security_that_does_not_concern_the_role_that_asks_is_told_with_why(shared: str) -> None:
    found = check(shared, SEARCH)
    assert warned(found) == ["row-security-bypassed"]
    assert "is a superuser" in found.warnings[0].why
    assert "--role ROLE --set app.tenant=VALUE" in found.warnings[0].next_step
    run(shared, f"ALTER ROLE {ROLE} BYPASSRLS")
    try:
        assert "has BYPASSRLS" in check(shared, SEARCH, role=ROLE).warnings[0].why
    finally:
        run(shared, f"ALTER ROLE {ROLE} NOBYPASSRLS")
    run(shared, f"GRANT CREATE ON SCHEMA public TO {ROLE}", f"ALTER TABLE secured OWNER TO {ROLE}")
    try:
        assert "owns it, and it is not forced" in check(shared, SEARCH, role=ROLE).warnings[0].why
        run(shared, "ALTER TABLE secured FORCE ROW LEVEL SECURITY")
        forced = check(shared, SEARCH, role=ROLE, settings={"app.tenant": 7, "enable_seqscan": "off"})
        assert warned(forced) == ["row-security"]
    finally:
        run(
            shared,
            "ALTER TABLE secured NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE secured OWNER TO CURRENT_USER",
            f"GRANT SELECT ON secured TO {ROLE}",
        )


@pytest.mark.parametrize("settings", [{}, {"app.tenant": ""}])
def test_a_policy_that_reads_a_setting_which_is_not_set_is_told_with_the_setting(shared: str, settings: Any) -> None:
    with pytest.raises(StatementNotCheckable) as caught:
        check(shared, SEARCH, role=ROLE, settings=settings)
    assert "policy of_tenant" in caught.value.why
    assert "--set app.tenant=VALUE" in caught.value.next_step
    assert check(shared, f"SET app.tenant = '7'; {SEARCH}", role=ROLE, settings={"enable_seqscan": "off"}).uses_index


def test_row_security_without_a_policy_reads_nothing_and_that_is_said(shared: str) -> None:
    found = check(shared, "SELECT id FROM denied ORDER BY embedding <=> $1 LIMIT 10", role=ROLE)
    assert slugs(found) == ["nothing-is-read"]
    assert "row security" in found.reasons[0].why


def test_a_role_is_assumed_with_its_settings_and_left_again(shared: str) -> None:
    with psycopg.connect(shared, autocommit=True) as connection:
        before = connection.execute("SELECT current_user, current_setting('hnsw.max_scan_tuples', true)").fetchall()
        check_statement(connection, "SELECT id FROM items ORDER BY embedding <=> $1 LIMIT 10", role=ROLE)
        assert connection.execute("SELECT current_user").fetchone() == (before[0][0],)
        with pytest.raises(StatementNotCheckable, match="cannot be assumed"):
            check_statement(connection, SEARCH, role="nobody at all")


# --- where the vector comes from -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", ["unmarked()", "(SELECT n.v FROM (SELECT unmarked() AS v OFFSET 0) n WHERE random() >= 0)"]
)
def test_a_vector_of_a_volatile_function_is_to_be_computed_once_and_that_is_proven(shared: str, vector: str) -> None:
    statement = "SELECT id FROM items ORDER BY embedding <=> {} LIMIT 5"
    if vector != "unmarked()":
        assert check(shared, statement.format(vector)).uses_index  # a subquery is computed once, whatever it calls
        return
    found = check(shared, statement.format(vector))
    assert slugs(found) == ["volatile-vector"]
    assert "unmarked() is VOLATILE" in found.reasons[0].why
    assert "(SELECT unmarked())" in found.reasons[0].next_step
    assert 'ALTER FUNCTION "public"."unmarked"() STABLE' in found.reasons[0].next_step
    assert found.reasons[0].proven_by == INDEX
    assert check(shared, statement.format("(SELECT unmarked())")).uses_index
    assert check(shared, statement.format("stable()")).uses_index


def test_what_is_wrong_beside_a_volatile_vector_is_said_too(shared: str) -> None:
    found = check(shared, "SELECT id FROM items ORDER BY 1 - (embedding <=> unmarked()) DESC LIMIT 5")
    assert slugs(found) == ["similarity-descending", "volatile-vector"]
    found = check(shared, "SELECT id FROM items ORDER BY embedding <-> unmarked() LIMIT 5")
    assert slugs(found) == ["operator-of-another-opclass", "volatile-vector"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM items ORDER BY embedding <=> (SELECT avg(embedding) FROM items) LIMIT 10",
        "WITH q AS MATERIALIZED (SELECT avg(embedding) AS v FROM items) "
        "SELECT id FROM items ORDER BY embedding <=> (SELECT v FROM q) LIMIT 10",
        "SELECT id FROM items WHERE EXISTS (SELECT FROM parts WHERE id = 5) AND n >= (SELECT min(n) FROM items) "
        "ORDER BY embedding <=> (SELECT avg(embedding) FROM parts) LIMIT 10",
        "SELECT id, (SELECT count(*) FROM parts) FROM items ORDER BY embedding <=> (SELECT avg(embedding) FROM items) LIMIT 10",
        "SELECT id FROM items ORDER BY embedding <=> $1 LIMIT (SELECT 10)",
    ],
)
def test_what_a_subquery_costs_is_not_taken_for_an_offset(shared: str, statement: str) -> None:
    found = check(shared, statement)
    assert found.uses_index
    assert {"limit-above-ef-search", "large-offset"}.isdisjoint(warned(found))


def test_an_offset_is_still_seen_beside_a_subquery(shared: str) -> None:
    found = check(
        shared, "SELECT id FROM items ORDER BY embedding <=> (SELECT avg(embedding) FROM items) LIMIT 30 OFFSET 20"
    )
    assert "50 rows are requested" in found.warnings[0].why


def test_a_remedy_keeps_the_distance_of_the_statement_whatever_the_indexes_are_called(cluster: Any) -> None:
    conninfo = cluster.database(cluster.template("items_in_scenes", fill))
    try:
        for name, opclass in (("a_ip", "vector_ip_ops"), ("z_l2", "vector_l2_ops")):
            run(conninfo, f"CREATE INDEX {name} ON items USING hnsw (embedding {opclass})")
        for operator, index in (("<=>", INDEX), ("<#>", "a_ip"), ("<->", "z_l2")):
            found = check(conninfo, f"SELECT id FROM items ORDER BY embedding::halfvec(64) {operator} $1 LIMIT 10")
            assert slugs(found) == ["cast-of-the-column"]
            assert f"ORDER BY embedding {operator} …" in found.reasons[0].next_step
            assert found.reasons[0].proven_by == index
        other = check(conninfo, "SELECT id FROM items ORDER BY embedding <+> $1 LIMIT 10").reasons[0]
        assert all(f"{name} serves" in other.why for name in ("a_ip", "z_l2", INDEX))
        both = check(conninfo, "SELECT id FROM items ORDER BY (embedding <=> $1) + (embedding <-> $1) LIMIT 10")
        assert slugs(both) == ["computed-from-distances"]
    finally:
        cluster.drop(conninfo)


# --- functions, partitions, windows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("SELECT * FROM in_plpgsql($1)", "LANGUAGE plpgsql"),
        ("SELECT in_plpgsql($1)", "LANGUAGE plpgsql"),
        ("SELECT i.id FROM in_plpgsql($1) f JOIN items i USING (id) ORDER BY f.d", "LANGUAGE plpgsql"),
        ("SELECT * FROM in_volatile_sql($1)", "it is VOLATILE"),
        ("SELECT in_sql($1)", "not the only item in FROM"),
    ],
)
def test_a_function_whose_body_is_not_in_the_plan_is_named_with_what_to_check(
    shared: str, call: str, says: str
) -> None:
    found = check(shared, call, ["[" + ",".join(["1"] * 64) + "]"])
    assert slugs(found) == ["body-of-a-function"]
    assert says in found.reasons[0].why
    assert "everindex check" in found.reasons[0].next_step
    assert "auto_explain.log_nested_statements" in found.reasons[0].next_step


def test_a_function_in_sql_that_is_written_into_the_statement_is_checked_like_a_view(shared: str) -> None:
    assert check(shared, "SELECT * FROM in_sql($1)", ["[" + ",".join(["1"] * 64) + "]"]).uses_index


def test_the_rights_and_settings_of_a_function_are_part_of_what_to_check(shared: str) -> None:
    found = check(shared, "SELECT * FROM as_owner($1)", ["[" + ",".join(["1"] * 64) + "]"])
    assert "as the function's owner" in found.reasons[0].next_step
    assert "--set hnsw.ef_search=80" in found.reasons[0].next_step


def test_a_partition_or_a_parent_without_the_index_is_named(shared: str) -> None:
    found = check(shared, "SELECT id FROM parts ORDER BY embedding <=> $1 LIMIT 10")
    assert slugs(found) == ["no-index"]
    assert 'ON "public"."parts_b"' in found.reasons[0].next_step
    found = check(shared, "SELECT id FROM parent ORDER BY embedding <=> $1 LIMIT 10")
    assert slugs(found) == ["no-index"]
    assert 'ON "public"."parent"' in found.reasons[0].next_step


def test_what_is_pruned_does_not_count_and_nothing_left_is_said(shared: str) -> None:
    found = check(
        shared, "SELECT id FROM parts WHERE id < :id ORDER BY embedding <=> :v LIMIT 10", {"id": 400},
        settings={"enable_seqscan": "off"},
    )  # fmt: skip
    assert found.index_names == ("parts_a_idx",)
    assert found.uses_index
    found = check(shared, "SELECT id FROM parts WHERE id > 5000 ORDER BY embedding <=> $1 LIMIT 10")
    assert slugs(found) == ["nothing-is-read"]


def test_small_is_what_is_read_of_a_partitioned_table_and_not_all_of_it(shared: str) -> None:
    dear = {"random_page_cost": 1000}
    pruned = "SELECT id FROM halves WHERE id < 500 ORDER BY embedding <=> $1 LIMIT 10"
    for statement in (pruned, "SELECT id FROM halves_a ORDER BY embedding <=> $1 LIMIT 10"):
        found = check(shared, statement, settings=dear)
        assert (found.table_rows, found.is_small_table, found.is_chosen) == (500, True, False)
        assert found.uses_index, found.reasons
        assert "halves has 500 rows in the 1 of 2 partitions that are read" in found.sentence
    found = check(shared, "SELECT id FROM halves ORDER BY embedding <=> $1 LIMIT 10", settings=dear)
    assert (found.table_rows, found.is_small_table) == (3000, False)
    assert slugs(found) == ["random-page-cost"]


def test_a_role_that_may_read_no_partition_by_its_own_name_is_told_the_rows_of_the_statistics(shared: str) -> None:
    statement = "SELECT id FROM halves WHERE id < 500 ORDER BY embedding <=> $1 LIMIT 10"
    run(shared, f"REVOKE SELECT ON halves_a FROM {ROLE}")
    try:
        found = check(shared, statement, [str([0.25] * scene.DIMENSIONS)], role=ROLE)
        assert (found.table_rows, found.is_small_table) == (500, True)
    finally:
        run(shared, f"GRANT SELECT ON halves_a TO {ROLE}")


def test_the_share_that_a_filter_leaves_is_that_of_each_partition(shared: str) -> None:
    """A quarter of 40 rows passes in each of two partitions: ten are there, which makes twenty."""
    statement = "SELECT id FROM halves WHERE n = 1 ORDER BY embedding <=> $1 LIMIT 18"
    settings = {"enable_seqscan": "off", "enable_bitmapscan": "off"}
    assert warned(check(shared, statement, settings=settings)) == []
    found = check(shared, statement.replace("LIMIT 18", "LIMIT 30"), settings=settings)
    assert warned(found) == ["filter-after-index"]
    assert "the 40 rows that each of 2 scans finds: about 20 remain of the 30 requested" in found.warnings[0].why


def test_each_partition_gives_the_rows_of_a_walk_of_its_own(shared: str) -> None:
    statement = "SELECT id FROM halves ORDER BY embedding <=> $1 LIMIT {}"
    settings = {"enable_seqscan": "off"}
    assert warned(check(shared, statement.format(80), settings=settings)) == []
    found = check(shared, statement.format(81), settings=settings)
    assert warned(found) == ["limit-above-ef-search"]
    assert "81 rows are requested, but scans of 2 partitions find 80" in found.warnings[0].why
    assert "one scan finds only hnsw.ef_search = 40" in check(
        shared, f"{statement.format(60).replace(' ORDER', ' WHERE id < 500 ORDER')}", settings=settings
    ).warnings[0].why  # fmt: skip
    # It is true, and so is what is said to help.
    with psycopg.connect(shared) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        for limit, rows in ((80, 80), (81, 80)):
            query = statement.format(limit).replace("$1", "%s")
            assert len(connection.execute(query, (str([0.25] * scene.DIMENSIONS),)).fetchall()) == rows
        connection.execute("SET LOCAL hnsw.ef_search = 81")
        assert len(connection.execute(query, (str([0.25] * scene.DIMENSIONS),)).fetchall()) == 81


def test_a_partition_that_is_read_in_full_gives_all_of_its_rows(shared: str) -> None:
    """The smaller half is sorted, and gives its 500 rows beside the 40 of the walk through the other."""
    statement = "SELECT id FROM halves ORDER BY embedding <=> $1 LIMIT {}"
    with psycopg.connect(shared) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'halves_a_embedding_idx'::regclass"
        )
        connection.execute("SET LOCAL random_page_cost = 0.1")
        enough, too_many = (check_statement(connection, statement.format(limit)) for limit in (500, 600))
        connection.rollback()
    assert warned(enough) == []
    assert warned(too_many) == ["limit-above-ef-search"]
    assert (
        "one scan finds only hnsw.ef_search = 40, in addition to 500 rows read without an index"
        in too_many.warnings[0].why
    )


def test_the_budget_of_an_iterative_scan_is_that_of_each_partition(shared: str) -> None:
    statement = "SELECT id FROM halves WHERE n = 1 ORDER BY embedding <=> $1 LIMIT {}"
    settings = {
        "enable_seqscan": "off", "enable_bitmapscan": "off",
        "hnsw.iterative_scan": "strict_order", "hnsw.max_scan_tuples": 200,
    }  # fmt: skip
    assert warned(check(shared, statement.format(80), settings=settings)) == []
    found = check(shared, statement.format(120), settings=settings)
    assert warned(found) == ["scan-ends-early"]
    assert "200 rows in each of 2 partitions, which have 3,000" in found.warnings[0].why
    assert "about 100 of 120 are returned" in found.warnings[0].why


def test_an_iterative_scan_that_its_budget_ends_is_told_with_the_rows_that_come_back(shared: str) -> None:
    statement = "SELECT id FROM items WHERE n = 7 ORDER BY embedding <=> $1 LIMIT 10"
    settings = {"enable_seqscan": "off", "hnsw.iterative_scan": "strict_order", "hnsw.max_scan_tuples": 300}
    found = check(shared, statement, settings=settings)
    assert warned(found) == ["scan-ends-early"]
    assert "hnsw.max_scan_tuples = 300 of 3,000 rows" in found.warnings[0].why
    assert "about 3 of 10 are returned" in found.warnings[0].why
    assert "SET LOCAL hnsw.max_scan_tuples = 2000" in found.warnings[0].next_step
    # It is true, and so is what is said to help.
    with psycopg.connect(shared) as connection:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", (name, str(value)))
        query = (statement.replace("$1", "%s"), (str([0.25] * scene.DIMENSIONS),))
        assert len(connection.execute(*query).fetchall()) < 10
        connection.execute("SET LOCAL hnsw.max_scan_tuples = 2000")
        assert len(connection.execute(*query).fetchall()) == 10
    assert warned(check(shared, statement, settings={**settings, "hnsw.max_scan_tuples": 2000})) == []
    every = {**settings, "hnsw.max_scan_tuples": 3000}  # the budget ends no scan of so few rows
    assert warned(check(shared, statement.replace("LIMIT 10", "LIMIT 50"), settings=every)) == []


def test_the_budget_of_an_iterative_scan_is_compared_with_the_rows_that_row_security_lets_pass(shared: str) -> None:
    settings = {
        "app.tenant": 7, "enable_seqscan": "off", "hnsw.iterative_scan": "strict_order", "hnsw.max_scan_tuples": 300,
    }  # fmt: skip
    assert warned(check(shared, SEARCH, role=ROLE, settings=settings)) == ["scan-ends-early"]


def test_a_foreign_partition_is_told_of_even_while_its_server_cannot_be_reached(cluster: Any) -> None:
    conninfo = cluster.database(cluster.template("items_in_scenes", fill))
    try:
        run(
            conninfo,
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER away OPTIONS (user 'nobody', password 'none')",
            "CREATE FOREIGN TABLE remote (id int, embedding vector(64)) SERVER away",
            "CREATE FOREIGN TABLE parts_c PARTITION OF parts FOR VALUES FROM (3000) TO (9000) SERVER away",
            "CREATE INDEX parts_b_idx ON parts_b USING hnsw (embedding vector_cosine_ops)",
        )
        found = check(conninfo, "SELECT id FROM remote ORDER BY embedding <=> $1 LIMIT 10")
        assert slugs(found) == ["foreign-table"]
        found = check(
            conninfo, "SELECT id FROM parts ORDER BY embedding <=> $1 LIMIT 10", settings={"enable_sort": "off"}
        )
        assert "foreign-table" in [*slugs(found), *warned(found)]
        assert "parts_c" in next(one.why for one in (*found.reasons, *found.warnings) if one.slug == "foreign-table")
    finally:
        cluster.drop(conninfo)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY embedding <=> $1) AS place FROM items) t WHERE place <= 5",
        "SELECT id, rank() OVER (ORDER BY embedding <=> $1) AS place FROM items ORDER BY embedding <=> $1 LIMIT 20",
    ],
)
def test_a_window_that_only_numbers_the_rows_lets_a_limit_end_the_scan(shared: str, statement: str) -> None:
    found = check(shared, statement, settings={"enable_seqscan": "off"})
    assert found.uses_index
    assert "no-limit" not in warned(found)


def test_the_smallest_distance_of_each_group_is_told_as_a_grouping(shared: str) -> None:
    found = check(shared, "SELECT n, min(embedding <=> $1) AS d FROM items GROUP BY n ORDER BY d LIMIT 5")
    assert slugs(found) == ["grouped"]
