"""What the measurements rest on: right answers, fair turns, filters of known shares, and faults that are seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from article_hits import article_hit
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.pg.connections import connect

AXES = np.eye(4, dtype=np.float32)


def test_recall_is_the_share_of_the_nearest_rows_that_were_found() -> None:
    from exact import exact

    rows = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [-1, 0]], dtype=np.float32)
    truth = exact(rows, np.array([[2, 0]], dtype=np.float32), k=2)
    nearest, second, third = 1.0, 1 / np.sqrt(1.01), 1 / np.sqrt(1.04)
    assert truth.recall(0, np.array([second, nearest], dtype=np.float32)) == 1.0
    assert truth.recall(0, np.array([nearest, third], dtype=np.float32)) == 0.5
    assert truth.recall(0, np.array([], dtype=np.float32)) == 0.0


def test_of_equal_rows_any_counts_as_right() -> None:
    from exact import exact

    truth = exact(np.repeat(AXES[:1], 5, axis=0), AXES[:1], k=2)
    assert truth.recall(0, np.array([1.0, 1.0], dtype=np.float32)) == 1.0


def test_where_fewer_rows_exist_than_were_asked_for_they_are_the_measure() -> None:
    from exact import exact

    few = exact(AXES[:3], AXES[:1], k=10)
    assert few.there(0) == 3
    assert few.recall(0, np.array([1.0, 0.0, 0.0], dtype=np.float32)) == 1.0
    assert few.recall(0, np.array([1.0], dtype=np.float32)) == 1 / 3
    assert exact(AXES[:0], AXES[:1], k=10).recall(0, np.array([], dtype=np.float32)) == 1.0


def test_rows_that_come_in_parts_give_the_answers_of_the_whole() -> None:
    from exact import Exact, exact, unit

    random = np.random.default_rng(1)
    rows, queries = (
        random.standard_normal((500, 8)).astype(np.float32),
        random.standard_normal((3, 8)).astype(np.float32),
    )
    parts = Exact(queries, k=7)
    for start in range(0, 500, 90):
        parts.add(rows[start : start + 90])
    whole = exact(rows, queries, k=7)
    for number, query in enumerate(queries):
        likeness = unit(rows) @ unit(query)
        nearest = -np.sort(-likeness)
        for found in (nearest[:7], nearest[3:10], nearest[-7:]):
            assert parts.recall(number, found) == whole.recall(number, found)
        assert parts.recall(number, nearest[3:10]) == pytest.approx(4 / 7)


def test_everyone_has_a_turn_with_every_input_and_nobody_is_always_first() -> None:
    from turns import turns

    asked = list(turns(["a", "b", "c"], 6))
    assert [name for turn, name in asked if turn == 0] == ["a", "b", "c"]
    assert sorted(asked) == [(turn, name) for turn in range(6) for name in "abc"]
    firsts = [asked[3 * turn][1] for turn in range(6)]
    assert firsts == ["a", "b", "c", "a", "b", "c"]


def test_a_filter_stands_for_a_share_only_where_a_value_comes_near_it() -> None:
    from article_corpus import Corpus
    from conditions import filtered

    rows = [
        {"topic": "half" if number % 2 else "rest", "category": "few" if number < 90 else "many"}
        for number in range(1000)
    ]
    found = filtered(Corpus(vectors=np.ones((1000, 2), dtype=np.float32), rows=rows))
    assert [(condition.name, condition.only, condition.share) for condition in found] == [
        ("topic 50 %", {"topic": "rest"}, 0.5),
        ("category 10 %", {"category": "few"}, 0.09),
    ]
    assert int(found[1].passing.sum()) == 90


@pytest.mark.parametrize(
    ("hits", "fault"),
    [
        ([("a", 0.1), ("b", 0.2)], None),
        ([("a", 0.2), ("b", 0.1)], "out of order"),
        ([("a", 0.1), ("a", 0.1)], "a row twice"),
        ([("a", 0.1)], "not k rows (index)"),
        ([("a", 0.1), ("b", None)], "a row without a distance"),
    ],
)
def test_a_wrong_answer_is_seen(hits: list[tuple[str, float | None]], fault: str | None) -> None:
    from mixed import Case, faults_of

    case = Case(query=0, k=2, ef_search=None, condition=condition(passing=3), exact=False)
    assert faults_of(answer(hits, topic="news"), case) == ([] if fault is None else [fault])


def test_a_row_that_does_not_pass_the_filter_is_seen() -> None:
    from mixed import Case, faults_of

    case = Case(query=0, k=1, ef_search=None, condition=condition(passing=3), exact=False)
    assert faults_of(answer([("a", 0.1)], topic="other"), case) == ["a row that does not pass"]


def test_a_setting_that_a_search_leaves_behind_is_seen(migrated: str) -> None:
    from mixed import differences, settings_of

    with connect(migrated) as connection:
        before = settings_of(connection)
        assert differences(before, settings_of(connection)) == []
        connection.execute("SET hnsw.ef_search = 77")
        assert differences(before, settings_of(connection)) == ["hnsw.ef_search"]


def test_the_default_plan_is_made_with_the_settings_that_postgresql_comes_with(migrated: str) -> None:
    from filtered import as_postgresql_comes

    with connect(migrated) as connection:
        connection.execute("SET random_page_cost = 1.1")
        connection.execute("SET enable_seqscan = off")
        connection.execute("SELECT '[1]'::vector")
        connection.execute("SET hnsw.ef_search = 300")
        as_postgresql_comes(connection)
        found = [
            connection.execute("SELECT pg_catalog.current_setting(%s)", (name,)).fetchone()
            for name in ("random_page_cost", "enable_seqscan", "hnsw.ef_search", "work_mem")
        ]
    assert found == [("4",), ("on",), ("40",), ("4MB",)]


def test_a_subject_gives_through_its_pipe_what_the_library_gives(
    filled: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from asked import asked

    with connect_instance(filled) as instance:
        vectors = some_vectors(instance)
        np.save(tmp_path / "queries.npy", vectors)
        with asked(Path(sys.executable), "everindex_search.py", str(tmp_path), filled) as subject:
            assert "everindex" in subject.load()["versions"]
            for number, vector in enumerate(vectors):
                found = subject.search(number, {})
                assert found.uris == [hit.uri for hit in instance.search_vector(vector, k=10).hits]
                assert found.seconds > 0
            subject.set_ef_search(123)
            assert subject.search(0, {}).uris == [
                hit.uri for hit in instance.search_vector(vectors[0], k=10, ef_search=123).hits
            ]


def some_vectors(instance: Instance) -> np.ndarray:
    with instance.connection() as connection:
        rows = connection.execute(
            "SELECT embedding FROM articles WHERE embedding IS NOT NULL ORDER BY uri LIMIT 3", binary=True
        ).fetchall()
    return np.stack([row[0].to_numpy() for row in rows]).astype(np.float32)


def condition(*, passing: int) -> Any:
    from conditions import Condition

    return Condition(name="topic", only={"topic": "news"}, share=0.5, passing=np.arange(10) < passing)


def answer(hits: list[tuple[str, float | None]], *, topic: str) -> Answer:
    return Answer(
        hits=[
            article_hit(uri, distance, topic=topic)
            for uri, distance in hits
        ],
        k=2, strategy="index", ef_search=40, elapsed_ms=1.0,
    )  # fmt: skip
