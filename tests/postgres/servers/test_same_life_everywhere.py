"""The same life on every server: up, import, search, verify, heal, down, whatever PostgreSQL and pgvector are there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from by_hand import rows, run
from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.articles.search.vector import strategy
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import connect
from everindex.settings import Settings
from every_server import KINDS, Kind, server

ROWS = 800
INDEX = "articles_embedding_hnsw_idx"


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"pg{kind.postgres}-pgvector{kind.pgvector}")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def conninfo(kind: Kind) -> Iterator[str]:
    """A server of this kind whose database is at head with ROWS articles of the sample."""
    with server(kind.binaries()) as admin:
        runner.upgrade(admin, wait_seconds=0)
        with connect_instance(admin, settings=Settings()) as instance:
            report = instance.import_rows(itertools.islice(read_source(str(sample_source())), ROWS))
        assert report.problems == []
        yield admin


@pytest.fixture
def instance(conninfo: str) -> Iterator[Instance]:
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened


def index_state(conninfo: str) -> list[tuple[object, ...]]:
    return rows(
        conninfo,
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "WHERE i.indrelid = 'articles'::regclass AND m.amname = 'hnsw'",
    )


def test_the_server_is_what_it_is_said_to_be(conninfo: str, kind: Kind) -> None:
    with connect(conninfo) as connection:
        found = look(connection)
    assert found.server_version_num // 10000 == kind.postgres
    assert version_text(found.extension_version) == kind.pgvector
    assert found.has_iterative_scan == kind.has_iterative_scan


def test_head_is_reached_with_the_declared_index_and_all_rows(conninfo: str) -> None:
    assert runner.state(conninfo).is_head
    assert index_state(conninfo) == [(INDEX, True)]
    assert rows(conninfo, "SELECT count(*), count(embedding) FROM articles") == [(ROWS, ROWS)]


@pytest.mark.parametrize("k", [1, 10, 39, 60, 300])
def test_a_search_returns_all_k_also_beyond_the_default_beam(instance: Instance, k: int) -> None:
    answer = instance.search("memory leak in the parser", k=k, mode="semantic")
    assert len(answer.hits) == k
    assert len({hit.uri for hit in answer.hits}) == k
    distances = [hit.distance for hit in answer.hits]
    assert distances == sorted(distances)


def test_an_index_search_sets_nothing_that_this_pgvector_does_not_know(instance: Instance, kind: Kind) -> None:
    found = instance.engine.known()[1]
    assert found.index_name == INDEX
    assert found.has_iterative_scan == kind.has_iterative_scan
    with instance.connection() as connection:
        connection.execute("SELECT '[1]'::vector")  # the library is loaded by the first use of its type
        known = {
            row[0]
            for row in connection.execute("SELECT name FROM pg_settings WHERE starts_with(name, 'hnsw.')").fetchall()
        }
    assert ("hnsw.iterative_scan" in known) == kind.has_iterative_scan
    from everindex.articles.search.vector.strategy import choose

    for passing in (None, 400, 10**6):
        search_plan = choose(found, k=100, passing=passing, ef_search=None, exact=False)
        assert {name for name, _ in search_plan.settings if "." in name} <= known


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("is_filtered", [False, True])
@pytest.mark.parametrize("k", [10, 100])
def test_every_statement_of_a_search_goes_the_way_that_it_says(
    instance: Instance, conninfo: str, k: int, is_filtered: bool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "PUSHED_FROM_ROWS", 100)  # these few rows are to be searched as many are
    filters = {}
    if is_filtered:
        filters["category"] = rows(conninfo, "SELECT category FROM articles GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")[
            0
        ][0]
    vector = instance.embed_query("memory leak in the parser")
    explanation = instance.explain(vector, k=k, filters=filters, exact=exact)
    by_index = not exact and explanation.search_plan.strategy in ("index", "index-filtered")
    assert by_index or exact or (is_filtered and explanation.search_plan.strategy == "filtered-exact")
    assert any(INDEX in line for line in explanation.plan) == by_index, explanation.plan
    answer = instance.search_vector(vector, k=k, filters=filters, exact=exact)
    truth = instance.search_vector(vector, k=k, filters=filters, exact=True)
    found = {hit.uri for hit in answer.hits} & {hit.uri for hit in truth.hits}
    assert len(answer.hits) == len(truth.hits) == k
    assert len(found) >= 0.9 * k


@pytest.mark.parametrize("exact", [False, True])
def test_all_pages_are_every_article_once(instance: Instance, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "PUSHED_FROM_ROWS", 100)
    vector = instance.embed_query("memory leak in the parser")
    places: list[tuple[float | None, str]] = []
    strategies: list[str] = []
    after = None
    while True:
        answer = instance.search_vector(vector, k=40, exact=exact, after=after)
        places += [(hit.distance, hit.uri) for hit in answer.hits]
        strategies.append(answer.strategy)
        after = answer.next_cursor
        if after is None:
            break
    assert places == sorted(places)
    assert len(set(places)) == len(places) >= (ROWS if exact else 0.97 * ROWS)
    assert strategies[1] == ("exact" if exact else "index")
    assert strategies[-1] == "exact"


def test_choosing_among_candidates_works(instance: Instance) -> None:
    found = instance.search("memory leak in the parser", k=5, diversity=0.5, mode="semantic")
    assert len(found.hits) == 5
    distinct = instance.similar(found.hits[0].uri, k=5, without_near_duplicates=True, near_duplicate_distance=0.3)
    assert len(distinct.hits) == 5
    assert all(hit.distance is not None and hit.distance > 0.29 for hit in distinct.hits)
    assert [len(answer.hits) for answer in instance.search_many(["crash", "memory leak"], k=7)] == [7, 7]


def test_a_filter_returns_every_row_that_passes_and_none_other(instance: Instance, conninfo: str) -> None:
    category, count = rows(conninfo, "SELECT category, count(*) FROM articles GROUP BY 1 ORDER BY 2, 1 LIMIT 1")[0]
    answer = instance.search("security fix", k=count + 5, filters={"category": category})
    assert len(answer.hits) == count
    assert {hit.category for hit in answer.hits} == {category}
    assert instance.search("security fix", k=10, filters={"category": "no such"}).hits == []


def test_similar_articles_are_found_without_the_article_itself(instance: Instance, conninfo: str) -> None:
    uri = rows(conninfo, "SELECT uri FROM articles ORDER BY uri LIMIT 1")[0][0]
    answer = instance.similar(uri, k=10)
    assert len(answer.hits) == 10
    assert uri not in {hit.uri for hit in answer.hits}


def test_the_index_agrees_with_the_exact_answer(instance: Instance) -> None:
    vector = instance.embed_query("reference counting of frozen objects")
    exact = {hit.uri for hit in instance.search_vector(vector, k=10, exact=True).hits}
    found = {hit.uri for hit in instance.search_vector(vector, k=10).hits}
    assert len(exact & found) >= 9


def test_every_proof_holds(instance: Instance) -> None:
    found = instance.verify(samples=20)
    assert found.holds, found.as_dict()


def test_an_invalid_index_is_healed_and_searches_are_exact_until_then(conninfo: str) -> None:
    run(conninfo, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass")
    with connect_instance(conninfo, settings=Settings()) as instance:
        answer = instance.search("memory leak", k=5)
        assert answer.strategy == "exact"
        assert answer.notices
        assert len(answer.hits) == 5
    lines: list[str] = []
    runner.upgrade(conninfo, reporter=Reporter(say=lines.append, notice=lines.append))
    assert any("INVALID" in line for line in lines)
    assert index_state(conninfo) == [(INDEX, True)]
    with connect_instance(conninfo, settings=Settings()) as instance:
        assert instance.search("memory leak", k=5).strategy == "index"


def test_versions_with_an_unsafe_parallel_build_are_built_by_one_process(conninfo: str, kind: Kind) -> None:
    runner.downgrade(conninfo, "-1")
    lines: list[str] = []
    runner.upgrade(conninfo, reporter=Reporter(say=lines.append, notice=lines.append))
    (building,) = (line for line in lines if line.startswith("building index"))
    assert building.endswith("and 0 workers") == (kind.pgvector == "0.6.2")


def test_down_to_base_leaves_nothing_and_up_again_works(conninfo: str) -> None:
    runner.downgrade(conninfo, "base")
    left = rows(conninfo, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    assert left == [("alembic_version",)]
    runner.upgrade(conninfo)
    assert index_state(conninfo) == [(INDEX, True)]
