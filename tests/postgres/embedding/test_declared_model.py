"""A model behind an endpoint, declared for vectors that another program made with it, or with another one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector

import warm
from embeddings_endpoint import Endpoint, vector_of
from everindex.articles.connect import connect_instance
from everindex.articles.embedding.text_forms import TEXT_FORMS
from everindex.articles.instance import Instance
from everindex.settings import Settings

WIDTH = 1536
ROWS = 30


@pytest.fixture
def theirs(migrated: str, endpoint: Endpoint) -> Iterator[Instance]:
    """Rows that another program filled, with the titles as `their-model` of the endpoint embeds them."""
    endpoint.width = WIDTH
    with psycopg.connect(migrated, autocommit=True) as connection:
        register_vector(connection)
        for n in range(ROWS):
            text = TEXT_FORMS["title alone"](f"title {n}", "a summary")
            connection.execute(
                "INSERT INTO articles (uri, title, summary, embedding) VALUES (%s, %s, 'a summary', %s)",
                (f"u{n}", f"title {n}", Vector(vector_of(text, WIDTH, model="their-model"))),
            )
    settings = Settings(embedding_model="their-model", openai_base_url=endpoint.url)
    with connect_instance(migrated, settings=settings) as instance:
        yield instance


def declare(instance: Instance, name: str, url: str) -> Any:
    environment = {"DATABASE_URL": instance.conninfo, "OPENAI_BASE_URL": url, "EVERINDEX_WAIT": "0"}
    return warm.run(["everindex", "model", "declare", name], env=os.environ | environment)


def recorded(instance: Instance) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo) as connection:
        return connection.execute("SELECT model, compared, agreed FROM everindex_meta.declared_model").fetchall()


def test_the_model_that_made_them_is_declared_and_searched_with(theirs: Instance, endpoint: Endpoint) -> None:
    assert theirs.search("title 3", mode="semantic").strategy == "keyword"
    done = declare(theirs, "their-model", endpoint.url)
    assert done.returncode == 0, done.stderr
    assert f"title alone: {ROWS} of {ROWS} agree" in done.stdout
    assert recorded(theirs) == [(f"openai-compatible/their-model@{WIDTH}", ROWS, ROWS)]
    theirs.invalidate()
    answered = theirs.search("title 3", mode="semantic", k=1)
    assert answered.strategy != "keyword"
    assert answered.hits[0].uri == "u3"


def test_the_doctor_says_that_later_rows_are_not_compared_and_sends_no_text(
    theirs: Instance, endpoint: Endpoint
) -> None:
    declare(theirs, "their-model", endpoint.url)
    asked = len(endpoint.requests)
    settings = {"OPENAI_BASE_URL": endpoint.url, "EMBEDDING_MODEL": "their-model"}
    environment = os.environ | settings | {"DATABASE_URL": theirs.conninfo, "EVERINDEX_WAIT": "0"}
    rule = ["everindex", "doctor", "--rule", "declared-model-disagrees"]
    done = warm.run(rule, env=environment)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "vectors written since then are not compared" in said
    assert f"`everindex model declare openai-compatible/their-model@{WIDTH}` compares a new sample" in said
    assert len(endpoint.requests) == asked
    again = declare(theirs, f"openai-compatible/their-model@{WIDTH}", endpoint.url)
    assert again.returncode == 0, again.stderr
    # Another model of the endpoint, that nobody declared, is not asked about.
    done = warm.run(rule, env=environment | {"EMBEDDING_MODEL": "another-model"})
    assert "not compared" not in done.stdout


def test_another_model_of_the_endpoint_is_refused_with_the_figures(theirs: Instance, endpoint: Endpoint) -> None:
    done = declare(theirs, "another-model", endpoint.url)
    assert done.returncode == 1
    assert f"0 of {ROWS} stored vectors agree" in done.stderr
    # Of a few texts, or of all: chance decides which form is the nearest among ten that are not near at all.
    assert re.search(rf"title alone: 0 of (16|{ROWS}) agree, cosine", " ".join(done.stderr.split()))
    assert recorded(theirs) == []


@pytest.mark.parametrize("how", ["refuses connections", "answers 503"])
def test_an_endpoint_that_is_down_is_told_in_three_lines_and_nothing_is_recorded(
    theirs: Instance, endpoint: Endpoint, how: str
) -> None:
    endpoint.is_down = True
    url = "http://127.0.0.1:1/v1" if how == "refuses connections" else endpoint.url
    done = declare(theirs, "their-model", url)
    assert done.returncode == 1
    assert done.stdout == ""
    *tries, what, why, what_next = done.stderr.splitlines()
    assert all("stamina.retry_scheduled" in line for line in tries), tries
    assert what.startswith("embedding-failed: openai-compatible/their-model")
    assert why.startswith("  why:  ")
    assert what_next.startswith("  next: check OPENAI_API_KEY, OPENAI_BASE_URL")
    assert recorded(theirs) == []
