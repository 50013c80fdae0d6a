"""Rules about versions: each finds the bad state on a real server, and is good after its own fix."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from by_hand import run
from everindex.doctor.rules.postgres_minor_outdated import FIXED_IN
from examining import answers, good_after_its_fix, is_good, make_items, the_finding


@pytest.fixture
def items(cluster: Any) -> Iterator[str]:
    """300 vectors with an HNSW index."""
    conninfo = cluster.database(cluster.template("doctor_items", make_items))
    yield conninfo
    cluster.drop(conninfo)


def pretend_version(conninfo: str, version: str) -> None:
    """The catalog of a database that was made with an earlier pgvector and never updated."""
    run(conninfo, f"UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'vector'")


def test_a_database_without_the_extension_is_found_and_created_by_the_fix(empty: str) -> None:
    finding = the_finding(empty, "extension-not-created")
    assert "0.8.6 is installed, but not created" in finding.sentence
    good_after_its_fix(empty, "extension-not-created", finding)


def test_an_extension_whose_files_are_gone_is_found(items: str) -> None:
    finding = the_finding(items, "pgvector-missing", capabilities={"available_version": None})
    assert "pgvector 0.8.6, whose files are gone" in finding.sentence
    is_good(items, "pgvector-missing")


def test_a_pgvector_before_hnsw_is_found(items: str) -> None:
    pretend_version(items, "0.4.4")
    finding = the_finding(items, "pgvector-too-old")
    assert "0.4.4" in finding.sentence
    assert finding.fix is not None
    assert finding.fix.statements == ("ALTER EXTENSION vector UPDATE",)
    pretend_version(items, "0.5.0")
    is_good(items, "pgvector-too-old")


@pytest.mark.parametrize(
    ("version", "is_unsafe"), [("0.5.1", False), ("0.6.0", True), ("0.8.1", True), ("0.8.2", False)]
)
def test_the_advisory_of_parallel_builds_is_for_its_versions_only(items: str, version: str, is_unsafe: bool) -> None:
    pretend_version(items, version)
    if is_unsafe:
        finding = the_finding(items, "pgvector-unsafe-version")
        assert "CVE-2026-3172" in finding.sentence
        assert "CVE-2026-18022" not in finding.sentence  # of 32-bit servers
        if version != "0.8.1":
            pretend_version(items, "0.8.1")  # from there the scripts of the update have nothing to create
        good_after_its_fix(items, "pgvector-unsafe-version", finding)
    else:
        is_good(items, "pgvector-unsafe-version")


def test_indexes_that_vacuum_can_damage_are_updated_and_rebuilt_by_the_fix(items: str) -> None:
    pretend_version(items, "0.8.3")
    finding = the_finding(items, "pgvector-vacuum-corruption")
    assert finding.fix is not None
    assert finding.fix.statements == (
        "ALTER EXTENSION vector UPDATE",
        'REINDEX INDEX CONCURRENTLY "public"."items_idx"',
    )
    good_after_its_fix(items, "pgvector-vacuum-corruption", finding)


def test_without_an_hnsw_index_there_is_nothing_to_damage(items: str) -> None:
    pretend_version(items, "0.8.3")
    run(items, "DROP INDEX items_idx")
    is_good(items, "pgvector-vacuum-corruption")


def test_an_update_that_was_never_finished_is_found_and_finished_by_the_fix(items: str) -> None:
    pretend_version(items, "0.8.4")
    finding = the_finding(items, "library-version-differs", capabilities={"server_version_num": 170000})
    assert "0.8.6 is installed" in finding.sentence
    assert "0.8.4" in finding.sentence
    good_after_its_fix(items, "library-version-differs", finding)


def test_files_older_than_the_catalog_are_found(items: str) -> None:
    pretend_version(items, "0.9.0")
    assert "files are 0.8.6" in the_finding(items, "library-version-differs").sentence


def test_a_session_with_another_library_is_found_by_its_version_or_its_settings(items: str) -> None:
    said = answers(items, "library-version-differs")
    assert "the loaded library is pgvector 0.8.6" in [answer.sentence for answer in said]
    # The library of this server, seen by a session that takes catalog and files for something else.
    by_version = answers(items, "library-version-differs", capabilities={"available_version": (0, 8, 5)})
    assert any("the loaded library is pgvector 0.8.6, while" in answer.sentence for answer in by_version)
    older = {"server_version_num": 170000, "available_version": (0, 7, 4), "extension_version": (0, 7, 4)}
    by_settings = the_finding(items, "library-version-differs", capabilities=older)
    assert "0.8.0 or later" in by_settings.sentence


def test_a_postgres_is_supported_until_its_last_day(empty: str) -> None:
    is_good(empty, "postgres-end-of-life", now=datetime(2030, 11, 14, 12, tzinfo=UTC))
    finding = the_finding(empty, "postgres-end-of-life", now=datetime(2030, 11, 15, 12, tzinfo=UTC))
    assert "support ended on 2030-11-14" in finding.sentence
    old = {"server_version_num": 140024, "server_version": "14.24"}
    assert "2026-11-12" in the_finding(empty, "postgres-end-of-life", capabilities=old).sentence
    new = {"server_version_num": 190000, "server_version": "19.0"}
    assert [a.status for a in answers(empty, "postgres-end-of-life", capabilities=new)] == ["unknown"]


@pytest.mark.parametrize("major", sorted(FIXED_IN))
def test_a_minor_version_without_the_security_fix_is_found(empty: str, major: int) -> None:
    fixed = major * 10000 + FIXED_IN[major]
    is_good(empty, "postgres-minor-outdated", capabilities={"server_version_num": fixed})
    finding = the_finding(empty, "postgres-minor-outdated", capabilities={"server_version_num": fixed - 1})
    assert f"{major}.{FIXED_IN[major]}" in finding.sentence


def test_rules_about_pgvector_say_nothing_where_it_is_not(empty: str) -> None:
    for slug in (
        "pgvector-too-old",
        "pgvector-unsafe-version",
        "pgvector-vacuum-corruption",
        "library-version-differs",
    ):
        assert answers(empty, slug) == []
