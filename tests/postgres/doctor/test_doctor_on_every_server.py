"""The whole examination on every server, by a superuser and by a role without rights: no crash, and nothing unasked is good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import every_server
from by_hand import run
from everindex.articles.declared import DECLARED_INDEXES
from everindex.doctor.examine import all_rules, examine
from everindex.doctor.rule import Report
from everindex.migrate import runner
from everindex.pg.connections import connect
from examining import make_items

#: A statement that this server does not understand: no such column, table, function or object, bad syntax, wrong type.
BROKEN_STATES = ("42703", "42P01", "42601", "42883", "42704", "22P02", "42804", "25P02")


@pytest.fixture(
    scope="module", params=every_server.KINDS, ids=lambda kind: f"pg{kind.postgres}-pgvector{kind.pgvector}"
)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def admin(kind: Any) -> Iterator[str]:
    """A server of this kind; its databases: `everindex` at head with `items` beside it, and `nothing` without anything."""
    with every_server.server(kind.binaries()) as conninfo:
        run(conninfo, "CREATE DATABASE nothing", "CREATE ROLE stranger LOGIN")
        runner.upgrade(conninfo, wait_seconds=0)
        make_items(conninfo)
        yield conninfo


def examined(conninfo: str) -> Report:
    with connect(conninfo) as connection:
        return examine(connection, DECLARED_INDEXES)


def nothing_is_broken(report: Report) -> None:
    """No rule failed over its own statement: a name or a type that this server does not have."""
    broken = [
        (rule.slug, answer.sentence)
        for rule, answer in report.answers
        if answer.status == "unknown" and any(f"SQLSTATE {state}" in answer.sentence for state in BROKEN_STATES)
    ]
    assert broken == []


def test_a_superuser_gets_an_answer_to_everything(admin: str, kind: Any) -> None:
    report = examined(admin)
    nothing_is_broken(report)
    unknown = [(rule.slug, answer.sentence) for rule, answer in report.answers if answer.status == "unknown"]
    # What a server that was just made has no statistics for may be unknown; what it refuses to tell may not.
    assert not [one for one in unknown if "could not be checked" in one[1]], unknown


def test_the_versions_of_the_server_are_judged_as_they_are(admin: str, kind: Any) -> None:
    found = {rule.slug for rule, _ in examined(admin).findings}
    is_old = kind.pgvector == "0.6.2"
    assert ("pgvector-unsafe-version" in found) == is_old
    assert ("pgvector-vacuum-corruption" in found) == is_old
    assert "pgvector-missing" not in found
    assert "extension-not-created" not in found
    assert "library-version-differs" not in found
    assert "iterative-scan-off" in found
    with connect(admin) as connection:
        minor = connection.info.server_version % 10000
    assert ("postgres-minor-outdated" in found) == (minor < {16: 15, 18: 6}[kind.postgres])


def test_a_role_without_rights_gets_no_error_and_no_false_comfort(admin: str) -> None:
    report = examined(make_conninfo(admin, user="stranger"))
    nothing_is_broken(report)
    assert "statistics-hidden" in {rule.slug for rule, _ in report.findings}
    assert "app-role-is-superuser" not in {rule.slug for rule, _ in report.findings}


def test_a_database_without_the_extension_is_told_so_and_nothing_else_is_made_up(admin: str) -> None:
    report = examined(make_conninfo(admin, dbname="nothing"))
    nothing_is_broken(report)
    assert "extension-not-created" in {rule.slug for rule, _ in report.findings}
    about = [answer.about for rule, answer in report.answers if rule.slug == "index-is-invalid"]
    assert about == []


def test_a_server_without_pgvector_is_told_so() -> None:
    with every_server.server(every_server.debian_binaries()) as conninfo:
        report = examined(conninfo)
        nothing_is_broken(report)
        assert "pgvector-missing" in {rule.slug for rule, _ in report.findings}
        assert "extension-not-created" not in {rule.slug for rule, _ in report.answers}


def test_every_rule_answers_somewhere_or_does_not_apply(admin: str) -> None:
    asked = {rule.slug for rule, _ in examined(admin).answers}
    assert asked <= {rule.slug for rule in all_rules()}
    assert len(asked) > 25
