"""What belongs to an incident: articles and searches, also when they are gone, and notes that nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.errors import (
    ArticleNotFound,
    IncidentLinkNotFound,
    IncidentNotFound,
    PermissionDenied,
    QueryInapplicable,
    QueryInvalid,
    SavedSearchNotFound,
)

ROLE = "incident_reader"
OUTAGE = {"incident_name": "outage", "topic": "infra"}


@pytest.fixture
def infra(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """Two articles, a saved search and an incident."""
    instance = open_instance(migrated)
    instance.upsert([Article(uri="urn:1", title="Disk is full"), Article(uri="urn:2", title="Power is out")])
    instance.saved_searches.add("disks", "full disk")
    instance.incidents.create(**OUTAGE)
    return instance


def test_an_incident_has_its_links_and_notes_newest_first(infra: Instance) -> None:
    incidents = infra.incidents
    first = incidents.link(**OUTAGE, article="urn:1")
    assert (first.kind, first.target, first.title, first.is_gone) == ("article", "urn:1", "Disk is full", False)
    incidents.link(**OUTAGE, saved_search="disks")
    incidents.link(**OUTAGE, query=" is it the disk? ")
    assert incidents.link(**OUTAGE, article="urn:1") == first, "linking again changes nothing"
    notes = [incidents.add_note(**OUTAGE, text=text) for text in ("seen", "the disk is replaced")]
    record = incidents.find(**OUTAGE)
    assert record.incident.status == "active"
    assert [(each.kind, each.target) for each in record.links] == [
        ("query", "is it the disk?"), ("saved_search", "disks"), ("article", "urn:1"),
    ]  # fmt: skip
    assert record.notes == (notes[1], notes[0])
    assert incidents.of_article("urn:1") == [record.incident]
    assert incidents.of_article("urn:2") == []

    incidents.create(incident_name="outage", topic="other")
    assert incidents.find(incident_name="outage", topic="other").links == ()
    incidents.unlink(**OUTAGE, article="urn:1")
    assert incidents.of_article("urn:1") == []
    with pytest.raises(IncidentLinkNotFound, match="outage"):
        incidents.unlink(**OUTAGE, article="urn:1")


def test_the_incident_of_an_article_is_found_behind_any_number_of_others(infra: Instance) -> None:
    infra.incidents.link(**OUTAGE, article="urn:1")
    with psycopg.connect(infra.conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO incident_status (incident_name, topic, status, updated_at) "
            "SELECT 'other ' || n, 'infra', 'active', now() + interval '1 day' FROM generate_series(1, 600) n"
        )
    assert [one.incident_name for one in infra.incidents.of_article("urn:1")] == ["outage"]


def test_what_is_gone_is_shown_as_gone_and_can_be_unlinked(infra: Instance) -> None:
    infra.incidents.link(**OUTAGE, article="urn:1")
    infra.incidents.link(**OUTAGE, saved_search="disks")
    infra.delete(["urn:1"])
    infra.saved_searches.remove("disks")
    links = {each.kind: each for each in infra.incidents.find(**OUTAGE).links}
    assert (links["article"].is_gone, links["article"].title) == (True, "Disk is full")
    assert links["saved_search"].is_gone
    infra.incidents.unlink(**OUTAGE, article="urn:1")
    infra.incidents.unlink(**OUTAGE, saved_search="disks")
    assert infra.incidents.find(**OUTAGE).links == ()


def test_an_article_that_got_another_title_is_shown_with_it(infra: Instance) -> None:
    infra.incidents.link(**OUTAGE, article="urn:1")
    infra.upsert([Article(uri="urn:1", title="Disk was full")])
    assert infra.incidents.find(**OUTAGE).links[0].title == "Disk was full"


def test_a_long_text_is_linked_whole(infra: Instance) -> None:
    text = "disk " * 1999
    infra.incidents.link(**OUTAGE, query=text)
    assert infra.incidents.find(**OUTAGE).links[0].target == text.strip()
    infra.incidents.unlink(**OUTAGE, query=text.strip())


def test_what_does_not_exist_is_not_linked(infra: Instance) -> None:
    incidents = infra.incidents
    with pytest.raises(ArticleNotFound):
        incidents.link(**OUTAGE, article="urn:none")
    with pytest.raises(SavedSearchNotFound):
        incidents.link(**OUTAGE, saved_search="none")
    with pytest.raises(QueryInvalid):
        incidents.link(**OUTAGE, query="  ")
    for given in ({}, {"article": "urn:1", "query": "x"}):
        with pytest.raises(QueryInapplicable, match="what to link"):
            incidents.link(**OUTAGE, **given)
        with pytest.raises(QueryInapplicable):
            incidents.unlink(**OUTAGE, **given)
    other: dict[str, Any] = {"incident_name": "outage", "topic": "none \0"}
    for refused in (
        lambda: incidents.link(**other, article="urn:1"),
        lambda: incidents.add_note(**other, text="x"),
        lambda: incidents.find(**other),
    ):
        with pytest.raises(IncidentNotFound):
            refused()
    with pytest.raises(IncidentLinkNotFound):
        incidents.unlink(**other, article="urn:1")
    assert incidents.find(**OUTAGE).links == ()


@pytest.mark.parametrize("text", ["", " \n", "x" * 10_001, "nul \0", "half \ud800"])
def test_a_note_that_cannot_be_stored_is_refused(infra: Instance, text: str) -> None:
    with pytest.raises(QueryInvalid, match="note"):
        infra.incidents.add_note(**OUTAGE, text=text)


def test_without_the_schema_an_incident_has_nothing_and_linking_makes_it(infra: Instance) -> None:
    with psycopg.connect(infra.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA everindex_meta CASCADE")
    assert infra.incidents.find(**OUTAGE).links == ()
    assert infra.incidents.of_article("urn:1") == []
    with pytest.raises(IncidentLinkNotFound):
        infra.incidents.unlink(**OUTAGE, article="urn:1")
    infra.incidents.link(**OUTAGE, article="urn:1")
    infra.incidents.add_note(**OUTAGE, text="made anew")
    assert len(infra.incidents.find(**OUTAGE).links) == 1


def test_a_role_that_only_reads_is_told_what_to_grant(infra: Instance, open_instance: Callable[..., Instance]) -> None:
    infra.incidents.link(**OUTAGE, article="urn:1")
    with psycopg.connect(infra.conninfo, autocommit=True) as owner:
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON articles, incident_status TO {ROLE}")
        try:
            reader = open_instance(make_conninfo(infra.conninfo, user=ROLE))
            for refused_call in (
                lambda: reader.incidents.of_article("urn:1"),
                lambda: reader.incidents.add_note(**OUTAGE, text="x"),
            ):
                with pytest.raises(PermissionDenied) as refused:
                    refused_call()
                for statement in refused.value.next_step.removeprefix("have its owner run").strip(" ;").split(";"):
                    owner.execute(statement)
            reader.incidents.add_note(**OUTAGE, text="x")
            assert len(reader.incidents.find(**OUTAGE).notes) == 1
        finally:
            owner.execute(f"DROP OWNED BY {ROLE}")
            owner.execute(f"DROP ROLE {ROLE}")
