"""Servers without pgvector, roles without rights, versions too old: told in three lines, and the same command goes on later."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import warm
from by_hand import rows, run
from everindex.errors import (
    EverindexError,
    ExtensionNotPermitted,
    ExtensionTooOld,
    ExtensionUnavailable,
    PostgresTooOld,
)
from everindex.migrate import runner
from everindex.pg.capabilities import Capabilities, parse_version, require_pgvector, require_postgres
from every_server import DEBIAN, debian_binaries, server
from repository import REPOSITORY

INDEX = "articles_embedding_hnsw_idx"
BEFORE_PGVECTOR = "1745b4f22f68"
PROGRAM = "from everindex.cli.run import main; main()"
PROBLEMS = REPOSITORY / "docs" / "problems"


@pytest.fixture(scope="module")
def without_pgvector() -> Iterator[str]:
    """Debian's PostgreSQL 15, as `apt install postgresql` leaves it."""
    with server(debian_binaries()) as admin:
        yield admin


def three_lines(error: EverindexError) -> list[str]:
    lines = str(error).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith(f"{error.slug}: ")
    assert lines[1].startswith("  why:  ")
    assert lines[2].startswith("  next: ")
    assert (PROBLEMS / f"{error.slug}.md").is_file()
    return lines


def test_a_server_without_pgvector_is_told_with_the_package_of_its_own_version(without_pgvector: str) -> None:
    with pytest.raises(ExtensionUnavailable) as raised:
        runner.upgrade(without_pgvector, wait_seconds=0)
    lines = three_lines(raised.value)
    assert "no pgvector" in lines[0]
    assert "postgresql-15-pgvector" in lines[2]
    assert runner.state(without_pgvector).current == [BEFORE_PGVECTOR]
    assert rows(without_pgvector, "SELECT to_regclass('articles') IS NOT NULL") == [(True,)]
    assert rows(without_pgvector, "SELECT count(*) FROM pg_attribute WHERE attname = 'embedding'") == [(0,)]


def test_the_command_exits_with_1_without_a_traceback_and_can_be_repeated(without_pgvector: str) -> None:
    for _ in range(2):
        done = warm.run(["-c", PROGRAM, "migrate"], env=os.environ | {"DATABASE_URL": without_pgvector}, timeout=60)
        assert done.returncode == 1
        assert "extension-unavailable: " in done.stderr
        assert "Traceback" not in done.stderr
        assert runner.state(without_pgvector).current == [BEFORE_PGVECTOR]


def test_a_server_without_pgvector_goes_down_again(without_pgvector: str) -> None:
    runner.downgrade(without_pgvector, "base")
    assert runner.state(without_pgvector).current == []


