"""op.create_vector_index, op.alter_vector_index and op.drop_vector_index in every transaction mode of an env.py, and offline."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.operations import MigrateOperation
from sqlalchemy import URL, make_url

from everindex.alembic_kit.engine_address import conninfo_of_url
from everindex.alembic_kit.operations import AlterVectorIndexOp, CreateVectorIndexOp, DropVectorIndexOp
from everindex.errors import IndexDefinitionDiffers, SettingInvalid, SpecIllegal, TransactionInTheWay
from everindex.index.catalog.generations import next_name, previous_name
from everindex.index.spec import IndexSpec
from kit_scene import BEGUN, EVERY, FOREIGN_TRANSACTION, OWN_TRANSACTION, Application, application, fill

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

TABLE = "op.execute('CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))')"
INDEX = "'items_idx', 'items', 'embedding', opclass='vector_cosine_ops', ef_construction=64"
CREATE = f"op.create_vector_index({INDEX}, m=16)"
ALTER = f"op.alter_vector_index({INDEX}, m=8, existing_m=16)"
ALTER_BACK = f"op.alter_vector_index({INDEX}, m=16, existing_m=8)"
DROP = f"op.drop_vector_index({INDEX}, m=16)"


@pytest.mark.parametrize("mode", EVERY)
def test_an_index_is_made_with_its_table_altered_dropped_and_taken_back(tmp_path: Path, empty: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    app.revision("r1", None, up=f"{TABLE}\n{CREATE}", back=f"{DROP}\nop.execute('DROP TABLE items')")
    app.revision("r2", "r1", up=ALTER, back=ALTER_BACK)
    app.revision("r3", "r2", up="op.drop_vector_index('items_idx', 'items')", back=CREATE.replace("16", "8"))
    app.upgrade("r1")
    assert app.indexes() == {"items_idx": "hnsw (embedding vector_cosine_ops) WITH (m='16', ef_construction='64')"}
    fill(empty, "items", "embedding")
    app.upgrade("r2")
    assert app.indexes()["items_idx"].endswith("(m='8', ef_construction='64')")
    app.downgrade("r1")
    assert app.indexes()["items_idx"].endswith("(m='16', ef_construction='64')")
    app.upgrade()
    assert app.indexes() == {}
    app.downgrade("r2")
    assert app.indexes()["items_idx"].endswith("(m='8', ef_construction='64')")
    app.downgrade("base")
    assert app.rows("SELECT to_regclass('items')") == [(None,)]
    assert app.head() is None


@pytest.mark.parametrize("mode", OWN_TRANSACTION)
def test_what_a_revision_did_before_is_there_when_the_index_is_built(tmp_path: Path, empty: str, mode: str) -> None:
    app = application(tmp_path, empty, mode)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, note text)", "INSERT INTO items (note) VALUES ('a'), ('b')")
    app.revision(
        "r1",
        None,
        up="op.execute('ALTER TABLE items ADD COLUMN embedding vector(8)')\n"
        "op.execute(\"UPDATE items SET embedding = '[1,2,3,4,5,6,7,8]'\")\n" + CREATE + "\n"
        "op.execute(\"UPDATE items SET note = 'after'\")",
    )
    app.upgrade()
    assert list(app.indexes()) == ["items_idx"]
    assert app.rows("SELECT DISTINCT note FROM items") == [("after",)]
    assert app.head() == "r1"


@pytest.mark.parametrize("mode", FOREIGN_TRANSACTION)
@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("op.execute('UPDATE items SET id = id')", "RowExclusiveLock"),
        ("op.execute('ALTER TABLE items ADD COLUMN note text')", "AccessExclusiveLock"),
        ("op.execute('LOCK TABLE items IN SHARE MODE')", "ShareLock"),
    ],
)
def test_a_transaction_of_env_py_that_has_changed_the_table_is_refused_at_once(
    tmp_path: Path, empty: str, mode: str, before: str, told: str
) -> None:
    app = application(tmp_path, empty, mode)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    fill(empty, "items", "embedding", count=3)
    app.revision("r1", None, up=f"{before}\n{CREATE}")
    with pytest.raises(TransactionInTheWay) as refused:
        app.upgrade()
    assert told in refused.value.why
    assert "context.configure" in refused.value.next_step
    assert app.indexes() == {}


def test_a_transaction_of_env_py_with_a_snapshot_is_refused(tmp_path: Path, empty: str) -> None:
    app = Application(tmp_path, empty, begin=BEGUN, options={}, engine_options={"isolation_level": "SERIALIZABLE"})
    app.run("CREATE EXTENSION vector", "CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    fill(empty, "items", "embedding", count=3)
    app.revision("r1", None, up=CREATE)
    with pytest.raises(TransactionInTheWay, match="cannot be built online") as refused:
        app.upgrade()
    assert "snapshot" in refused.value.why


def test_dropping_beside_a_transaction_that_reads_the_table_is_refused(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty, "begun by env.py")
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    fill(empty, "items", "embedding", count=3)
    app.revision("r1", None, up=f"op.execute('SELECT count(*) FROM items')\n{CREATE}")
    app.upgrade()  # a build does not wait for readers
    app.revision("r2", "r1", up=f"op.execute('SELECT count(*) FROM items')\n{DROP}")
    with pytest.raises(TransactionInTheWay, match="cannot be dropped online"):
        app.upgrade()
    assert list(app.indexes()) == ["items_idx"]


def test_inside_of_a_transaction_the_definition_is_looked_at_too(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty, "begun by env.py")
    other = CREATE.replace("m=16", "m=4")
    app.revision("r1", None, up=f"{TABLE}\n{CREATE}\n{CREATE}\n{ALTER}")
    app.upgrade()
    assert app.indexes()["items_idx"].endswith("(m='8', ef_construction='64')")
    app.revision("r2", "r1", up=f"op.execute('DROP TABLE items')\n{TABLE}\n{CREATE}\n{other}")
    with pytest.raises(IndexDefinitionDiffers, match="not as declared"):
        app.upgrade()


def test_the_session_of_the_migration_may_be_idle_while_the_engine_builds(tmp_path: Path, empty: str) -> None:
    for mode in ("a transaction for each revision", "begun by a lock of env.py"):
        app = application(tmp_path / mode, empty, mode)
        app.run("DROP TABLE IF EXISTS items, alembic_version")
        app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
        fill(empty, "items", "embedding", count=3)
        app.revision(
            "r1",
            None,
            up="op.execute(\"SET idle_session_timeout = '400ms'\")\n"
            "op.execute(\"SET idle_in_transaction_session_timeout = '400ms'\")\n"
            f"import everindex.alembic_kit.implementations as o, time; deploy = o.deploy\n"
            "def slow(*given, **named):\n"
            "    time.sleep(1)\n"
            "    return deploy(*given, **named)\n"
            f"o.deploy = slow\ntry:\n    {CREATE}\nfinally:\n    o.deploy = deploy\n"
            "assert op.get_bind().exec_driver_sql('SHOW idle_session_timeout').scalar() == '400ms'",
        )
        app.upgrade()
        assert app.head() == "r1"


def test_an_index_of_another_definition_is_refused_without_replace_and_replaced_with_it(
    tmp_path: Path, empty: str
) -> None:
    app = application(tmp_path, empty)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    fill(empty, "items", "embedding")
    app.run("CREATE INDEX items_idx ON items USING hnsw (embedding vector_l2_ops)")
    app.revision("r1", None, up=CREATE)
    with pytest.raises(IndexDefinitionDiffers):
        app.upgrade()
    app.revision("r1", None, up=CREATE[:-1] + ", replace=True)")
    app.upgrade()
    assert app.indexes()["items_idx"].startswith("hnsw (embedding vector_cosine_ops)")


@pytest.mark.parametrize(
    ("arguments", "definition"),
    [
        ("'i', 'items', 'embedding', opclass='halfvec_l2_ops'", "(((embedding)::halfvec(8)) halfvec_l2_ops)"),
        (
            "'i', 'items', 'embedding', opclass='bit_hamming_ops'",
            "(((binary_quantize(embedding))::bit(8)) bit_hamming_ops)",
        ),
        (
            "'i', 'items', expression='subvector(embedding, 1, 4)::vector(4)', opclass='vector_l2_ops'",
            "(((subvector(embedding, 1, 4))::vector(4)) vector_l2_ops)",
        ),
        ("'i', 'items', 'embedding', predicate='id > 3'", "WHERE (id > 3)"),
    ],
    ids=["halfvec", "bits", "expression", "partial"],
)
@pytest.mark.parametrize("mode", ["a transaction for each revision", "begun by env.py"])
def test_casts_expressions_and_predicates_are_built(
    tmp_path: Path, empty: str, mode: str, arguments: str, definition: str
) -> None:
    app = application(tmp_path, empty, mode)
    app.revision("r1", None, up=f"{TABLE}\nop.create_vector_index({arguments})\nop.create_vector_index({arguments})")
    app.upgrade()
    assert definition in app.indexes()["i"]


def test_an_illegal_definition_is_refused_before_anything_is_run(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    app.revision("r1", None, up=CREATE.replace("m=16", "m=200"))
    with pytest.raises(SpecIllegal, match="m = 200"):
        app.sql()


# --- offline ---------------------------------------------------------------------------------------------------------

PSQL = Path("/usr/lib/postgresql/15/bin/psql")


def psql(conninfo: str, script: str) -> str:
    """What psql says of the script, which it runs as it is; an error of psql is one of the test's."""
    if not PSQL.exists():
        pytest.skip("there is no psql here")
    done = subprocess.run(
        [str(PSQL), "-X", "-v", "ON_ERROR_STOP=1", "-q", conninfo], input=script, capture_output=True, text=True
    )
    if done.returncode:
        raise psycopg.Error(done.stderr)
    return done.stderr


