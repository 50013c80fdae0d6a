"""A declaration in other words than the catalog's is the same declaration: PostgreSQL is asked how it would print it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from by_hand import rows, run
from everindex.errors import SpecIllegal
from everindex.index.catalog.canonical import COPY
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import deploy
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL, MIGRATE_CHANGED
from everindex.index.recall.verify import prove_index
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from scene import SPEC, state

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

#: Declarations in the words of people; the catalog prints each otherwise.
WORDS = {
    "predicate without types": replace(SPEC, predicate="topic = 'news'"),
    "predicate in capitals": replace(SPEC, predicate="TOPIC IN ('news','sport') AND n>0"),
    "predicate with between": replace(SPEC, predicate="n BETWEEN 1 AND 7"),
    "predicate with quotes": replace(SPEC, predicate="topic = 'it''s (not) ::text'"),
    "predicate with is": replace(SPEC, predicate="embedding is not null"),
    "subvector": replace(SPEC, expression="subvector(embedding,1,32)::vector(32)", recall_floor=0.1),
    "subvector, cast otherwise": replace(
        SPEC, expression="CAST(subvector(embedding, 1, 32) AS vector(32))", recall_floor=0.1
    ),
    "halfvec by hand": replace(SPEC, expression="embedding::halfvec(64)", opclass="halfvec_cosine_ops"),
    "bits by hand": replace(
        SPEC, expression="((binary_quantize( embedding ))::bit(64))", opclass="bit_hamming_ops", recall_floor=0.1
    ),
    "expression and predicate": replace(
        SPEC, column=None, expression="l2_normalize(embedding)::vector(64)", predicate="n=0", recall_floor=0.1
    ),
    "comments": replace(
        SPEC,
        column=None,
        expression="l2_normalize(embedding)::vector(64) -- of length 1",
        predicate="n=0 -- the current ones",
        recall_floor=0.1,
    ),
}


@pytest.fixture
def topics(items: str) -> str:
    """`items` with a topic and a number."""
    run(items, "ALTER TABLE items ADD topic text DEFAULT 'news'")
    return items


def relations(conninfo: str) -> list[tuple[str]]:
    return rows(conninfo, "SELECT oid::regclass::text FROM pg_class WHERE relname LIKE %s", f"{COPY}%")


def steps_of(conninfo: str, spec: IndexSpec) -> tuple[object, ...]:
    with connect(conninfo) as connection:
        return make_plan(spec, observe(connection, spec), policy=HEAL).steps


@pytest.mark.parametrize("words", WORDS)
def test_an_index_is_as_declared_in_whatever_words(topics: str, words: str) -> None:
    spec = WORDS[words]
    assert deploy(topics, spec, policy=HEAL).outcome == "built"
    assert steps_of(topics, spec) == ()
    assert relations(topics) == []
    with connect(topics) as connection:
        proof, _ = prove_index(connection, spec)
    assert proof.holds, proof.sentence


def test_a_predicate_of_other_rows_is_drift(topics: str) -> None:
    deploy(topics, WORDS["predicate without types"])
    with connect(topics) as connection:
        proof, _ = prove_index(connection, replace(SPEC, predicate="topic = 'sport'"))
    assert proof.holds is False
    assert "predicate is (topic = 'news'::text), declared topic = 'sport'" in proof.sentence


@pytest.mark.parametrize("search_path", ["public", '"$user"', "extensions, public", ""])
def test_the_extension_may_lie_in_a_schema_that_is_not_on_the_search_path(items: str, search_path: str) -> None:
    run(items, "CREATE SCHEMA extensions", "ALTER EXTENSION vector SET SCHEMA extensions")
    name = rows(items, "SELECT current_database()")[0][0]
    run(items, f"ALTER DATABASE {name} SET search_path = {search_path or repr('')}")
    for spec in (
        SPEC,
        replace(SPEC, opclass="halfvec_cosine_ops"),
        replace(SPEC, opclass="bit_hamming_ops", recall_floor=0.1),
        replace(
            SPEC,
            expression="extensions.subvector(embedding, 1, 32)::extensions.vector(32)",
            predicate="n = 0",
            recall_floor=0.1,
        ),
    ):
        deploy(items, spec, policy=HEAL)
        assert steps_of(items, spec) == ()


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (replace(SPEC, predicate="nonsense ="), "syntax error"),
        (replace(SPEC, predicate="no_such_column = 1"), "no_such_column"),
        (replace(SPEC, predicate="now() > '2030-01-01'"), "IMMUTABLE"),
        (replace(SPEC, predicate="n"), "must be type boolean"),
        (replace(SPEC, expression="no_such_function(embedding)"), "no_such_function"),
        (replace(SPEC, expression="embedding::halfvec(64)"), "does not accept data type halfvec"),
        (replace(SPEC, expression="subvector(embedding, 1, 32)"), "does not have dimensions"),
        (replace(SPEC, predicate="(SELECT true)"), "subquer"),
    ],
)
def test_what_postgresql_cannot_index_is_told_in_its_own_words_before_anything_is_built(
    items: str, spec: IndexSpec, why: str
) -> None:
    with pytest.raises(SpecIllegal) as raised:
        deploy(items, spec)
    assert why in raised.value.why
    assert state(items) == []
    assert relations(items) == []


def test_a_declaration_cannot_smuggle_a_second_statement_in(items: str) -> None:
    for predicate in ("true); DROP TABLE items; --", "true; DROP TABLE items", "true; COMMIT; DROP TABLE items"):
        with pytest.raises(SpecIllegal):
            deploy(items, replace(SPEC, predicate=predicate))
    assert rows(items, "SELECT count(*) FROM items") == [(300,)]


@pytest.fixture
def without_temp(topics: str) -> Iterator[str]:
    """The owner of `items`, who may make no temporary table."""
    database = rows(topics, "SELECT current_database()")[0][0]
    role = f"plain_{database}"
    run(
        topics,
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        f"CREATE ROLE {role} LOGIN",
        f"ALTER TABLE items OWNER TO {role}",
        f"GRANT CREATE ON SCHEMA public TO {role}",
    )
    yield make_conninfo(topics, user=role)
    run(topics, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("words", ["predicate in capitals", "subvector, cast otherwise"])
def test_a_role_without_temporary_tables_builds_once_and_not_again_and_again(without_temp: str, words: str) -> None:
    with psycopg.connect(without_temp) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TEMPORARY TABLE t ()")
    spec = WORDS[words]
    assert deploy(without_temp, spec, policy=HEAL).outcome == "built"
    assert deploy(without_temp, spec, policy=HEAL).outcome == "already-there"
    assert deploy(without_temp, replace(spec, m=8), policy=MIGRATE_CHANGED).outcome == "replaced"
    assert relations(without_temp) == []


@pytest.mark.parametrize("words", ["predicate without types", "subvector", "halfvec by hand", "bits by hand"])
def test_a_session_that_may_only_read_knows_the_index_by_what_the_text_says(topics: str, words: str) -> None:
    spec = WORDS[words]
    deploy(topics, spec)
    database = rows(topics, "SELECT current_database()")[0][0]
    run(topics, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with connect(topics) as connection:
        proof, _ = prove_index(connection, spec)
        other, _ = prove_index(connection, replace(spec, predicate="n = 5"))
    assert proof.holds, proof.sentence
    assert other.holds is False


def test_a_table_of_the_user_with_the_copys_name_is_left_alone(without_temp: str) -> None:
    run(without_temp, f"CREATE TABLE {COPY} (mine int)", f"INSERT INTO {COPY} VALUES (1)")
    deploy(without_temp, WORDS["predicate without types"])
    assert rows(without_temp, f"SELECT mine FROM {COPY}") == [(1,)]
    assert state(without_temp) == [(SPEC.name, True)]
