"""Names are data: whatever PostgreSQL takes for a name, deploy, drop, scripts and operations take too."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg import sql
from sqlalchemy import create_engine

from by_hand import rows, run
from everindex.alembic_kit import implementations
from everindex.errors import EverindexError, IndexDefinitionDiffers
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import acknowledge, deploy
from everindex.index.spec import IndexSpec
from scene import Heard

HOSTILE = [
    "plain",
    "UPPER and spaces",
    'quote"quote',
    "apostrophe'; DROP TABLE items; --",
    "100%",
    "%s %(x)s %%",
    ":word and ::cast",
    "back\\slash",
    "{brace} {relation}",
    "$everindex$ $$ ${tag}$",
    "dot.dot",
    "ünïcode 索引 🐘",
    "select",
    "n" * 63,
    "é" * 31,
]

OTHER_SCHEMA = 'Other "schema" 100%'


def hostile_spec(name: str, *, schema: str = "public") -> IndexSpec:
    return IndexSpec(
        name=name, table=("t" + name)[:63].encode()[:63].decode(errors="ignore"), column=name, schema=schema
    )


def make_table(conninfo: str, spec: IndexSpec, *, vector: str = "vector") -> None:
    table = sql.Identifier(spec.schema, spec.table)
    run(
        conninfo,
        sql.SQL("CREATE TABLE {} (id int, {} {}(3))").format(table, sql.Identifier(spec.column), sql.SQL(vector)),
        sql.SQL("INSERT INTO {} VALUES (1, '[1,2,3]'), (2, '[3,2,1]')").format(table),
    )


def is_valid(conninfo: str, spec: IndexSpec) -> list[tuple[Any, ...]]:
    return rows(
        conninfo,
        "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = %s AND t.relname = %s AND n.nspname = %s",
        spec.name,
        spec.table,
        spec.schema,
    )


def script(spec: IndexSpec, *, schema: str | None, what: str = "create_vector_index") -> str:
    implementations.register()
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "output_buffer": buffer, "literal_binds": True, "transaction_per_migration": True},
    )
    with context.begin_transaction(_per_migration=True):
        getattr(Operations(context), what)(spec.name, spec.table, spec.column, schema=schema)
    return buffer.getvalue()


def run_script(conninfo: str, text: str) -> None:
    """As psql would: each statement for itself, nothing else added."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in text.split(";\n\n"):
            if statement.strip():
                connection.execute(statement.encode())


@pytest.fixture(scope="module")
def with_vector(cluster: Any) -> Any:
    conninfo = cluster.database()
    run(conninfo, "CREATE EXTENSION vector", 'CREATE SCHEMA "Other ""schema"" 100%"')
    yield conninfo
    cluster.drop(conninfo)


@pytest.mark.parametrize(
    ("name", "schema"), [*((name, OTHER_SCHEMA) for name in HOSTILE), ("plain", "public"), ("100%", "public")]
)
def test_a_hostile_name_is_deployed_acknowledged_and_dropped(with_vector: str, name: str, schema: str) -> None:
    spec = hostile_spec(name, schema=schema)
    make_table(with_vector, spec)
    assert deploy(with_vector, spec).outcome == "built"
    assert is_valid(with_vector, spec) == [(True,)]
    heard = Heard()
    acknowledge(with_vector, spec, reporter=heard.reporter)
    assert "already exists, skipping" in heard.notices[0]
    assert deploy(with_vector, spec).outcome == "already-there"
    assert drop(with_vector, spec)
    assert is_valid(with_vector, spec) == []
    run(with_vector, sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, spec.table)))


@pytest.mark.parametrize(
    ("name", "schema"), [*((name, None) for name in HOSTILE), ("plain", OTHER_SCHEMA), ("100%", OTHER_SCHEMA)]
)
def test_the_offline_script_of_a_hostile_name_makes_and_drops_that_very_index(
    with_vector: str, name: str, schema: str | None
) -> None:
    spec = hostile_spec(name, schema=schema or "public")
    make_table(with_vector, spec)
    for _ in range(2):  # the second time its guard finds the index as declared
        run_script(with_vector, script(spec, schema=schema))
        assert is_valid(with_vector, spec) == [(True,)]
    run_script(with_vector, script(spec, schema=schema, what="drop_vector_index"))
    assert is_valid(with_vector, spec) == []
    run(with_vector, sql.SQL("DROP TABLE {}").format(sql.Identifier(spec.schema, spec.table)))