OFFLINE = {
    "plain": ("'embedding', opclass='vector_cosine_ops'", "hnsw (embedding vector_cosine_ops)"),
    "halfvec": (
        "'embedding', opclass='halfvec_cosine_ops', dimensions=8",
        "hnsw (((embedding)::halfvec(8)) halfvec_cosine_ops)",
    ),
    "bits": (
        "'embedding', opclass='bit_hamming_ops', dimensions=8",
        "hnsw (((binary_quantize(embedding))::bit(8)) bit_hamming_ops)",
    ),
    "partial": ("'embedding', predicate='id > 3'", "hnsw (embedding vector_cosine_ops)"),
    "expression": (
        "opclass='vector_l2_ops', expression='subvector(embedding, 1, 4)::vector(4)'",
        "hnsw (((subvector(embedding, 1, 4))::vector(4)) vector_l2_ops)",
    ),
}


@pytest.mark.parametrize("definition", OFFLINE)
@pytest.mark.parametrize("options", [{"transaction_per_migration": True}, {}, {"transactional_ddl": False}], ids=str)
def test_the_script_of_the_whole_chain_runs_in_psql_as_it_is(
    tmp_path: Path, empty: str, definition: str, options: dict[str, Any]
) -> None:
    arguments, made = OFFLINE[definition]
    app = Application(tmp_path, empty, options=options)
    app.run("CREATE EXTENSION vector")
    rest = f"'items_idx', 'items', {arguments}"
    app.revision("r1", None, up=TABLE, back="op.execute('DROP TABLE items')")
    app.revision("r2", "r1", up=f"op.create_vector_index({rest})", back=f"op.drop_vector_index({rest})")
    app.revision("r3", "r2", up=f"op.alter_vector_index({rest}, m=8)", back=f"op.alter_vector_index({rest})")
    psql(empty, app.sql("r2"))
    assert app.indexes()["items_idx"].startswith(made)
    fill(empty, "items", "embedding")
    script = app.sql("r2:r3")
    psql(empty, script)
    assert list(app.indexes()) == ["items_idx"]
    assert "m='8'" in app.indexes()["items_idx"]
    assert app.head() == "r3"
    psql(empty, app.sql("r3:base", down=True))
    assert app.indexes() == {}


