"""Incidents: made, changed, refused, whatever their names hold."""

from __future__ import annotations

import psycopg
import pytest

from everindex.articles.incidents import (
    change_status,
    create_incident,
    list_incidents,
    offered_statuses,
    stored_statuses,
)
from everindex.articles.instance import Instance
from everindex.errors import IncidentExists, IncidentNotFound, PermissionDenied, QueryInvalid, SettingInvalid
from everindex.settings import current_settings

HOSTILE = (
    "'; DROP TABLE incident_status; --",
    "<script>alert(1)</script>",
    "%s %(name)s",
    "日本語 \U0001f600",
    "\\N",
    "x" * 200,
)


@pytest.fixture(scope="module")
def incidents(read_only_instance: Instance) -> Instance:
    """Incidents have a table of their own: what is stored here meets nobody who only reads articles."""
    return read_only_instance


def test_an_incident_is_created_listed_and_changed(incidents: Instance) -> None:
    with incidents.connection() as connection:
        made = create_incident(connection, incident_name=" outage ", topic="infra")
        assert (made.incident_name, made.status) == ("outage", "active")
        other = create_incident(connection, incident_name="outage", topic="other", status="acknowledged")
        changed = change_status(connection, incident_name="outage", topic="infra", status="resolved")
        assert changed.created_at == made.created_at
        assert changed.updated_at > made.updated_at
        assert [one.topic for one in list_incidents(connection)[:2]] == ["infra", "other"]
        assert list_incidents(connection, status="acknowledged") == [other]
        assert len(list_incidents(connection, limit=1)) == 1
        assert list_incidents(connection, status="no such status") == []


@pytest.mark.parametrize("text", HOSTILE)
def test_any_name_comes_back_as_it_was_given(incidents: Instance, text: str) -> None:
    with incidents.connection() as connection:
        create_incident(connection, incident_name=text, topic=text)
        change_status(connection, incident_name=text, topic=text, status="resolved")
        assert (text, text, "resolved") in [
            (one.incident_name, one.topic, one.status) for one in list_incidents(connection)
        ]


def test_an_incident_that_is_there_is_not_made_twice(incidents: Instance) -> None:
    with incidents.connection() as connection:
        create_incident(connection, incident_name="twice", topic="t")
        with pytest.raises(IncidentExists, match="already exists"):
            create_incident(connection, incident_name="twice ", topic="t")


def test_an_unknown_incident_is_not_found(incidents: Instance) -> None:
    with incidents.connection() as connection, pytest.raises(IncidentNotFound, match="no such"):
        change_status(connection, incident_name="no such", topic="t", status="active")


@pytest.mark.parametrize("value", ["", "   ", "x" * 201, "nul \0", "half \ud800"])
def test_a_name_or_topic_that_cannot_be_stored_is_refused(incidents: Instance, value: str) -> None:
    with incidents.connection() as connection:
        with pytest.raises(QueryInvalid, match="incident_name"):
            create_incident(connection, incident_name=value, topic="t")
        with pytest.raises(QueryInvalid, match="topic"):
            create_incident(connection, incident_name="n", topic=value)
        with pytest.raises(QueryInvalid):
            change_status(connection, incident_name=value, topic="t", status="active")


@pytest.mark.parametrize("status", ["", "Active", "closed", "x" * 1000, "nul \0"])
def test_an_unknown_status_is_refused(incidents: Instance, status: str) -> None:
    with incidents.connection() as connection:
        with pytest.raises(QueryInvalid, match="unknown"):
            create_incident(connection, incident_name="n", topic="t", status=status)
        with pytest.raises(QueryInvalid, match="unknown"):
            change_status(connection, incident_name="n", topic="t", status=status)


def test_a_role_that_may_only_read_is_told_so(incidents: Instance) -> None:
    with psycopg.connect(incidents.conninfo, autocommit=True) as connection:
        connection.execute("CREATE ROLE incident_reader")
        try:
            connection.execute("GRANT SELECT ON incident_status TO incident_reader")
            connection.execute("SET ROLE incident_reader")
            list_incidents(connection)
            with pytest.raises(PermissionDenied, match="creating an incident"):
                create_incident(connection, incident_name="n", topic="t")
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP OWNED BY incident_reader")
            connection.execute("DROP ROLE incident_reader")


def test_statuses_are_a_setting_and_those_of_an_existing_instance_are_kept(
    incidents: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with incidents.connection() as connection:
        connection.execute(
            "INSERT INTO incident_status (incident_name, topic, status) VALUES ('old', 'statuses', 'deleted')"
        )
        old = change_status(connection, incident_name="old", topic="statuses", status="deleted")
        assert old in list_incidents(connection, status="deleted")
        assert "deleted" in stored_statuses(connection)
        with pytest.raises(QueryInvalid, match="unknown"):
            change_status(connection, incident_name="old", topic="statuses", status="seen")
        with pytest.raises(QueryInvalid, match="unknown"):
            create_incident(connection, incident_name="new", topic="statuses", status="deleted")
        monkeypatch.setenv("EVERINDEX_INCIDENT_STATUSES", "open, seen ,open,deleted")
        current_settings.cache_clear()
        assert offered_statuses() == ("open", "seen", "deleted")
        assert create_incident(connection, incident_name="new", topic="statuses").status == "open"
        assert change_status(connection, incident_name="old", topic="statuses", status="seen").status == "seen"
        with pytest.raises(QueryInvalid, match="open, seen, deleted"):
            create_incident(connection, incident_name="newer", topic="statuses", status="active")


@pytest.mark.parametrize("value", ["", " ", "a,,b", "a,", "x" * 41, "a\tb"])
def test_statuses_that_cannot_be_offered_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERINDEX_INCIDENT_STATUSES", value)
    with pytest.raises(SettingInvalid, match="EVERINDEX_INCIDENT_STATUSES"):
        current_settings()
