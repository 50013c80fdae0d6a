"""A change of the embedding model: old vectors serve until the cut and new ones after it, and nothing mixes or is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest

from command_line import Done, everindex, url_of
from everindex.articles.connect import connect_instance
from everindex.articles.embedding import StaticEmbedder
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.model_generations import digest_of, digest_sql
from everindex.articles.model_switch.filling import Limits
from everindex.articles.model_switch.verdict import Thresholds
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.table import read_table
from everindex.errors import CursorRefused, EmbeddingModelUnusable, ModelSwitchRefused, QueryInvalid, VerdictAgainst
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

OLD, NEW = StaticEmbedder(width=1536), StaticEmbedder(width=256)
ANY_ANSWER = Thresholds(most_slower=1000.0)
QUERY = "memory leak in the parser"


def run(instance: Instance, name: str = "static", **options: Any) -> Any:
    instance.model_switch.known_after_seconds = 0.0
    return instance.model_switch.run(name, **{"dimensions": 256, "thresholds": ANY_ANSWER} | options)


def rows(instance: Instance, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def lacking(instance: Instance) -> list[tuple[int, int]]:
    """Of each generation in a table of its own: articles without a vector of their present text."""
    with instance.connection() as connection:
        table = read_table(connection)
        text = digest_sql("a").as_string(connection)
    return [
        (
            each.number,
            rows(
                instance,
                f"SELECT count(*) FROM articles a LEFT JOIN everindex_meta.{each.table} v USING (uri) "
                f"WHERE v.vector_digest IS DISTINCT FROM {text}",
            )[0][0],
        )
        for each in table.generations
        if not each.is_column
    ] + [(1, rows(instance, "SELECT count(*) FROM articles WHERE embedding IS NULL")[0][0])]


@pytest.fixture(scope="module")
def switched(cluster: Any, with_articles: str) -> Iterator[Instance]:
    """An instance whose articles were switched from 1536 to 256 dimensions. Only read."""
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        run(opened)
        yield opened
    cluster.drop(conninfo)


@pytest.fixture
def instance(cluster: Any, with_articles: str) -> Iterator[Instance]:
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened
    cluster.drop(conninfo)


# --- after the cut ------------------------------------------------------------------------------------------------------


def test_after_the_cut_the_new_vectors_answer(switched: Instance) -> None:
    table, serving = switched.engine.known()
    assert (table.dimensions, table.number) == (256, 2)
    assert serving.index_name == "article_vector_2_hnsw_idx"
    answer = switched.search(QUERY, mode="semantic", k=10)
    assert answer.strategy == "index"
    assert len(answer.hits) == 10
    assert switched.embedder.model == NEW.model
    exact = switched.search(QUERY, mode="semantic", k=10, exact=True)
    assert len({hit.uri for hit in answer.hits} & {hit.uri for hit in exact.hits}) >= 9


@pytest.mark.parametrize("mode", ["semantic", "hybrid", "keyword"])
@pytest.mark.parametrize("filters", [None, {"category": "Library"}, {"since": "2015-01-01"}])
def test_every_kind_of_search_answers_after_the_cut(switched: Instance, mode: Any, filters: Any) -> None:
    answer = switched.search("asyncio event loop", mode=mode, k=5, filters=filters, facets=("category",))
    assert len(answer.hits) == 5
    assert not [notice for notice in answer.notices if "model" in notice]
    if mode == "hybrid":
        distances = [hit.distance for hit in answer.hits]
        vector = NEW.embed(["asyncio event loop"]).vectors[0]
        stored = dict(rows(switched, "SELECT uri, vector_2::text FROM everindex_meta.article_vector_2"))
        for hit, distance in zip(answer.hits, distances, strict=True):
            own = np.array(stored[hit.uri].strip("[]").split(","), dtype=np.float32)
            assert distance is None or distance == pytest.approx(1 - float(own @ vector), abs=1e-4)


def test_similar_articles_variety_and_pages_use_the_new_vectors(switched: Instance) -> None:
    first = switched.search("regular expressions", mode="semantic", k=5)
    uri = first.hits[0].uri
    assert uri not in [hit.uri for hit in switched.similar(uri, k=5).hits]
    assert len(switched.search("regular expressions", mode="semantic", k=5, diversity=0.5).hits) == 5
    second = switched.search("regular expressions", mode="semantic", k=5, after=first.next_cursor)
    assert not {hit.uri for hit in first.hits} & {hit.uri for hit in second.hits}
    many = switched.search_many(["regular expressions", "asyncio"], k=5)
    assert [hit.uri for hit in many[0].hits] == [hit.uri for hit in first.hits]


def test_verify_proves_the_new_index(switched: Instance) -> None:
    found = switched.verify()
    assert found.holds, [proof.sentence for proof in found.proofs]
    assert "article_vector_2_hnsw_idx" in " ".join(proof.sentence for proof in found.proofs)
    assert any(NEW.model in proof.sentence for proof in found.proofs)


def test_the_counts_name_the_new_model(switched: Instance) -> None:
    counts = switched.models()
    assert dict(counts.recorded) == {NEW.model: counts.rows}
    assert [each["state"] for each in switched.model_switch.generations()] == ["kept", "serving"]


def test_vectors_of_another_or_an_unnamed_model_are_refused(switched: Instance) -> None:
    for model in (None, OLD.model):
        with pytest.raises(QueryInvalid, match="two models cannot be compared"):
            switched.upsert([Article(uri="x:1", title="one")], vectors=np.ones((1, 256)), model=model)
    with pytest.raises(QueryInvalid):
        switched.search_vector(np.ones(1536), k=3)


def test_a_pinned_search_is_answered_by_its_generation(switched: Instance) -> None:
    old = switched.searches.answer(SearchRequest(mode="semantic", text=QUERY, k=10, generation=1))
    new = switched.searches.answer(SearchRequest(mode="semantic", text=QUERY, k=10, generation=2))
    assert old.strategy == new.strategy == "index"
    # The static model at another width is the same map: what differs is the vectors' length, not the answers.
    assert len({hit.uri for hit in old.hits} & {hit.uri for hit in new.hits}) >= 9


# --- the switch ---------------------------------------------------------------------------------------------------------


def test_a_switch_is_planned_run_rolled_back_and_dropped(instance: Instance) -> None:
    cursor = instance.search(QUERY, mode="semantic", k=3).next_cursor
    plan = instance.model_switch.plan("static", dimensions=256, price=0.02)
    assert plan.can_end
    assert plan.texts == plan.left
    assert plan.cost == pytest.approx(plan.tokens * 0.02 / 1e6)
    assert rows(instance, "SELECT to_regclass('everindex_meta.article_vector_2')") == [(None,)]

    done = run(instance)
    assert done.cut.after == 2
    assert done.filled.failed == 0
    assert done.verdict.is_go
    assert dict(lacking(instance)) == {1: 0, 2: 0}
    assert (
        abs(
            rows(instance, "SELECT pg_total_relation_size('everindex_meta.article_vector_2')")[0][0]
            - rows(instance, "SELECT pg_relation_size('everindex_meta.article_vector_2_hnsw_idx')")[0][0]
            - plan.table_bytes
        )
        < plan.table_bytes
    )
    with pytest.raises(CursorRefused):
        instance.search(QUERY, mode="semantic", k=3, after=cursor)

    back = instance.model_switch.rollback()
    assert (back.before, back.after) == (2, 1)
    assert instance.engine.known()[0].dimensions == 1536
    assert instance.search(QUERY, mode="semantic", k=3, after=cursor).hits

    again = instance.model_switch.rollback()
    assert again.after == 2
    assert "cleared" in instance.model_switch.drop(1)
    assert rows(instance, "SELECT count(embedding) FROM articles") == [(0,)]
    assert len(instance.search(QUERY, mode="semantic", k=3).hits) == 3
    with pytest.raises(ModelSwitchRefused, match="no old vectors"):
        instance.model_switch.rollback()
    with pytest.raises(ModelSwitchRefused, match="serves all searches"):
        instance.model_switch.drop(2)


def test_articles_that_arrive_change_or_go_have_both_vectors_or_none(instance: Instance) -> None:
    run(instance, limits=Limits(most_tokens=10))
    assert {each["state"] for each in instance.model_switch.generations()} == {"serving", "filling"}
    uri = rows(instance, "SELECT uri FROM articles ORDER BY uri LIMIT 1")[0][0]
    for title in ("first text of zebras", "second text of zebras"):
        instance.upsert([Article(uri="new:1", title=title), Article(uri=uri, title=title)])
        assert rows(instance, "SELECT count(*) FROM everindex_meta.article_vector_2 WHERE uri = 'new:1'") == [(1,)]
    run(instance)
    assert dict(lacking(instance)) == {1: 0, 2: 0}
    instance.upsert([Article(uri="new:2", title="okapis"), Article(uri=uri, title="third text of zebras")])
    assert dict(lacking(instance)) == {1: 0, 2: 0}
    assert instance.search("okapis", mode="semantic", k=1).hits[0].uri == "new:2"
    instance.delete(["new:2"])
    assert rows(instance, "SELECT count(*) FROM everindex_meta.article_vector_2 WHERE uri = 'new:2'") == [(0,)]
    # Another program that knows nothing of vectors.
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("UPDATE articles SET title = 'quaggas' WHERE uri = %s", (uri,))
    assert dict(lacking(instance))[2] == 1
    instance.embed_missing()
    assert dict(lacking(instance))[2] == 0


def test_a_switch_that_was_stopped_continues_and_embeds_nothing_twice(instance: Instance) -> None:
    stop = threading.Event()
    first = run(instance, on_rows=lambda rows: stop.set(), stop=stop)
    assert first.stopped == "it was stopped"
    assert first.cut is None
    assert instance.search(QUERY, mode="semantic").strategy == "index"
    second = run(instance)
    assert second.cut.after == 2
    count = rows(instance, "SELECT count(*) FROM articles")[0][0]
    assert second.progress.texts == first.filled.texts + second.filled.texts == count


def test_the_limit_of_tokens_holds_over_all_runs(instance: Instance) -> None:
    for _ in range(2):
        done = run(instance, limits=Limits(most_tokens=1000))
        assert "tokens are spent" in str(done.stopped)
    assert done.filled.texts == 0


def test_a_verdict_against_keeps_the_old_model(instance: Instance) -> None:
    with pytest.raises(VerdictAgainst, match="overlap@10"):
        run(instance, thresholds=Thresholds(least_overlap=1.01, most_slower=1000.0), confirm=lambda verdict: True)
    assert instance.engine.known()[0].number == 1
    asked: list[bool] = []
    done = run(instance, confirm=lambda verdict: bool(asked.append(verdict.is_go)))
    assert asked == [True]
    assert done.stopped == "nobody agreed to the change"
    assert instance.engine.known()[0].number == 1
    assert "dropped" in instance.model_switch.drop(2)
    assert run(instance).generation == 3  # numbers are never used again


def test_what_cannot_end_is_refused_before_anything_is_written(instance: Instance) -> None:
    with pytest.raises(ModelSwitchRefused, match="cannot be indexed"):
        run(instance, dimensions=4001)
    with pytest.raises(ModelSwitchRefused, match="serves already"):
        run(instance, dimensions=1536)
    with pytest.raises(EmbeddingModelUnusable):
        run(instance, "text-embedding-3-small")
    assert rows(instance, "SELECT count(*) FROM everindex_meta.model_generation") == [(0,)]


def test_more_than_2000_dimensions_are_halfvec(instance: Instance) -> None:
    done = run(instance, dimensions=2400)
    assert done.cut.after == 2
    assert instance.engine.known()[0].vector_type == "halfvec"
    assert len(instance.search(QUERY, mode="hybrid").hits) == 10


def test_another_process_follows_without_a_restart(
    instance: Instance, open_instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everindex.articles.search.vector.engine.SERVING_SECONDS", 0.2)
    other = open_instance(instance.conninfo)
    assert other.search(QUERY, mode="semantic").hits
    answers: list[Any] = []
    is_over = threading.Event()

    def search() -> None:
        while not is_over.is_set():
            answers.append(other.search(QUERY, mode="hybrid", k=5))

    thread = threading.Thread(target=search)
    thread.start()
    try:
        instance.model_switch.known_after_seconds = 1.0
        instance.model_switch.run("static", dimensions=256, thresholds=ANY_ANSWER)
        deadline = threading.Event()
        for _ in range(100):
            if other.engine.known()[0].number == 2:
                break
            deadline.wait(0.1)
        instance.model_switch.rollback()
    finally:
        is_over.set()
        thread.join()
    assert other.engine.known()[0].number in (1, 2)
    assert len(answers) > 5
    assert all(len(answer.hits) == 5 and not answer.notices for answer in answers)


def test_python_and_the_server_make_one_digest_of_a_text(switched: Instance) -> None:
    texts = [("a", None), (None, "ü\x01 𝄞"), ("", ""), ("a\x01b", "c")]
    with switched.connection() as connection:
        for title, summary in texts:
            found = connection.execute(
                psycopg.sql.SQL("SELECT {} FROM (SELECT %s::text AS title, %s::text AS summary) AS a").format(
                    digest_sql("a")
                ),
                (title, summary),
            ).fetchone()
            assert found == (digest_of(title, summary),)


def test_the_page_shows_the_generations_and_the_verdict(switched: Instance) -> None:
    with serve_in_thread(switched) as url:
        report = httpx2.get(f"{url}/api/index").json()
        page = httpx2.get(f"{url}/index/report").text
    assert [each["state"] for each in report["generations"]] == ["kept", "serving"]
    assert report["models"] == {NEW.model: report["rows"]["with_vector"]}
    assert "Generations of vectors" in page
    assert "Verdict on generation 2: go" in page


def test_the_commands_plan_switch_and_roll_back(instance: Instance) -> None:
    def everindex_model(*arguments: str) -> Done:
        return everindex("model", *arguments, DATABASE_URL=url_of(instance.conninfo))

    plan = everindex_model("plan", "static", "--dimensions", "256", "--price", "0.02")
    assert plan.status == 0
    assert "nothing was changed" in plan.stdout
    refused = everindex_model("plan", "static", "--dimensions", "5000", "--json")
    assert (refused.status, refused.json["can_end"]) == (3, False)
    options = ("static", "--dimensions", "256", "--most-slower", "1000")
    waiting = everindex_model("switch", *options)
    assert waiting.status == 3
    assert "verdict: go" in waiting.stdout
    assert "the old model serves" in waiting.stdout
    done = everindex_model("switch", *options, "--yes", "--json")
    assert (done.status, done.json["cut"]["serves"], done.json["texts"]) == (0, 2, 0)
    assert everindex_model("rollback").status == 0
    shown = json.loads(everindex_model("--json").stdout)
    assert [each["state"] for each in shown["generations"]] == ["serving", "kept"]
    for arguments in (
        ("drop", "x"),
        ("switch",),
        ("switch", "static", "--window", "8"),
        ("switch", "a", "--most-cost", "1"),
    ):
        assert everindex_model(*arguments).status == 2