def test_the_script_of_an_alteration_builds_beside_swaps_and_then_drops(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    app.revision("r1", None, up=ALTER)
    lines = [
        line for line in app.sql().splitlines() if line.startswith(("CREATE INDEX", "DROP", "ALTER", "BEGIN", "COMMIT"))
    ]
    assert lines[-9:] == [
        'CREATE INDEX CONCURRENTLY IF NOT EXISTS "items_idx__next" ON "items" USING hnsw ("embedding" vector_cosine_ops) '
        "WITH (m = 8, ef_construction = 64);",
        'DROP INDEX CONCURRENTLY IF EXISTS "items_idx__prev";',
        "BEGIN;",
        'ALTER INDEX IF EXISTS "items_idx" RENAME TO "items_idx__prev";',
        'ALTER INDEX "items_idx__next" RENAME TO "items_idx";',
        "COMMIT;",
        'DROP INDEX CONCURRENTLY IF EXISTS "items_idx__prev";',
        "BEGIN;",
        "COMMIT;",
    ]


def test_a_script_that_stopped_half_way_goes_on_when_it_is_run_again(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))")
    app.run("CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops)")
    app.revision("r1", None, up=ALTER)
    script = app.sql()
    alteration = script[script.index("DO $everindex$") : script.rindex("BEGIN;")]
    statements = alteration.split(";\n\n")
    for until in range(1, len(statements)):
        psql(empty, ";\n".join(statements[:until]) + ";\n")
        psql(empty, alteration)
        assert {"items_idx"} == set(app.indexes())
        assert "m='8'" in app.indexes()["items_idx"]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("CREATE INDEX items_idx ON items USING hnsw (embedding vector_l2_ops)", "index-definition-differs"),
        (
            "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 4)",
            "index-definition-differs",
        ),
        (
            "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WHERE id > 2",
            "index-definition-differs",
        ),
        ("CREATE INDEX items_idx ON items (id)", "index-definition-differs"),
        ("CREATE TABLE items_idx (id int)", "index-definition-differs"),
        (
            "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops);"
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_idx'::regclass",
            "INVALID",
        ),
    ],
)
def test_a_script_stops_where_the_name_is_taken_by_something_else(
    tmp_path: Path, empty: str, there: str, told: str
) -> None:
    app = application(tmp_path, empty)
    app.run("CREATE TABLE items (id serial PRIMARY KEY, embedding vector(8))", *there.split(";"))
    app.revision("r1", None, up=CREATE)
    with pytest.raises(psycopg.Error, match=told):
        psql(empty, app.sql())
    assert app.head() is None


