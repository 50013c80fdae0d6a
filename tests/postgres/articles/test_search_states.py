"""Searches while the index is missing, INVALID or back; rows and queries that have no direction; what is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters
from everindex.articles.search.diagnostics import slow_log
from everindex.articles.search.vector import engine as engine_module
from everindex.errors import QueryInvalid, StatementTimedOut
from everindex.index.catalog.observe import in_search_path
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from golden_answers import Golden, check_answer, check_exact, golden_of

NO_INDEX = "no valid vector index is available at the moment: every row was read (exact search)"


def test_a_search_without_a_valid_index_is_exact_and_says_so_until_the_index_is_back(
    instance: Instance, sql: psycopg.Connection, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = golden.directions[7].astype(np.float32)
    assert instance.search_vector(vector).strategy == "index"

    sql.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass")
    instance.invalidate()
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.notices) == ("exact", [NO_INDEX])
    check_exact(answer, golden, vector, Filters(), k=10)
    assert instance.search_vector(vector, exact=True).strategy == "exact"

    spec = in_search_path(sql, EMBEDDING_INDEX)
    drop(instance.conninfo, spec)
    instance.invalidate()
    assert instance.search_vector(vector).notices == [NO_INDEX]
    filtered = instance.search_vector(vector, filters={"since": "2022"})
    assert filtered.strategy == "filtered-exact"

    deploy(instance.conninfo, spec)
    monkeypatch.setattr(engine_module, "SERVING_SECONDS", 0.0)  # noticed by itself, without invalidate()
    answer = instance.search_vector(vector)
    assert (answer.strategy, answer.notices) == ("index", [])


def test_an_index_that_vanishes_between_two_looks_leaves_the_answers_right(
    instance: Instance, sql: psycopg.Connection, golden: Golden
) -> None:
    vector = golden.directions[7].astype(np.float32)
    for _ in range(8):
        assert instance.search_vector(vector).strategy == "index"
    sql.execute("DROP INDEX articles_embedding_hnsw_idx")
    check_exact(instance.search_vector(vector, k=30), golden, vector, Filters(), k=30)


@pytest.mark.parametrize("has_index", [True, False])
def test_zero_vectors_put_in_by_hand_are_no_hits_and_break_no_order(
    instance: Instance, sql: psycopg.Connection, has_index: bool
) -> None:
    zero = "[" + ",".join(["0"] * 1536) + "]"
    with pytest.raises(psycopg.errors.DataException, match="NaN not allowed"):
        sql.execute(f"UPDATE articles SET embedding = '{zero.replace('0', 'NaN', 1)}'")
    if not has_index:
        sql.execute("DROP INDEX articles_embedding_hnsw_idx")
    found = sql.execute(
        "UPDATE articles SET embedding = %s WHERE uri IN (SELECT uri FROM articles ORDER BY uri LIMIT 300) "
        "RETURNING uri, category",
        (zero,),
    ).fetchall()
    zeros = {row[0] for row in found}
    instance.invalidate()
    vector = instance.embed_query("memory leak in the parser")
    for filters in ({}, {"category": found[0][1]}, {"since": "2000"}):
        for k in (10, 1000):
            for exact in (False, True):
                hits = instance.search_vector(vector, k=k, filters=filters, exact=exact).hits
                assert not zeros & {hit.uri for hit in hits}
                assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
                assert len(hits) == k or filters
    only_zeros = instance.search_vector(vector, filters={"until": "1970"})
    assert only_zeros.hits == []
    answer = instance.similar(next(iter(zeros)))
    assert answer.hits == []
    assert "vector of zeros" in answer.notices[0]


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-12, 1e-3, 1.0, 1e10, 1e30])
def test_only_the_direction_of_a_query_vector_counts(
    read_only_instance: Instance, golden: Golden, scale: float
) -> None:
    """pgvector adds up squares in float32: unscaled, the smallest and the largest of these have no distance at all."""
    vector = golden.directions[11].astype(np.float32)
    for exact in (False, True):
        scaled = (golden.directions[11] * scale).astype(np.float32)
        answer = read_only_instance.search_vector(scaled, k=20, exact=exact)
        assert answer.hits[0].uri == golden.rows[11]["uri"]
        check_answer(answer, golden, scaled if scale > 1e-36 else vector, Filters(), k=20)
    wide = golden.directions[11] * scale  # float64
    assert len(read_only_instance.search_vector(wide, k=20).hits) == 20


@pytest.mark.parametrize(
    ("vector", "what"),
    [
        (np.zeros(1536, dtype=np.float32), "no direction"),
        (np.full(1536, np.nan, dtype=np.float32), "no direction"),
        (np.where(np.arange(1536) == 5, np.inf, 1.0), "no direction"),
        (np.ones(1535, dtype=np.float32), r"shape \(1535,\)"),
        (np.ones((1, 1536), dtype=np.float32), r"shape \(1, 1536\)"),
        (np.float32(1.0), r"shape \(\)"),
        ([], r"shape \(0,\)"),
        (["a"] * 1536, "not hold numbers"),
        ([[1.0], [1.0, 2.0]], "not hold numbers"),
        (None, "not hold numbers"),
    ],
)
def test_a_query_vector_that_means_nothing_is_refused(read_only_instance: Instance, vector: object, what: str) -> None:
    with pytest.raises(QueryInvalid, match=what):
        read_only_instance.search_vector(vector)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        (" \n\t\u3000 ", "empty"),
        ("\0\0", "empty"),
        ("x " * 50_000, "100000 characters"),
        ("half a pair \ud800", "no vector"),
        ("\U000e0001", "no vector"),
    ],
)
def test_a_text_that_means_nothing_is_refused(read_only_instance: Instance, text: str, what: str) -> None:
    with pytest.raises(QueryInvalid, match=what):
        read_only_instance.search(text, mode="semantic")


@pytest.mark.parametrize(
    "text", ["nul \0 inside", "'; DROP TABLE articles; --", "%s %(vector)s %", "x " * 4999, "日本"]
)
def test_any_other_text_is_answered(read_only_instance: Instance, text: str) -> None:
    assert len(read_only_instance.search(text, k=3).hits) == 3


@pytest.mark.parametrize(
    "filters",
    [
        {"category": "nul \0"}, {"category": "x" * 501}, {"topic": "half \ud800"}, {"since": "yesterday"},
        {"until": "2022-13"}, {"since": "2022-02-30"}, {"since": "٢٠٢٢"}, {"colour": "red"}, {"until": "0000"},
        {"until": "20220501"}, {"since": "2022-5"},
    ],
)  # fmt: skip
def test_a_filter_that_no_article_can_pass_is_refused(read_only_instance: Instance, filters: dict[str, str]) -> None:
    with pytest.raises(QueryInvalid):
        read_only_instance.search("anything", filters=filters)


def test_the_last_year_there_is_ends_no_search(read_only_instance: Instance) -> None:
    assert len(read_only_instance.search("anything", filters={"since": "0001", "until": "9999-12-31"}).hits) == 10


# --- what is logged ------------------------------------------------------------------------------------------------


def test_a_slow_search_is_logged_with_its_plan_and_without_what_was_asked(
    filled: str, open_instance: Callable[..., Instance], caplog: pytest.LogCaptureFixture
) -> None:
    instance = open_instance(filled, EVERINDEX_SLOW_QUERY_MS=0, EVERINDEX_POOL_SIZE=1)
    category = golden_of(instance).rows[0]["category"]
    vector = instance.embed_query("secretquestion of mine")
    with caplog.at_level(logging.WARNING, logger="everindex.search"):
        instance.search("secretquestion of mine", mode="semantic")
        instance.search_vector(vector, exact=True)
        instance.search_vector(vector, filters={"category": category, "since": "2017-03-09"})
        instance.search_vector(vector, filters={"category": "secretcategory"})
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    assert all(text.startswith("slow-query: ") for text in told)
    assert "strategy=index ef_search=40 filters=- plan: " in told[0]
    assert "Index Scan using articles_embedding_hnsw_idx" in told[0]
    assert "strategy=exact" in told[1]
    assert "Seq Scan" in told[1]
    assert "articles_embedding_hnsw_idx" not in told[1]
    assert "strategy=filtered-exact ef_search=None filters=category,since" in told[2]
    assert "articles_embedding_hnsw_idx" not in told[2]
    assert "plan: none: nothing was run" in told[3]
    together = "\n".join(told)
    for secret in ("secret", category, "2017", "[", str(float(vector[0]))[:8]):
        assert secret not in together
    assert max(map(len, told)) < 600


def test_a_quick_search_is_not_logged_as_slow(read_only_instance: Instance, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="everindex.search"):
        read_only_instance.search("secretquestion")
    assert caplog.records == []


def test_the_plan_of_a_slow_search_that_cannot_be_had_takes_no_answer_away(
    filled: str,
    open_instance: Callable[..., Instance],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance = open_instance(filled, EVERINDEX_SLOW_QUERY_MS=0, EVERINDEX_POOL_SIZE=1)
    vector = instance.embed_query("anything")
    explain = slow_log.explain

    def on_a_lost_connection(connection: Any, *arguments: Any, **options: Any) -> Any:
        with psycopg.connect(filled) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))
        return explain(connection, *arguments, **options)

    monkeypatch.setattr(slow_log, "explain", on_a_lost_connection)
    with caplog.at_level(logging.WARNING, logger="everindex.search"):
        assert len(instance.search_vector(vector).hits) == 10
    assert "plan: unknown: server-unreachable" in caplog.text


def test_connections_that_the_server_ended_are_replaced_and_the_search_is_answered(
    instance: Instance, sql: psycopg.Connection
) -> None:
    vector = instance.embed_query("anything")
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: instance.search_vector(vector), range(60)))
    ended = sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'everindex web' AND datname = current_database()"
    ).fetchall()
    assert len(ended) > 1
    for _ in range(12):
        assert len(instance.search_vector(vector).hits) == 10


def test_a_cancelled_search_is_told_as_timed_out(
    filled: str, open_instance: Callable[..., Instance], sql: psycopg.Connection
) -> None:
    instance = open_instance(filled, EVERINDEX_POOL_SIZE=1)
    vector = np.ones(1536, dtype=np.float32)
    instance.search_vector(vector)
    with instance.connection() as connection:
        connection.execute("SET statement_timeout = 50")
    sql.execute("BEGIN")
    sql.execute("LOCK TABLE articles")
    with pytest.raises(StatementTimedOut):
        instance.search_vector(vector)
    sql.execute("ROLLBACK")
    assert len(instance.search_vector(vector).hits) == 10


def test_articles_without_a_vector_are_no_hits(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute("UPDATE articles SET embedding = NULL WHERE uri IN (SELECT uri FROM articles ORDER BY uri LIMIT 100)")
    instance.upsert([Article(uri="new", title="release")])
    golden = golden_of(instance)
    assert len(golden.rows) == 2401
    vector = instance.embed_query("release")
    check_exact(instance.search_vector(vector, k=1000, exact=True), golden, vector, Filters(), k=1000)
    check_answer(instance.search_vector(vector, k=1000), golden, vector, Filters(), k=1000)
