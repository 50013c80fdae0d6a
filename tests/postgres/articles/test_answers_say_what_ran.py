"""An answer says what its plan did: also in the seconds in which nobody has looked at the catalog yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Filters
from everindex.articles.search.vector import engine as engine_module
from everindex.articles.search.vector.strategy import SMALL_TABLE
from everindex.index.catalog.generations import previous_note
from everindex.settings import Settings
from golden_answers import Golden, check_exact

NO_INDEX = "no valid vector index is available at the moment: every row was read (exact search)"
INDEX = "articles_embedding_hnsw_idx"
OTHERS = "CREATE INDEX {} ON articles USING {} (embedding {}) {}"


@pytest.fixture(autouse=True)
def _nobody_looks_by_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SERVING_SECONDS", 3600.0)


@pytest.fixture
def vector(golden: Golden) -> np.ndarray:
    return golden.directions[7].astype(np.float32)


def seen(answer: Answer) -> tuple[str, int | None, list[str]]:
    return answer.strategy, answer.ef_search, answer.notices


def test_the_first_answer_after_the_index_was_dropped_is_exact_and_says_so(
    instance: Instance, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    searches: dict[str, Callable[[], Answer]] = {
        "one": lambda: instance.search_vector(vector, k=10),
        "many": lambda: instance.search_many([vector, -vector], k=10)[1],
        "hybrid": lambda: instance.search("memory leak", mode="hybrid"),
        "similar": lambda: instance.similar(golden.rows[0]["uri"], k=5),
    }
    for name, search in searches.items():
        instance.invalidate()
        assert seen(search()) == ("index", 40, []), name
        sql.execute(f"DROP INDEX {INDEX}")
        answer = search()
        assert (answer.strategy, answer.ef_search, answer.notices) == ("exact", None, [NO_INDEX]), name
        if name == "one":
            check_exact(answer, golden, vector, Filters(), k=10)
        assert search().notices == [NO_INDEX], "and so does the one after it"
        # A coarse graph is built ten times as fast, and serves the same searches.
        sql.execute(
            f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 4, ef_construction = 8)"
        )


def test_a_dropped_index_under_a_filter_and_on_a_further_page_is_told(
    instance: Instance, sql: psycopg.Connection, vector: np.ndarray
) -> None:
    wide = {"since": "1990"}
    assert instance.search_vector(vector, k=10, filters=wide).strategy == "index-filtered"
    first = instance.search_vector(vector, k=10)
    assert first.next_cursor
    sql.execute(f"DROP INDEX {INDEX}")
    second = instance.search_vector(vector, k=10, after=first.next_cursor)
    assert (second.strategy, second.notices) == ("exact", [NO_INDEX])
    whole = [hit.uri for hit in instance.search_vector(vector, k=20, exact=True).hits]
    assert [hit.uri for hit in (*first.hits, *second.hits)] == whole
    assert instance.search_vector(vector, k=10, filters=wide).strategy == "filtered-exact"


def test_pages_walked_while_the_index_goes_have_every_article_once(
    instance: Instance, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    sql.execute("UPDATE articles SET embedding = (SELECT embedding FROM articles ORDER BY uri LIMIT 1) WHERE uri IN "
                "(SELECT uri FROM articles ORDER BY uri DESC LIMIT 60)")  # fmt: skip
    walked: list[str] = []
    answer = instance.search_vector(vector, k=50)
    while True:
        walked += [hit.uri for hit in answer.hits]
        if answer.next_cursor is None:
            break
        if len(walked) == 100:
            sql.execute(f"DROP INDEX {INDEX}")
        answer = instance.search_vector(vector, k=50, after=answer.next_cursor)
    assert len(walked) == len(set(walked)) == len(golden.rows)


def test_an_index_of_another_distance_under_the_same_name_does_not_count(
    instance: Instance, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    assert instance.search_vector(vector).strategy == "index"
    sql.execute(f"DROP INDEX {INDEX}")
    sql.execute(OTHERS.format(INDEX, "hnsw", "vector_l2_ops", ""))
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.notices) == ("exact", [NO_INDEX])
    check_exact(answer, golden, vector, Filters(), k=10)


def test_an_index_that_turned_invalid_is_told_at_once(
    instance: Instance, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    assert instance.search_vector(vector).strategy == "index"
    sql.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass")
    sql.execute(
        "ALTER TABLE articles SET (fillfactor = 99)"
    )  # as every DDL does: kept plans of the table are made anew
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.notices) == ("exact", [NO_INDEX])
    check_exact(answer, golden, vector, Filters(), k=10)


def test_a_swap_to_another_generation_goes_on_through_that(
    instance: Instance, sql: psycopg.Connection, vector: np.ndarray
) -> None:
    before = instance.search_vector(vector)
    sql.execute(OTHERS.format(f"{INDEX}__next", "hnsw", "vector_cosine_ops", "WITH (m = 24)"))
    sql.execute(f"ALTER INDEX {INDEX} RENAME TO {INDEX}__prev")
    sql.execute(f"ALTER INDEX {INDEX}__next RENAME TO {INDEX}")
    note = previous_note(keep_until=datetime(2100, 1, 1, tzinfo=UTC), is_hidden=True)
    sql.execute(f"COMMENT ON INDEX {INDEX}__prev IS '{note}'")
    sql.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}__prev'::regclass")
    sql.execute("ALTER TABLE articles SET (fillfactor = 99)")
    answer = instance.search_vector(vector)
    assert seen(answer) == ("index", 40, [])
    assert {hit.uri for hit in answer.hits} & {hit.uri for hit in before.hits}
    assert instance.engine.known()[1].indexes == (
        sql.execute(f"SELECT '{INDEX}'::regclass::oid::int8").fetchone() or ()
    )


def test_a_swap_to_codes_is_answered_by_codes(instance: Instance, sql: psycopg.Connection, vector: np.ndarray) -> None:
    assert instance.search_vector(vector).strategy == "index"
    sql.execute(f"DROP INDEX {INDEX}")
    sql.execute(f"CREATE INDEX {INDEX} ON articles USING hnsw ((embedding::halfvec(1536)) halfvec_cosine_ops)")
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.notices) == ("reranked", [])
    sql.execute(f"DROP INDEX {INDEX}")
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.ef_search, answer.notices) == ("exact", None, [NO_INDEX])


def test_a_planner_that_may_not_take_the_index_is_told_with_its_plan(
    filled: str, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(filled)["dbname"]
    sql.execute(f"ALTER DATABASE {name} SET enable_indexscan = off")
    with connect_instance(filled, settings=Settings()) as instance:
        answer = instance.search_vector(vector)
        plan = "\n".join(instance.explain(vector).plan)
    if INDEX in plan:  # both ways are switched off: PostgreSQL 18 takes the cheaper of the two
        assert seen(answer) == ("index", 40, [])
    else:
        assert answer.strategy == "exact"
        assert [f"the planner does not use the index {INDEX}" in notice for notice in answer.notices] == [True]
        check_exact(answer, golden, vector, Filters(), k=10)


def test_an_index_of_another_method_that_the_planner_prefers_is_named(
    instance: Instance, sql: psycopg.Connection, vector: np.ndarray
) -> None:
    sql.execute(OTHERS.format("cheaper", "ivfflat", "vector_cosine_ops", "WITH (lists = 100)"))
    plan = "\n".join(instance.explain(vector).plan)
    answer = instance.search_vector(vector)
    if "using cheaper" in plan:
        assert answer.strategy in ("index", "exact")  # exact where its lists gave fewer than ten
        assert answer.notices[0].startswith(f"the planner uses the index cheaper instead of {INDEX}")
    else:
        assert seen(answer) == ("index", 40, [])


def test_a_small_table_is_read_whole_and_that_is_no_news(
    instance: Instance, sql: psycopg.Connection, golden: Golden, vector: np.ndarray
) -> None:
    sql.execute("DELETE FROM articles WHERE uri NOT IN (SELECT uri FROM articles ORDER BY uri LIMIT 40)")
    sql.execute("VACUUM FULL articles")
    instance.invalidate()
    answer = instance.search_vector(vector, k=10)
    plan = "\n".join(instance.explain(vector).plan)
    if "Seq Scan" in plan:
        assert (answer.strategy, answer.reason, answer.notices) == ("exact", SMALL_TABLE, [])
    else:
        assert seen(answer) == ("index", 40, [])
    assert len(answer.hits) == 10


def test_a_server_that_counts_no_scans_is_believed_as_far_as_its_catalog_was_read(
    filled: str, sql: psycopg.Connection, vector: np.ndarray
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(filled)["dbname"]
    sql.execute(f"ALTER DATABASE {name} SET track_counts = off")
    with connect_instance(filled, settings=Settings()) as instance:
        assert seen(instance.search_vector(vector)) == ("index", 40, [])
        sql.execute(f"DROP INDEX {INDEX}")
        instance.invalidate()
        assert instance.search_vector(vector).notices == [NO_INDEX]
