"""Search by keyword and hybrid on every supported server: index, plan, syntax, snippets, and a hostile query or two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from by_hand import rows, run
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.migrate import runner
from everindex.settings import Settings, current_settings
from every_server import KINDS, Kind, server

COUNT = 1500


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind.postgres}-{kind.pgvector}")
def everywhere(request: pytest.FixtureRequest) -> Iterator[Instance]:
    """An instance on each kind of server, over articles of which one in ten has no vector."""
    kind: Kind = request.param
    with server(kind.binaries()) as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        with connect_instance(conninfo, settings=Settings()) as instance:
            instance.upsert(
                Article(uri=f"u{n:04}", title=f"walnut {n} in asyncio.Queue", summary="a tiger" if n % 3 == 0 else "a zebra",
                        category="one" if n % 2 else "two")
                for n in range(COUNT)
            )  # fmt: skip
            run(conninfo, "UPDATE articles SET embedding = NULL WHERE right(uri, 1) = '0'", "ANALYZE articles")
            instance.invalidate()
            yield instance


def test_a_migration_builds_the_index_and_the_planner_uses_it(everywhere: Instance) -> None:
    conninfo = everywhere.conninfo
    assert rows(conninfo, "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", INDEX_NAME) == [(True,)]
    before = rows(conninfo, "SELECT %s::regclass::oid", INDEX_NAME)
    runner.upgrade(conninfo, wait_seconds=0)
    assert rows(conninfo, "SELECT %s::regclass::oid", INDEX_NAME) == before
    for filters in (Filters(), Filters(category="one")):
        assert f"using {INDEX_NAME}" in everywhere.words.plan(
            Page(request=SearchRequest(text="walnut 77", filters=filters), k=10)
        )


def test_it_is_healed_and_changes_its_language(everywhere: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    run(everywhere.conninfo, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX_NAME}'::regclass")
    for language in ("simple", "english"):
        monkeypatch.setenv("EVERINDEX_TEXT_SEARCH", language)
        current_settings.cache_clear()
        runner.upgrade(everywhere.conninfo, wait_seconds=0)
        found = rows(
            everywhere.conninfo,
            "SELECT i.indisvalid, pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indexrelid = %s::regclass",
            INDEX_NAME,
        )
        assert found[0][0]
        assert f"'{language}'::regconfig" in found[0][1]
    everywhere.invalidate()


@pytest.mark.parametrize(
    ("text", "uris"),
    [
        ("WALNUTS 77", ["u0077"]),
        ('"walnut 77"', ["u0077"]),
        ('"77 walnut"', []),
        ("walnut 77 -zebra", []),
        ("77 or 78 -tigers", ["u0077"]),
        ("asyncio.queue 100", ["u0100"]),
        ("- " * 200 + "77", ["u0077"]),
        ("-(!" * 60 + "77", ["u0077"]),
        ("the", []),
    ],
)
def test_the_syntax_of_the_web_is_understood(everywhere: Instance, text: str, uris: list[str]) -> None:
    assert [hit.uri for hit in everywhere.search(text, mode="keyword", k=5).hits] == uris


@pytest.mark.parametrize(
    "options", [{}, {"exact": True}, {"ef_search": 15}, {"filters": {"category": "two"}}, {"k": 200}]
)
def test_hybrid_answers_in_full_with_and_without_vectors(everywhere: Instance, options: dict[str, object]) -> None:
    k = int(str(options.get("k", 10)))
    answer = everywhere.search("tiger walnut 120", **options)  # type: ignore[arg-type]
    assert len({hit.uri for hit in answer.hits}) == len(answer.hits) == k
    hit = next(hit for hit in answer.hits if hit.uri == "u0120")
    assert (hit.keyword_rank, hit.distance) == (1, None)
    assert hit.title_snippet == "<mark>walnut</mark> <mark>120</mark> in asyncio.Queue"
    assert hit.snippet == "a <mark>tiger</mark>"
    assert [one.score for one in answer.hits] == sorted((one.score or 0 for one in answer.hits), reverse=True)
    assert not [notice for notice in answer.notices if "too few" in notice]
