"""Another vector index on the declared column is named by deploy, plan, status and verify, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from by_hand import run
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.preview import preview_plan
from everindex.index.plan.other_indexes import indexes_beside
from everindex.index.plan.policy import HEAL
from everindex.index.recall.verify import prove_all, prove_index
from everindex.pg.connections import Connection, connect
from scene import SPEC, Heard

IVFFLAT = "CREATE INDEX by_migration ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 5)"
#: name → (its statement, whether it answers the declared searches, what is said of it)
OTHERS = {
    "ivfflat": (IVFFLAT, True, "serves the same searches"),
    "ivfflat, other distance": (IVFFLAT.replace("cosine", "l2"), False, "serves other searches"),
    "another m": (
        "CREATE INDEX by_migration ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 4)",
        True,
        "serves the same searches",
    ),
    "the same again": (
        "CREATE INDEX by_migration ON items USING hnsw (embedding vector_cosine_ops)",
        True,
        "has the same definition under another name",
    ),
    "other distance": (
        "CREATE INDEX by_migration ON items USING hnsw (embedding vector_ip_ops)",
        False,
        "serves other searches",
    ),
    "other type": (
        "CREATE INDEX by_migration ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)",
        False,
        "serves other searches",
    ),
    "some rows": (
        "CREATE INDEX by_migration ON items USING hnsw (embedding vector_cosine_ops) WHERE n = 0",
        False,
        "serves other searches",
    ),
}


@pytest.fixture
def connection(items: str) -> Iterator[Connection]:
    deploy(items, SPEC)
    with connect(items) as opened:
        yield opened


@pytest.mark.parametrize("kind", OTHERS)
def test_an_index_on_the_same_column_is_named_with_what_it_is_for(
    items: str, connection: Connection, kind: str
) -> None:
    statement, competes, said = OTHERS[kind]
    run(items, statement)
    (other,) = indexes_beside(SPEC, observe(connection, SPEC))
    assert other.competes is competes
    assert said in other.sentence
    proof, _ = prove_index(connection, SPEC)
    assert proof.holds
    assert other.sentence in proof.sentence
    assert proof.next_step == other.advice
    planned = preview_plan(connection, SPEC, with_trial=False, policy=HEAL)
    dropped = {getattr(each.step, "name", None) for each in planned.steps}
    assert [beside.name for beside in planned.beside] == ([] if "by_migration" in dropped else ["by_migration"])
    assert any(other.sentence in warning for warning in deploy(items, SPEC).warnings)
    # What is advised runs.
    run(items, other.drop_text)
    assert indexes_beside(SPEC, observe(connection, SPEC)) == ()


def test_verify_names_the_index_that_the_planner_takes_instead(many_items: str) -> None:
    deploy(many_items, replace(SPEC, m=64, ef_construction=128))
    run(many_items, IVFFLAT.replace("lists = 5", "lists = 300"))
    spec = replace(SPEC, m=64, ef_construction=128)
    with connect(many_items) as connection:
        proof = prove_all(connection, spec)[1]
        assert not proof.holds
        assert "the planner uses another index: Index Scan using by_migration" in proof.sentence
        assert 'DROP INDEX CONCURRENTLY "public"."by_migration";' in str(proof.next_step)
        assert "ANALYZE" not in str(proof.next_step)
        run(many_items, 'DROP INDEX CONCURRENTLY "public"."by_migration";')
        assert prove_all(connection, spec)[1].holds


def test_other_tables_other_columns_and_our_generations_are_not_beside(items: str, connection: Connection) -> None:
    run(
        items,
        "ALTER TABLE items ADD COLUMN embedding_2 vector(64)",
        "CREATE INDEX second ON items USING hnsw (embedding_2 vector_cosine_ops)",
        "CREATE INDEX third ON items USING hnsw ((embedding_2::halfvec(64)) halfvec_cosine_ops)",
        f"CREATE INDEX {SPEC.name}__prev ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 4)",
    )
    assert indexes_beside(SPEC, observe(connection, SPEC)) == ()
    heard = Heard()
    assert deploy(items, SPEC, reporter=heard.reporter).warnings == ()