def test_debian_is_looked_for_where_debian_puts_it() -> None:
    debian_binaries()
    assert "15" in subprocess.run([DEBIAN / "postgres", "--version"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def app_role(cluster: Any, empty: str) -> Iterator[str]:
    """A role that owns nothing but may make its own tables in `public`."""
    run(empty, "DROP ROLE IF EXISTS app", "CREATE ROLE app LOGIN", "GRANT USAGE, CREATE ON SCHEMA public TO app")
    yield make_conninfo(empty, user="app")
    run(empty, "DROP OWNED BY app", "DROP ROLE app")


def test_a_role_that_may_not_create_the_extension_is_told_what_a_superuser_has_to_run(
    empty: str, app_role: str
) -> None:
    with pytest.raises(ExtensionNotPermitted) as raised:
        runner.upgrade(app_role)
    lines = three_lines(raised.value)
    assert "role app" in lines[0]
    statement = "CREATE EXTENSION IF NOT EXISTS vector"
    assert statement in lines[2]
    assert runner.state(app_role).current == [BEFORE_PGVECTOR]

    run(empty, statement)
    runner.upgrade(app_role)
    assert runner.state(app_role).is_head
    owners = rows(
        empty,
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'i')",
    )
    assert owners == [("app",)]
    assert rows(empty, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{INDEX}'::regclass") == [(True,)]


def test_a_role_that_may_not_create_schemas_migrates_with_a_warning(
    empty: str, app_role: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(empty, "CREATE EXTENSION vector")
    with caplog.at_level(logging.WARNING, "everindex"):
        runner.upgrade(app_role)
    assert runner.state(app_role).is_head
    assert "everindex_meta" in caplog.text
    assert rows(empty, "SELECT count(*) FROM pg_namespace WHERE nspname = 'everindex_meta'") == [(0,)]


def test_such_a_role_imports_searches_and_mends_an_invalid_index(empty: str, app_role: str) -> None:
    from everindex.articles.connect import connect_instance
    from everindex.settings import Settings

    run(empty, "CREATE EXTENSION vector")
    runner.upgrade(app_role)
    with connect_instance(app_role, settings=Settings()) as instance:
        instance.upsert([{"uri": f"u{n}", "title": f"title {n}", "summary": "about parsers"} for n in range(20)])
        assert len(instance.search("parsers", k=7).hits) == 7
    run(empty, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass")
    runner.upgrade(app_role)
    assert rows(empty, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{INDEX}'::regclass") == [(True,)]


@pytest.mark.parametrize(
    ("privileges", "why", "mend"),
    [
        ("CREATE", "permission denied for schema public", "GRANT USAGE, CREATE ON SCHEMA"),
        ("ALL", "no schema has been selected to create in", "GRANT USAGE, CREATE ON SCHEMA public"),
    ],
)
def test_a_role_that_may_not_create_tables_is_told_and_nothing_is_made(
    empty: str, app_role: str, privileges: str, why: str, mend: str
) -> None:
    run(empty, f"REVOKE {privileges} ON SCHEMA public FROM app, public")
    with pytest.raises(EverindexError) as raised:
        runner.upgrade(app_role)
    lines = three_lines(raised.value)
    assert why in lines[1]
    assert mend in lines[2]
    assert rows(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def capabilities(
    postgres: int, created: str | None, available: str | None, *, is_superuser: bool = True
) -> Capabilities:
    return Capabilities(
        server_version_num=postgres,
        server_version=f"{postgres // 10000}.{postgres % 10000}",
        extension_version=parse_version(created),
        available_version=parse_version(available),
        extension_schema="public" if created else None,
        role="app",
        is_superuser=is_superuser,
        is_standby=False,
        database="news",
    )


#: (PostgreSQL, created in the database, on the server's disk, superuser?, what is raised)
COMBINATIONS: list[tuple[int, str | None, str | None, bool, type[EverindexError] | None]] = [
    (130014, "0.8.6", "0.8.6", True, PostgresTooOld),
    (90624, None, None, False, PostgresTooOld),
    (140000, "0.8.6", "0.8.6", False, None),
    (180006, "0.8.6", "0.8.6", False, None),
    (180006, None, "0.8.6", True, None),
    (180006, None, "0.8.6", False, ExtensionNotPermitted),
    (150020, None, None, True, ExtensionUnavailable),
    (150020, None, None, False, ExtensionUnavailable),
    (160002, "0.4.4", "0.8.6", True, ExtensionTooOld),
    (160002, None, "0.4.4", True, ExtensionTooOld),
    (160002, "0.5.0", "0.5.0", False, None),
    (160002, "0.6.2", None, False, None),
]


@pytest.mark.parametrize(("postgres", "created", "available", "is_superuser", "error"), COMBINATIONS)
def test_what_a_server_can_do_decides_before_anything_is_changed(
    postgres: int, created: str | None, available: str | None, is_superuser: bool, error: type[EverindexError] | None
) -> None:
    found = capabilities(postgres, created, available, is_superuser=is_superuser)

    def require() -> None:
        require_postgres(found)
        require_pgvector(found)

    if error is None:
        require()
        return
    with pytest.raises(error) as raised:
        require()
    lines = three_lines(raised.value)
    if error is ExtensionUnavailable:
        assert f"postgresql-{postgres // 10000}-pgvector" in lines[2]
    if error is PostgresTooOld:
        assert "14 or later" in lines[1]
    if error is ExtensionTooOld:
        assert "0.4.4" in lines[0]


@pytest.mark.parametrize(
    ("version", "has_it"), [("0.5.1", False), ("0.6.2", False), ("0.7.4", False), ("0.8.0", True), ("0.8.6", True)]
)
def test_iterative_scans_are_known_by_the_version(version: str, has_it: bool) -> None:
    assert capabilities(160002, version, version).has_iterative_scan is has_it
