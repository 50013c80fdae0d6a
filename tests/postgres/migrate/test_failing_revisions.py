"""Revisions that fail: what they leave behind, in every transaction mode of an env.py, and what is told to whoever ran them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.errors import (
    BuildFailed,
    EverindexError,
    IndexDefinitionDiffers,
    ServerHostUnknown,
    SpecIllegal,
    TableNotFound,
)
from kit_scene import EVERY, Application, application, fill, url_of

TABLE = "op.execute('CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))')"
INDEX = "'items_idx', 'items', 'embedding', opclass='vector_cosine_ops'"
CREATE = f"op.create_vector_index({INDEX})"
DROP = f"op.drop_vector_index({INDEX})"
NARROW = "op.execute('ALTER TABLE items ALTER COLUMN embedding TYPE vector(4)')"
#: One of each kind in the short ring: committed by Alembic, by the server, by env.py.
SHORT = ("a transaction for each revision", "an AUTOCOMMIT engine", "begun by env.py")
MODES = [mode if mode in SHORT else pytest.param(mode, marks=pytest.mark.long) for mode in EVERY]


def with_items(place: Path, conninfo: str, mode: str = "a transaction for each revision") -> Application:
    app = application(place, conninfo, mode)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    fill(conninfo, "items", "embedding", count=60)
    app.run(
        "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 12, ef_construction = 64)"
    )
    app.run("COMMENT ON INDEX items_idx IS 'made by the data team'")
    return app


@pytest.mark.parametrize("mode", MODES)
def test_an_index_whose_column_could_not_be_altered_is_back(tmp_path: Path, empty: str, mode: str) -> None:
    app = with_items(tmp_path, empty, mode)
    before = app.indexes()
    app.revision("r1", None, up=f"{DROP}\n{NARROW}\n{CREATE}")
    with pytest.raises(Exception, match="expected 4 dimensions"):
        app.upgrade()
    assert app.indexes() == before
    assert app.head() is None
    assert app.rows("SELECT obj_description('items_idx'::regclass)") == [("made by the data team",)]


@pytest.mark.parametrize("mode", MODES)
def test_an_index_is_back_when_what_fails_is_python_after_several_statements(
    tmp_path: Path, empty: str, mode: str
) -> None:
    app = with_items(tmp_path, empty, mode)
    app.revision("r1", None, up="op.execute('CREATE TABLE before (i int)')")
    app.revision("r2", "r1", up=f"{DROP}\nop.execute('CREATE TABLE after (i int)')\nraise RuntimeError('in the end')")
    with pytest.raises(RuntimeError, match="in the end"):
        app.upgrade()
    assert list(app.indexes()) == ["items_idx"]


def test_an_index_that_no_declaration_can_describe_is_back_as_it_was(tmp_path: Path, empty: str) -> None:
    app = with_items(tmp_path, empty)
    app.run(
        "DROP INDEX items_idx",
        "CREATE INDEX items_idx ON items USING ivfflat (embedding vector_l2_ops) WITH (lists = 3)",
    )
    app.run("COMMENT ON INDEX items_idx IS 'theirs'")
    before = app.rows("SELECT pg_get_indexdef('items_idx'::regclass), true, 'theirs'")
    app.revision("r1", None, up=f"{DROP}\nraise RuntimeError('in the end')")
    with pytest.raises(RuntimeError, match="in the end"):
        app.upgrade()
    assert before == app.rows(
        "SELECT pg_get_indexdef(indexrelid), indisvalid, obj_description(indexrelid) FROM pg_index "
        "WHERE indexrelid = 'items_idx'::regclass"
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_revision_that_succeeds_leaves_dropped_what_it_has_dropped(tmp_path: Path, empty: str, mode: str) -> None:
    app = with_items(tmp_path, empty, mode)
    app.revision("r1", None, up=DROP)
    app.upgrade()
    assert (app.indexes(), app.head()) == ({}, "r1")
    app.revision("r2", "r1", up="raise RuntimeError('later')")
    with pytest.raises(RuntimeError, match="later"):
        app.upgrade()
    assert (app.indexes(), app.head()) == ({}, "r1")


def test_an_index_that_a_later_revision_of_the_same_transaction_takes_back_is_there_again(
    tmp_path: Path, empty: str
) -> None:
    app = with_items(tmp_path, empty, "one transaction for all")
    app.revision("r1", None, up=DROP)
    app.revision("r2", "r1", up="raise RuntimeError('later')")
    with pytest.raises(RuntimeError, match="later"):
        app.upgrade()
    assert (list(app.indexes()), app.head()) == (["items_idx"], None)


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_index_takes_the_table_of_its_revision_back(tmp_path: Path, empty: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    app.revision("r1", None, up=f"{TABLE.replace('vector(8)', 'vector(2001)')}\n{CREATE}")
    with pytest.raises(SpecIllegal, match="2000") as refused:
        app.upgrade()
    assert "everindex" not in refused.value.next_step
    # Where every statement commits itself, nothing can be taken back.
    is_there = app.rows("SELECT to_regclass('items') IS NOT NULL") == [(True,)]
    assert is_there == (mode == "an AUTOCOMMIT engine")
    assert app.rows("SELECT to_regclass('items_idx')") == [(None,)]


def test_a_column_added_to_a_table_without_rows_goes_with_its_refused_index(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    app.run("CREATE TABLE items (id serial PRIMARY KEY)")
    app.revision(
        "r1",
        None,
        up=f"op.execute('ALTER TABLE items ADD COLUMN embedding vector(8)')\n{CREATE[:-1]}, predicate='no_such > 1')",
    )
    with pytest.raises((BuildFailed, SpecIllegal)) as refused:
        app.upgrade()
    assert "no_such" in refused.value.why
    assert app.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0") == [("id",)]


@pytest.mark.parametrize(
    ("up", "kind", "told"),
    [
        ("op.create_vector_index('i', 'itmes', 'embedding')", TableNotFound, "misspelt"),
        ("op.create_vector_index('i', 'items', 'embeding')", TableNotFound, "misspelt"),
        ("op.create_vector_index('i', 'seen', 'embedding')", TableNotFound, "a view has that name"),
        ("op.create_vector_index('items_idx', 'items', 'embedding', m=4)", IndexDefinitionDiffers, "m is 12"),
        ("op.create_vector_index('i', 'items', 'id')", EverindexError, "int4"),
        (
            "op.create_vector_index('i', 'items', 'embedding', opclass='halfvec_l2_ops', dimensions=9)",
            EverindexError,
            "",
        ),
        ("op.create_vector_index('i', 'items', 'embedding', predicate='no_such > 1')", SpecIllegal, "no_such"),
        ("op.create_vector_index('seen', 'items', 'embedding')", IndexDefinitionDiffers, "view"),
    ],
)
def test_what_is_told_fits_an_application_with_a_chain_of_its_own(
    tmp_path: Path, empty: str, up: str, kind: type[EverindexError], told: str
) -> None:
    app = with_items(tmp_path, empty)
    app.run("CREATE VIEW seen AS SELECT * FROM items")
    app.revision("r1", None, up=up)
    with pytest.raises(kind) as refused:
        app.upgrade()
    assert told in str(refused.value)
    for ours in (
        "everindex migrate",
        "everindex deploy",
        "everindex heal",
        "everindex plan",
        "8eadb2079747",
        "DATABASE_URL",
    ):
        assert ours not in str(refused.value)


def test_an_address_that_the_engine_cannot_use_is_corrected_in_env_py(tmp_path: Path, empty: str) -> None:
    app = with_items(tmp_path, empty)
    app.options = {"transaction_per_migration": True, "everindex_conninfo": "host=nowhere.invalid dbname=x"}
    app.revision("r1", None, up=DROP)
    with pytest.raises(ServerHostUnknown) as refused:
        app.upgrade()
    assert "everindex_conninfo" in refused.value.next_step


# --- roles and schemas -----------------------------------------------------------------------------------------------


OWNER = "owner of items"


@pytest.fixture
def login(empty: str) -> Iterator[str]:
    """A role that may take the role OWNER, and owns nothing."""
    name = f"login_{os.getpid()}"
    with psycopg.connect(empty, autocommit=True) as connection:
        for statement in (f'CREATE ROLE "{OWNER}"', f"CREATE ROLE {name} LOGIN", f'GRANT "{OWNER}" TO {name}'):
            connection.execute(statement)
        yield name
        for statement in (f'DROP OWNED BY "{OWNER}" CASCADE', f"DROP ROLE {name}", f'DROP ROLE "{OWNER}"'):
            connection.execute(statement)


def owned_items(app: Application) -> None:
    app.run(
        f'CREATE SCHEMA s AUTHORIZATION "{OWNER}"',
        "CREATE TABLE s.items (id serial PRIMARY KEY, embedding vector(8))",
        f'ALTER TABLE s.items OWNER TO "{OWNER}"',
        "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)",
        f'ALTER TABLE alembic_version OWNER TO "{OWNER}"',
    )
    fill(app.conninfo, "s.items", "embedding", count=20)


@pytest.mark.parametrize("mode", MODES)
def test_the_engine_takes_the_role_that_a_revision_has_taken(tmp_path: Path, empty: str, login: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    owned_items(app)
    app.run("GRANT ALL ON alembic_version TO PUBLIC")
    app.conninfo = make_conninfo(empty, user=login)
    arguments = "'items_idx', 'items', 'embedding', schema='s'"
    up = f"op.create_vector_index({arguments})\nop.alter_vector_index({arguments}, m=8)\nop.drop_vector_index({arguments})"
    app.revision("r1", None, up=f"op.execute('SET ROLE \"{OWNER}\"')\n{up}\nop.create_vector_index({arguments})")
    app.upgrade()
    app.conninfo = empty
    assert list(app.indexes("s.items")) == ["items_idx"]


@pytest.mark.parametrize("mode", ["a transaction for each revision", "begun by env.py"])
def test_the_engine_takes_the_role_that_the_address_names(tmp_path: Path, empty: str, login: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    owned_items(app)
    app.conninfo = make_conninfo(empty, user=login)
    options = f"-c role={OWNER.replace(' ', chr(92) + ' ')} -c search_path=s,public"
    app.engine_options = {"connect_args": {"options": options}}
    app.revision("r1", None, up="op.create_vector_index('items_idx', 'items', 'embedding')")
    app.upgrade()
    app.conninfo = empty
    assert list(app.indexes("s.items")) == ["items_idx"]


#: What an application has in its metadata, and where this connection has it.
TENANTS = {None: "tenant 1", "shared": "tenant 2"}


@pytest.mark.parametrize("mode", MODES)
def test_schemas_are_translated_as_the_connection_translates_them(tmp_path: Path, empty: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    for schema in ("public", "shared", "tenant 1", "tenant 2"):
        app.run(
            f'CREATE SCHEMA IF NOT EXISTS "{schema}"', f'CREATE TABLE "{schema}".items (id int, embedding vector(8))'
        )
        fill(empty, f'"{schema}".items', "embedding", count=20)
    if mode == "async with run_sync":
        app.options |= {"schema_translate_map": TENANTS}
    else:
        app.engine_options |= {"execution_options": {"schema_translate_map": TENANTS}}
    shared = f"{INDEX}, schema='shared'"
    app.options |= {"version_table_schema": "public"}  # Alembic looks for it untranslated
    app.revision("r1", None, up=f"{CREATE}\nop.create_vector_index({shared})")
    app.revision("r2", "r1", up=f"op.alter_vector_index({INDEX}, m=8)\nop.alter_vector_index({shared}, m=8)")
    app.revision("r3", "r2", up=f"{DROP}\nop.drop_vector_index({shared})")
    for revision, m in (("r1", 16), ("r2", 8)):
        app.upgrade(revision)
        for schema in TENANTS.values():
            assert f"m='{m}'" in app.indexes(f'"{schema}".items')["items_idx"]
    app.upgrade()
    for schema in ("public", "shared", "tenant 1", "tenant 2"):
        assert app.indexes(f'"{schema}".items') == {}


def test_a_script_translates_schemas_as_env_py_says(tmp_path: Path) -> None:
    app = Application(tmp_path, "dbname=nowhere", options={"schema_translate_map": TENANTS})
    arguments = f"{INDEX}, schema='shared'"
    app.revision("r1", None, up=f"{CREATE}\nop.alter_vector_index({arguments}, m=8)\nop.drop_vector_index({arguments})")
    script = app.sql()
    assert 'CREATE INDEX CONCURRENTLY IF NOT EXISTS "items_idx" ON "tenant 1"."items"' in script
    assert 'ON "tenant 2"."items"' in script
    assert 'DROP INDEX CONCURRENTLY IF EXISTS "tenant 2"."items_idx"' in script
    assert '"shared"' not in script


def test_a_schema_that_is_translated_to_none_is_that_of_the_search_path(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    app.engine_options = {"execution_options": {"schema_translate_map": {"shared": None}}}
    app.revision("r1", None, up=f"{TABLE}\nop.create_vector_index({INDEX}, schema='shared')")
    app.upgrade()
    assert list(app.indexes("public.items")) == ["items_idx"]


# --- the alembic command ---------------------------------------------------------------------------------------------

#: An env.py of somebody else, which knows nothing of the kit but its registration.
FOREIGN_ENV = """
from alembic import context
from sqlalchemy import create_engine
from everindex.alembic_kit import autogenerate

autogenerate.register()
with create_engine({url!r}).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(
    ("up", "slug"),
    [
        (
            "op.create_table('items', sa.Column('embedding', VECTOR(3)))\nop.create_vector_index('i', 'items', 'embedding')",
            "extension-not-created",
        ),
        ("op.execute('CREATE TABLE items (embedding halfvec(3))')", "extension-not-created"),
        ("op.create_vector_index('i', 'items', 'embedding')", "table-not-found"),
    ],
)
def test_the_alembic_command_of_somebody_else_s_env_py_ends_in_three_lines(
    tmp_path: Path, empty: str, up: str, slug: str
) -> None:
    app = Application(tmp_path, empty)
    url = url_of(empty).render_as_string(hide_password=False)
    (tmp_path / "migrations" / "env.py").write_text(FOREIGN_ENV.format(url=url), encoding="utf-8")
    app.revision("r1", None, up=f"import sqlalchemy as sa\nfrom pgvector.sqlalchemy import VECTOR\n{up}")
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\npath_separator = os\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"], cwd=tmp_path, capture_output=True, text=True
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith(f"{slug}: ")
    assert [line[:7] for line in lines[1:]] == ["  why: ", "  next:"]
