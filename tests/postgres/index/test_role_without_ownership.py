"""A role that may read and write and does not own the table: told in three lines, and nothing is left of the attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from by_hand import run
from everindex.errors import PermissionDenied
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import acknowledge, deploy
from scene import SPEC, Heard, state


@pytest.fixture
def writer(cluster: Any, items: str) -> Iterator[str]:
    """A role with every right on the rows of `items` and none on the table."""
    run(
        items,
        "DROP ROLE IF EXISTS writer_only",
        "CREATE ROLE writer_only LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON items TO writer_only",
    )
    yield make_conninfo(items, user="writer_only")
    run(items, "DROP OWNED BY writer_only", "DROP ROLE writer_only")


def test_it_may_not_build_and_is_told_so_in_three_lines(items: str, writer: str) -> None:
    with pytest.raises(PermissionDenied) as raised:
        deploy(writer, SPEC)
    told = str(raised.value).split("\n")
    assert len(told) == 3
    assert "items_embedding_idx" in told[0]
    assert "owner of table items" in told[1]
    assert "Nothing was left behind" in told[2]
    assert state(items) == []


def test_an_owner_who_may_not_create_in_the_schema_is_told_the_grant(items: str, writer: str) -> None:
    run(items, "ALTER TABLE items OWNER TO writer_only", "REVOKE CREATE ON SCHEMA public FROM PUBLIC, writer_only")
    with pytest.raises(PermissionDenied) as raised:
        deploy(writer, SPEC)
    assert (
        'lacks CREATE on schema public: run  GRANT CREATE ON SCHEMA "public" TO "writer_only";'
        in raised.value.next_step
    )
    run(items, 'GRANT CREATE ON SCHEMA "public" TO "writer_only"')
    assert deploy(writer, SPEC).outcome == "built"
    run(items, "ALTER TABLE items OWNER TO CURRENT_USER")


def test_it_may_not_drop_and_the_index_stays(items: str, writer: str) -> None:
    deploy(items, SPEC)
    with pytest.raises(PermissionDenied) as raised:
        drop(writer, SPEC)
    assert len(str(raised.value).split("\n")) == 3
    assert state(items) == [("items_embedding_idx", True)]


def test_it_may_not_mend_an_invalid_index_and_the_index_stays_as_it_was(items: str, writer: str) -> None:
    deploy(items, SPEC)
    run(items, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_embedding_idx'::regclass")
    with pytest.raises(PermissionDenied, match="dropping index"):
        deploy(writer, SPEC)
    assert state(items) == [("items_embedding_idx", False)]


def test_an_index_that_is_there_is_all_it_needs(items: str, writer: str) -> None:
    deploy(items, SPEC)
    assert deploy(writer, SPEC).outcome == "already-there"
    heard = Heard()
    acknowledge(writer, SPEC, reporter=heard.reporter)
    assert "exists and is valid" in heard.text


def test_without_the_right_to_read_it_is_told_so(items: str, writer: str) -> None:
    run(items, "REVOKE ALL ON items FROM writer_only")
    with pytest.raises(PermissionDenied) as raised:
        deploy(writer, SPEC)
    assert "items" in raised.value.why
    assert state(items) == []
