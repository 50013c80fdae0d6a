"""Records of rows that an application has deleted by itself are counted, with the statement that removes them."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.doctor.orphaned_records import COUNTED
from everindex.doctor.rule import RuleResult
from examining import answers

SLUG = "orphaned-records"


@pytest.fixture
def articles(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    instance = open_instance(migrated)
    instance.upsert([{"uri": f"u{n}", "title": f"title {n}"} for n in range(10)])
    instance.collection("pets", dim=384, key_type="integer").upsert([{"id": n, "text": "a cat"} for n in range(3)])
    return instance


def results(instance: Instance) -> list[RuleResult]:
    return answers(instance.conninfo, SLUG, declared=(EMBEDDING_INDEX,))


def test_orphans_are_counted_and_gone_after_the_statements_of_the_finding(articles: Instance) -> None:
    assert {each.status for each in results(articles)} == {"good"}
    with psycopg.connect(articles.conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM articles WHERE uri IN ('u1', 'u2')")
        connection.execute("DELETE FROM pets WHERE id = 1")
        connection.execute(
            "INSERT INTO everindex_meta.embedding_failure (uri, reason) SELECT 'gone' || n, 'x' FROM generate_series(1, %s) n",
            (COUNTED + 5,),
        )
        found = {each.about: each for each in results(articles) if each.status == "finding"}
        assert found["everindex_meta.embedding_record"].sentence == (
            '2 rows of everindex_meta.embedding_record belong to no row of "public"."articles"'
        )
        assert found["everindex_meta.embedding_failure"].sentence.startswith("more than 1,000 rows")
        assert "1 row of everindex_meta.collection_record" in found["everindex_meta.collection_record"].sentence
        for each in found.values():
            assert each.fix is not None
            assert "everindex delete --orphans" in each.fix.advice
            for statement in each.fix.statements:
                connection.execute(statement)
    assert {each.status for each in results(articles)} == {"good"}


def test_links_to_deleted_articles_are_no_finding(articles: Instance) -> None:
    articles.incidents.create(incident_name="outage", topic="infra")
    articles.incidents.link(incident_name="outage", topic="infra", article="u1")
    articles.delete(["u1"])
    told = [each for each in results(articles) if each.about == "everindex_meta.incident_link"]
    assert [each.status for each in told] == ["good"]
    assert "1 link of incidents" in told[0].sentence


def test_without_the_schema_there_is_nothing_to_say(articles: Instance) -> None:
    with psycopg.connect(articles.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA everindex_meta CASCADE")
    assert results(articles) == []