def test_the_script_of_an_alteration_touches_no_index_of_another_table(tmp_path: Path, empty: str) -> None:
    app = application(tmp_path, empty)
    for table in ("items", "others"):
        app.run(f"CREATE TABLE {table} (id serial PRIMARY KEY, embedding vector(8))")
    app.run("CREATE INDEX items_idx ON others USING hnsw (embedding vector_l2_ops)")
    app.revision("r1", None, up=ALTER)
    with pytest.raises(psycopg.Error, match="is not an index of table items"):
        psql(empty, app.sql())
    assert list(app.indexes("others")) == ["items_idx"]


@pytest.mark.parametrize("name", ["100% :word", 'Quote"d', "$everindex$ 'x'", "n" * 63, "ünïcode 索引"])
def test_hostile_names_are_altered_online_and_offline(tmp_path: Path, empty: str, name: str) -> None:
    app = application(tmp_path, empty)
    quoted = '"' + name.replace('"', '""') + '"'
    app.run(
        f'CREATE SCHEMA "Other 100%"; CREATE TABLE "Other 100%".{quoted[:60].rstrip(chr(34))}t" ({quoted} vector(8))'
    )
    table = quoted[:60].rstrip('"')[1:].replace('""', '"') + "t"
    rest = f"{name!r}, {table!r}, {name!r}, schema='Other 100%'"
    app.revision("r1", None, up=f"op.create_vector_index({rest})")
    app.revision("r2", "r1", up=f"op.alter_vector_index({rest}, m=8)")
    app.revision("r3", "r2", up=f"op.alter_vector_index({rest}, m=4)", back=f"op.drop_vector_index({rest})")
    app.upgrade("r2")
    psql(empty, app.sql("r2:r3"))
    found = app.rows(
        "SELECT c.relname, c.reloptions FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE amname = 'hnsw'"
    )
    assert found == [(name, ["m=4", "ef_construction=64"])]
    app.downgrade("r2")
    assert app.rows("SELECT 1 FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE amname = 'hnsw'") == []


# --- reverse ---------------------------------------------------------------------------------------------------------

SPEC = IndexSpec(name="i", table="t", column="e")
OTHER = IndexSpec(name="i", table="t", column="e", m=8)