@pytest.mark.parametrize(
    "definition",
    [
        "ON items USING hnsw (embedding vector_l2_ops)",
        "ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 8)",
        "ON items USING hnsw (embedding vector_cosine_ops) WHERE n > 1",
        "ON items USING hnsw (other vector_cosine_ops)",
        "ON elsewhere USING hnsw (embedding vector_cosine_ops)",
        "ON items (n)",
    ],
)
def test_the_offline_script_stops_at_an_index_of_another_definition(items: str, definition: str) -> None:
    run(items, "ALTER TABLE items ADD COLUMN other vector(64)", "CREATE TABLE elsewhere (embedding vector(64))")
    run(items, f"CREATE INDEX declared {definition}")
    text = script(IndexSpec(name="declared", table="items", column="embedding"), schema=None)
    with pytest.raises(psycopg.errors.RaiseException, match="index-definition-differs"):
        run_script(items, text)


def test_the_offline_script_stops_at_an_invalid_index(items: str) -> None:
    run(
        items,
        "CREATE INDEX declared ON items USING hnsw (embedding vector_cosine_ops)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'declared'::regclass",
    )
    with pytest.raises(psycopg.errors.RaiseException, match="INVALID"):
        run_script(items, script(IndexSpec(name="declared", table="items", column="embedding"), schema=None))


@pytest.mark.parametrize("name", ["100% :word", 'Quote"d', "ünïcode"])
def test_the_operations_of_alembic_take_hostile_names_and_schemas_online(with_vector: str, name: str) -> None:
    spec = hostile_spec(name, schema=OTHER_SCHEMA)
    make_table(with_vector, spec)
    implementations.register()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(with_vector))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"transaction_per_migration": True, "everindex_conninfo": with_vector}
        )
        for what, expected in (("create_vector_index", [(True,)]), ("drop_vector_index", [])):
            with context.begin_transaction(_per_migration=True):
                getattr(Operations(context), what)(spec.name, spec.table, spec.column, schema=spec.schema)
            assert is_valid(with_vector, spec) == expected
    engine.dispose()
    run(with_vector, sql.SQL("DROP TABLE {}").format(sql.Identifier(spec.schema, spec.table)))


def test_the_extension_may_lie_in_a_schema_with_a_hostile_name(empty: str) -> None:
    run(empty, 'CREATE SCHEMA "Ext ""s"" 100%"', 'CREATE EXTENSION vector SCHEMA "Ext ""s"" 100%"')
    spec = IndexSpec(name="i", table="t", column="e")
    make_table(empty, spec, vector='"Ext ""s"" 100%".vector')
    deploy(empty, spec)
    assert is_valid(empty, spec) == [(True,)]


def test_a_name_that_a_table_has_is_an_error_that_says_so(items: str) -> None:
    run(items, 'CREATE TABLE "taken %" (id int)')
    with pytest.raises(IndexDefinitionDiffers, match="a table"):
        deploy(items, IndexSpec(name="taken %", table="items", column="embedding"))


def test_psql_runs_the_script_of_a_hostile_name_as_it_is(with_vector: str) -> None:
    psql = Path("/usr/lib/postgresql/15/bin/psql")
    if not psql.exists():
        pytest.skip("there is no psql here")
    spec = hostile_spec("psql 100% 'a' \"b\" $everindex$")
    make_table(with_vector, spec)
    done = subprocess.run(
        [str(psql), "-X", "-v", "ON_ERROR_STOP=1", "-q", with_vector],
        input=script(spec, schema=None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert is_valid(with_vector, spec) == [(True,)]


def test_errors_about_hostile_names_keep_their_lines(items: str) -> None:
    with pytest.raises(EverindexError) as raised:
        deploy(items, IndexSpec(name="i", table="no % such {table}", column="embedding"))
    assert len(str(raised.value).split("\n")) == 3
