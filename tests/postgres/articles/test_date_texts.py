"""Filters by date over texts that are no ISO-8601 dates: every kind of answer says so, and only then."""

from __future__ import annotations

import psycopg

from everindex.articles.connect import connect_instance
from everindex.articles.model import Article, Filters
from everindex.settings import Settings


def test_every_answer_that_is_filtered_by_date_says_how_many_dates_are_no_dates(migrated: str) -> None:
    with connect_instance(migrated, settings=Settings()) as instance:
        instance.upsert(Article(uri=f"u{n}", title=f"tiger {n}", publication_date="2024-02-06") for n in range(20))
        some_day = Filters(until="2024")

        def notices(filters: Filters | None) -> list[bool]:
            answers = [
                instance.search("tiger", mode="keyword", filters=filters),
                instance.search("tiger", mode="hybrid", filters=filters),
                instance.search("tiger", mode="semantic", filters=filters),
                *instance.search_many(["tiger", "zebra"], filters=filters),
                instance.browse(filters=filters),
            ]
            assert all(sum("YYYY-MM-DD" in notice for notice in answer.notices) <= 1 for answer in answers)
            return ["3 of 19 publication dates" in "".join(answer.notices) for answer in answers]

        assert not any(notices(some_day))
        with psycopg.connect(migrated, autocommit=True) as connection:
            connection.execute("UPDATE articles SET publication_date = 'Tue, 06 Feb 2024 10:00 GMT' WHERE uri = 'u1'")
            connection.execute("UPDATE articles SET publication_date = '1707213600' WHERE uri = 'u2'")
            connection.execute("UPDATE articles SET publication_date = '' WHERE uri = 'u3'")
            connection.execute("UPDATE articles SET publication_date = NULL WHERE uri = 'u4'")
        instance.invalidate()
        assert all(notices(some_day))
        assert not any(notices(None))
        assert not any(notices(Filters(category="one")))


def test_a_column_of_dates_needs_no_notice(migrated: str) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("ALTER TABLE articles ALTER COLUMN publication_date TYPE date USING publication_date::date")
    with connect_instance(migrated, settings=Settings()) as instance:
        instance.upsert([Article(uri="u", title="tiger", publication_date="2024-02-06")])
        answer = instance.search("tiger", mode="keyword", filters=Filters(since="2024"))
        assert ([hit.uri for hit in answer.hits], answer.notices) == (["u"], [])