@pytest.mark.parametrize(
    ("operation", "back"),
    [
        (CreateVectorIndexOp(SPEC, schema="s"), DropVectorIndexOp(SPEC, schema="s")),
        (DropVectorIndexOp(SPEC, schema="s"), CreateVectorIndexOp(SPEC, schema="s")),
        (
            AlterVectorIndexOp(OTHER, schema="s", existing=SPEC),
            AlterVectorIndexOp(SPEC, schema="s", existing=OTHER),
        ),
        (CreateVectorIndexOp(SPEC, schema="s", repairs="it is INVALID"), CreateVectorIndexOp(SPEC, schema="s")),
    ],
)
def test_every_operation_has_its_reverse(operation: Any, back: MigrateOperation) -> None:
    reverse = operation.reverse()
    assert type(reverse) is type(back)
    for name in ("spec", "schema", "existing"):
        assert getattr(reverse, name, None) == getattr(back, name, None)


def test_the_reverse_of_an_alteration_takes_what_existed_before() -> None:
    class Kept:
        def invoke(self, operation: AlterVectorIndexOp) -> AlterVectorIndexOp:
            return operation

    operation: AlterVectorIndexOp = AlterVectorIndexOp.alter_vector_index(
        Kept(),  # type: ignore[arg-type]
        "i",
        "t",
        "e",
        m=8,
        predicate="x > 1",
        recall_floor=0.9,
        existing_m=16,
        existing_predicate=None,
    )
    assert operation.reverse().spec == IndexSpec(name="i", table="t", column="e", m=16, recall_floor=0.9)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [next_name("i"), previous_name("i"), next_name("n" * 60)])
def test_the_names_of_generations_are_never_declared(tmp_path: Path, name: str) -> None:
    app = Application(tmp_path, "dbname=nowhere")
    app.revision("r1", None, up=f"op.create_vector_index({name!r}, 'items', 'embedding')")
    with pytest.raises(SpecIllegal, match="generation"):
        app.sql()


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "conninfo"),
    [
        ("postgresql://u:p@h:5433/d", "host=h port=5433 dbname=d user=u password=p"),
        ("postgresql+psycopg2://u@h/d?sslmode=require", "host=h dbname=d user=u sslmode=require"),
        (
            "postgresql+asyncpg://u@h/d?ssl=true&prepared_statement_cache_size=0",
            "host=h dbname=d user=u sslmode=require",
        ),
        (
            "postgresql+asyncpg://u@h/d?ssl=verify-full&timeout=5",
            "host=h dbname=d user=u sslmode=verify-full connect_timeout=5",
        ),
        ("postgresql+psycopg:///d?host=/var/run/postgresql", "host=/var/run/postgresql dbname=d"),
        ("postgresql+psycopg2:///d?host=a:5433&host=b:5434", "host=a,b port=5433,5434 dbname=d"),
        ("postgresql+asyncpg://u@/d?host=a:5433&host=b", "host=a,b port=5433,5432 dbname=d user=u"),
        (
            "postgresql:///d?host=a,b&port=1,2&target_session_attrs=read-write",
            "host=a,b port=1,2 dbname=d target_session_attrs=read-write",
        ),
        ("postgresql://u@[::1]:5433/d", "host=::1 port=5433 dbname=d user=u"),
        ("postgresql:///d?host=[::1]:5433", "host=::1 port=5433 dbname=d"),
        (
            "postgresql://u@h/d?options=-csearch_path%3Dtenant%2Cpublic",
            "host=h dbname=d user=u options='-csearch_path=tenant,public'",
        ),
        ("postgresql+pg8000://u@h/d", "host=h dbname=d user=u"),
        ("postgresql:///d?service=mine", "service=mine dbname=d"),
    ],
)
def test_an_engine_s_url_is_read_as_its_driver_reads_it(url: str, conninfo: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict
    assert parts(conninfo_of_url(make_url(url))) == parts(conninfo)


def test_special_characters_in_a_password_arrive_as_they_are() -> None:
    password = "p@ss:/?#[]%40 'q\\uote' &=\"é"
    url = URL.create("postgresql+asyncpg", username="a@b", password=password, host="h", database="d b")
    for each in (url, make_url(url.render_as_string(hide_password=False))):
        parts = psycopg.conninfo.conninfo_to_dict(conninfo_of_url(each))
        assert parts == {"user": "a@b", "password": password, "host": "h", "dbname": "d b"}


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret@h/d?not_of_libpq=1", "sqlite:///s3cret", "mysql+pymysql://u:s3cret@h/d"]
)
def test_an_address_that_cannot_be_used_is_told_without_its_secret(url: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        conninfo_of_url(make_url(url))
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None
