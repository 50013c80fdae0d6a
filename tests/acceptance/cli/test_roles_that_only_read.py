"""A role that may read the articles and nothing else: what each command says of what it may not see, and which GRANT shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from command_line import Done, everindex, url_of

ROLE = f"Reader-{os.getpid()}"
GRANT = f'GRANT SELECT ON public.alembic_version TO "{ROLE}"'


@pytest.fixture
def owned(filled: str) -> Iterator[psycopg.Connection]:
    """The database of the articles, as their owner, with a role ROLE that may read `articles`."""
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{ROLE}" LOGIN')
        connection.execute(f'GRANT SELECT ON articles TO "{ROLE}"')
        yield connection
        connection.execute(f'DROP OWNED BY "{ROLE}"')
        connection.execute(f'DROP ROLE "{ROLE}"')


@pytest.fixture
def reading(filled: str, owned: psycopg.Connection) -> Callable[..., Done]:
    """Runs commands as ROLE."""
    address = url_of(make_conninfo(filled, user=ROLE))
    return lambda *arguments, **others: everindex(*arguments, DATABASE_URL=address, **others)


def test_a_revision_that_may_not_be_read_is_not_called_none(
    owned: psycopg.Connection, reading: Callable[..., Done]
) -> None:
    for command in (("status",), ("verify", "--samples", "5")):
        done = reading(*command)
        assert done.status == 3, "what could not be asked is not proven"
        first, advice, *rest = done.stdout[done.stdout.index("– ") :].splitlines()
        assert first == "– the revision of the database is unknown: this role may not read alembic_version"
        assert advice.strip() == f"next: let its owner run  {GRANT} ; searches do not need it."
        assert any(line.startswith("✓ index") for line in rest), rest
        assert not any(line.startswith("✗") for line in rest), rest
    refused = reading("migrate")
    assert refused.status == 1
    assert "permission-denied: this role may not read alembic_version" in refused.stderr
    assert GRANT in refused.stderr
    assert "permission-denied" in reading("detach", "--yes").stderr
    assert "not migrated" not in reading("keep", "--once").stdout

    owned.execute(GRANT)
    assert reading("status").status == 0
    assert reading("verify", "--samples", "5").status == 0


def test_on_an_attached_database_nobody_asks_for_the_revision(
    owned: psycopg.Connection, reading: Callable[..., Done]
) -> None:
    by_setting = reading("status", EVERINDEX_ATTACHED="true")
    assert by_setting.status == 0, by_setting.stdout
    owned.execute("COMMENT ON SCHEMA everindex_meta IS 'everindex: attached'")
    for command in (("status",), ("verify", "--samples", "5")):
        done = reading(*command)
        assert done.status == 0, done.stdout
        assert "the database is attached" in done.stdout
