"""The rules about indexes, tables and rows on every server that there is: older PostgreSQL, older pgvector."""

from __future__ import annotations

import pytest

from by_hand import run
from everindex.doctor.examine import all_rules
from everindex.doctor.examined import Examined
from everindex.pg.capabilities import look
from everindex.pg.connections import connect
from every_server import KINDS, Kind, server
from patient import SPEC, apply_fix, fail_late, findings, is_good, make_items

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

HNSW = "CREATE INDEX CONCURRENTLY items_idx ON items USING hnsw (embedding vector_cosine_ops)"


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: f"{kind.postgres}-{kind.pgvector}")
def test_every_rule_can_be_asked_and_the_usual_sicknesses_are_told_and_mended(kind: Kind) -> None:
    with server(kind.binaries()) as conninfo:
        make_items(conninfo, analyze=False)
        run(conninfo, HNSW)
        fail_late(conninfo, HNSW.replace("items_idx", "second_idx"))
        fail_late(conninfo, "REINDEX INDEX CONCURRENTLY items_idx")
        run(conninfo, "UPDATE items SET embedding = array_fill(0, array[64])::vector WHERE id < 9")
        for slug in ("index-is-invalid", "leftover-of-reindex", "statistics-missing", "zero-vectors"):
            (found,) = findings(conninfo, slug)
            apply_fix(conninfo, found)
            assert not findings(conninfo, slug)
        assert is_good(conninfo, "declared-index-drifted", declared=(SPEC,))
        with connect(conninfo) as connection:
            examined = Examined(connection=connection, capabilities=look(connection), declared=(SPEC,))
            answered = {rule.slug for rule in all_rules() if list(rule.check(examined))}
    assert len(answered) > 15


def test_a_column_beyond_the_limit_needs_a_newer_pgvector_first() -> None:
    with server(KINDS[2].binaries()) as conninfo:
        make_items(conninfo, count=3, dimensions=2100)
        (found,) = findings(conninfo, "dimensions-beyond-limit")
    assert found.fix is not None
    assert not found.fix.statements
    assert "update pgvector" in found.fix.advice
