"""The same statements on every server: plan shapes differ per major, what is said about them must stay true."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from by_hand import run
from everindex.statement_check.check import StatementCheck, check_statement
from everindex.testing import assert_recall
from every_server import KINDS, Kind, server

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"pg{kind.postgres}-pgvector{kind.pgvector}")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def conninfo(kind: Kind) -> Iterator[str]:
    """A server of this kind with 3,000 vectors of 32 dimensions and a cosine index."""
    with server(kind.binaries()) as admin:
        run(
            admin,
            "CREATE EXTENSION vector",
            "CREATE TABLE items (id int PRIMARY KEY, n int, embedding vector(32))",
            "SELECT setseed(0.5)",
            "INSERT INTO items SELECT g, g % 100, ARRAY(SELECT random() - 0.5 + 0 * g FROM generate_series(1, 32))::vector "
            "FROM generate_series(1, 3000) g",
            "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops)",
            "VACUUM ANALYZE items",
        )
        yield admin


def check(conninfo: str, statement: str) -> StatementCheck:
    with psycopg.connect(conninfo) as connection:
        return check_statement(connection, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 10",
        "SELECT id FROM items ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 3) LIMIT 10",
        "SELECT id FROM items ORDER BY embedding::vector(32) <=> $1 LIMIT 10",
        "SELECT id FROM items WHERE embedding <=> :v < 0.9 ORDER BY embedding <=> :v LIMIT 10",
    ],
)
def test_indexable_statements_use_the_index(conninfo: str, statement: str) -> None:
    found = check(conninfo, statement)
    assert found.uses_index
    assert found.is_chosen
    assert found.index_names == ("items_idx",)


@pytest.mark.parametrize(
    ("statement", "slug"),
    [
        ("SELECT 1 - (embedding <=> %s) AS s FROM items ORDER BY s DESC LIMIT 10", "similarity-descending"),
        ("SELECT id FROM items ORDER BY embedding <=> %s DESC LIMIT 10", "descending"),
        ("SELECT id FROM items ORDER BY embedding <-> %s LIMIT 10", "operator-of-another-opclass"),
        ("SELECT id FROM items ORDER BY cosine_distance(embedding, %s) LIMIT 10", "function-instead-of-operator"),
        ("SELECT id FROM items ORDER BY round((embedding <=> %s)::numeric, 3) LIMIT 10", "computed-from-distance"),
        ("SELECT id FROM items ORDER BY embedding <=> %s NULLS FIRST LIMIT 10", "nulls-first"),
        (
            "SELECT a.id FROM items a, items b WHERE b.id = 3 ORDER BY a.embedding <=> b.embedding LIMIT 10",
            "vector-from-join",
        ),
        ("SELECT DISTINCT ON (n) id FROM items ORDER BY n, embedding <=> %s LIMIT 10", "distinct-on"),
        ("SELECT id FROM items WHERE embedding <=> %s < 0.3 LIMIT 10", "threshold-without-order"),
    ],
)
def test_statements_of_another_shape_are_told_the_same_reason(conninfo: str, statement: str, slug: str) -> None:
    found = check(conninfo, statement)
    assert not found.uses_index
    assert [reason.slug for reason in found.reasons] == [slug]
    assert found.reasons[0].proven_by == "items_idx"


def test_a_tie_break_is_served_from_postgresql_17_on_and_explained_before(conninfo: str, kind: Kind) -> None:
    found = check(conninfo, "SELECT id FROM items ORDER BY embedding <=> %s, id LIMIT 10")
    assert found.uses_index == (kind.postgres >= 17)
    assert [reason.slug for reason in found.reasons] == ([] if kind.postgres >= 17 else ["second-key"])


@pytest.mark.parametrize(
    ("statement", "slug"),
    [
        ("SELECT id FROM items ORDER BY embedding <=> %s", "no-limit"),
        ("SELECT id, count(*) OVER () FROM items ORDER BY embedding <=> %s LIMIT 10", "window-function"),
    ],
)
def test_what_reads_all_rows_is_a_reason_or_a_warning_that_rows_are_missing(
    conninfo: str, statement: str, slug: str
) -> None:
    """Older servers do take the index for it, and then give no more than about ef_search of the rows."""
    found = check(conninfo, statement)
    if found.uses_index:
        assert [warning.slug for warning in found.warnings] == ["no-limit"]
        with psycopg.connect(conninfo) as connection:
            rows = connection.execute(statement, (str([0.1] * 32),)).fetchall()
        assert max(len(rows), *(row[-1] for row in rows if len(row) == 2), 0) < 3000
    else:
        assert [reason.slug for reason in found.reasons] == [slug]


def test_the_way_out_of_too_few_rows_fits_the_version(conninfo: str, kind: Kind) -> None:
    found = check(conninfo, "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 60")
    warning = next(warning for warning in found.warnings if warning.slug == "limit-above-ef-search")
    assert ("SET LOCAL hnsw.iterative_scan" in warning.next_step) == kind.has_iterative_scan


def test_recall_of_a_statement_is_measured(conninfo: str) -> None:
    by_distance = assert_recall(
        conninfo, "SELECT id, embedding <=> :v AS d FROM items ORDER BY embedding <=> :v LIMIT 10", at_least=0.3
    )
    by_row = assert_recall(conninfo, "SELECT id FROM items ORDER BY embedding <=> :v LIMIT 10", at_least=0.3)
    assert (by_distance.compared_by, by_row.compared_by) == ("distance", "row")
    assert by_distance.recall == pytest.approx(by_row.recall)
