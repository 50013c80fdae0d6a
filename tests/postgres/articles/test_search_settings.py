"""What a search sets for itself ends with it, and no search inherits the plan of another."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import psycopg
import pytest

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.errors import QueryInvalid, StatementTimedOut
from everindex.pg import roundtrip
from golden_answers import Golden, check_answer, check_exact

#: Settings that searches touch, with what a session of this server has without them.
DEFAULTS = {
    "hnsw.ef_search": "40",
    "hnsw.iterative_scan": "off",
    "enable_seqscan": "on",
    "enable_indexscan": "on",
}


def settings_of_all(instance: Instance, connections: int) -> list[dict[str, str]]:
    """The settings of each pooled connection, all taken at once so that none is asked twice."""
    with ExitStack() as stack:
        taken = [stack.enter_context(instance.connection()) for _ in range(connections)]
        return [{name: one.execute(f"SHOW {name}").fetchone()[0] for name in DEFAULTS} for one in taken]


def test_no_setting_of_a_search_outlives_it(
    filled: str, open_instance: Callable[..., Instance], golden: Golden
) -> None:
    instance = open_instance(filled, EVERINDEX_POOL_SIZE=4)
    vectors = [golden.directions[number].astype(np.float32) for number in range(0, 2400, 300)]

    def search(number: int) -> None:
        vector = vectors[number % len(vectors)]
        match number % 4:
            case 0:
                answer = instance.search_vector(vector, k=10, ef_search=1 + number * 7 % 1000)
            case 1:
                answer = instance.search_vector(vector, k=10, exact=True)
            case 2:
                answer = instance.search_vector(vector, k=200)
            case _:
                answer = instance.search_vector(vector, k=5, filters={"since": "2022"})
        assert len(answer.hits) == answer.k
        assert [hit.distance for hit in answer.hits] == sorted(hit.distance for hit in answer.hits)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(search, range(200)))
    assert settings_of_all(instance, 4) == [DEFAULTS] * 4


def test_a_search_that_fails_leaves_no_setting_either(filled: str, open_instance: Callable[..., Instance]) -> None:
    instance = open_instance(filled, EVERINDEX_POOL_SIZE=1)
    vector = instance.embed_query("anything")
    with instance.connection() as connection:
        with pytest.raises(psycopg.Error):
            roundtrip.run(connection, (("hnsw.ef_search", "77"),), "SELECT 1/0", [])
        with pytest.raises(psycopg.Error):
            roundtrip.run(connection, (("hnsw.ef_search", "77777"),), "SELECT 1", [])
    assert settings_of_all(instance, 1) == [DEFAULTS]
    assert len(instance.search_vector(vector).hits) == 10


def scans_of_index(connection: psycopg.Connection) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'articles_embedding_hnsw_idx'"
    ).fetchone()
    return int(row[0])


def scans_of_searches(instance: Instance, vector: np.ndarray, *, exact: bool, times: int) -> int:
    """How often `times` searches scanned the vector index, on the pool's one connection."""

    def seen() -> int:
        with instance.connection() as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            return scans_of_index(connection)

    before = seen()
    for _ in range(times):
        instance.search_vector(vector, k=10, exact=exact)
    return seen() - before


@pytest.mark.parametrize("first_exact", [False, True])
def test_a_prepared_plan_serves_only_searches_of_its_own_kind(
    filled: str, open_instance: Callable[..., Instance], first_exact: bool
) -> None:
    """After five executions PostgreSQL may keep one plan of a prepared statement for good, made under the settings of
    that moment: an exact search must not run through the index because ten others did before it, nor the reverse."""
    instance = open_instance(filled, EVERINDEX_POOL_SIZE=1)
    vector = instance.embed_query("memory leak in the parser")
    expected = {True: 0, False: 10}
    for exact in (first_exact, not first_exact, first_exact):
        assert scans_of_searches(instance, vector, exact=exact, times=10) == expected[exact], f"exact={exact}"


@pytest.mark.parametrize("number", [0, -1, 1001, 10**9])
def test_a_k_or_an_ef_search_out_of_range_is_refused_by_name(read_only_instance: Instance, number: int) -> None:
    vector = read_only_instance.embed_query("anything")
    with pytest.raises(QueryInvalid, match=re.escape(f"k = {number}")):
        read_only_instance.search_vector(vector, k=number)
    with pytest.raises(QueryInvalid, match=re.escape(f"ef_search = {number}")):
        read_only_instance.search_vector(vector, ef_search=number)


def test_an_ef_search_of_one_still_gives_k_rows_in_order(read_only_instance: Instance, golden: Golden) -> None:
    vector = golden.directions[100].astype(np.float32)
    answer = read_only_instance.search_vector(vector, k=50, ef_search=1)
    assert answer.ef_search == 1
    check_answer(answer, golden, vector, Filters(), k=50)


def test_the_statement_timeout_of_the_settings_holds_for_searches(
    filled: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(filled, EVERINDEX_STATEMENT_TIMEOUT_MS=60_000, EVERINDEX_POOL_SIZE=1)
    vector = instance.embed_query("anything")
    with instance.connection() as connection:
        assert connection.execute("SHOW statement_timeout").fetchone()[0] == "1min"
        connection.execute("SET statement_timeout = 1")
    with pytest.raises(StatementTimedOut):
        instance.search_vector(vector, k=1000, exact=True)
    with instance.connection() as connection:
        connection.execute("SET statement_timeout = 0")
    assert len(instance.search_vector(vector).hits) == 10


def test_many_threads_get_the_exact_answer_of_their_own_query(read_only_instance: Instance, golden: Golden) -> None:
    def one(number: int) -> None:
        vector = golden.directions[number].astype(np.float32)
        check_exact(read_only_instance.search_vector(vector, k=7, exact=True), golden, vector, Filters(), k=7)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(0, 2400, 40)))
