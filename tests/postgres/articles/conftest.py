"""Fixtures of the article tests: golden answers, a table of the test's own, an endpoint that really answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedding_fixtures import _server, endpoint
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.settings import Settings
from golden_answers import Golden, golden_of
from places import open_place
from templates import MANY_ROWS, filled_with
from words_in_memory import remembered


@pytest.fixture(scope="session")
def with_articles(cluster: Any) -> str:
    """The template of databases at head with MANY_ROWS real articles."""
    name: str = cluster.template("with_many_articles", filled_with(MANY_ROWS))
    return name


@pytest.fixture(scope="session")
def read_only_instance(cluster: Any, with_articles: str) -> Iterator[Instance]:
    """An open instance shared by all tests here that only read."""
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield remembered(opened)


@pytest.fixture(scope="session")
def golden(read_only_instance: Instance) -> Golden:
    """The rows of `read_only_instance`, for answers computed without PostgreSQL."""
    return golden_of(read_only_instance)


@pytest.fixture(scope="session")
def told_again(cluster: Any, with_articles: str) -> Iterator[Instance]:
    """An open instance where three of four articles of the largest topic were told again, up to three times, with a word more
    each time. Only read."""
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        with opened.connection() as connection:
            rows = connection.execute(
                "SELECT uri, title, summary, news_source, category, topic, publication_date FROM articles "
                "WHERE topic = (SELECT topic FROM articles GROUP BY topic ORDER BY count(*) DESC LIMIT 1) ORDER BY uri"
            ).fetchall()
        names = ("uri", "title", "summary", "news_source", "category", "topic", "publication_date")
        articles = [Article(**dict(zip(names, row, strict=True))) for row in rows]
        opened.upsert(
            replace(article, uri=f"{article.uri}#again:{again}", title=f"{article.title}{' indeed' * (again - 1)}")
            for number, article in enumerate(articles)
            for again in range(1, 1 + number % 4)
        )
        yield opened
    cluster.drop(conninfo)


@pytest.fixture(scope="session")
def golden_again(told_again: Instance) -> Golden:
    """The rows of `told_again`."""
    return golden_of(told_again)


@pytest.fixture(scope="session")
def other_columns(cluster: Any, with_articles: str) -> Iterator[str]:
    """Articles in a table with columns of somebody's own."""
    conninfo = cluster.database(with_articles)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE articles ADD lang text, ADD number integer, ADD meta jsonb, ADD tags_of text[]")
        connection.execute(
            """
            UPDATE articles SET number = n, lang = (ARRAY['en', 'de', 'fr', NULL])[1 + n % 4],
                   meta = jsonb_build_object('words', array_length(string_to_array(summary, ' '), 1), 'part', n % 10),
                   tags_of = CASE WHEN n % 2 = 1 THEN ARRAY['odd', 'x'] ELSE ARRAY['even'] END
            FROM (SELECT uri, row_number() OVER (ORDER BY uri) AS n FROM articles) AS numbered
            WHERE numbered.uri = articles.uri
            """
        )
        connection.execute("VACUUM ANALYZE articles")
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture(scope="session")
def opened(other_columns: str) -> Iterator[Instance]:
    with connect_instance(other_columns, settings=Settings()) as instance:
        yield instance


@pytest.fixture
def sql(instance: Instance) -> Iterator[psycopg.Connection]:
    """A connection of somebody else to the database of `instance`."""
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        yield connection
