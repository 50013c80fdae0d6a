"""`alembic` in a clone, and run_migration.py, as the deployment guide promises them."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from everindex.migrate import runner
from everindex.pg.embedded.running import embedded_binaries
from repository import REPOSITORY
from shipping import HEAD, PROGRAMS, Shell, is_told_in_three_lines

INDEX = "articles_embedding_hnsw_idx"
#: Every table, column, constraint and index of the application's schema, in PostgreSQL's own words.
SCHEMA = """
    SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'revision', version_num FROM alembic_version
    UNION ALL
    SELECT relname, array_to_string(reloptions, ',') FROM pg_class WHERE relnamespace = 'public'::regnamespace
    ORDER BY 1, 2
"""


def schema_of(conninfo: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(SCHEMA).fetchall()


def test_the_commands_of_the_guide_do_what_it_says(shell: Shell, empty: str) -> None:
    assert shell.succeed("alembic", "current") == ""
    shell.succeed("alembic", "upgrade", "head")
    assert shell.succeed("alembic", "current") == f"{HEAD} (head)\n"
    whole = schema_of(empty)
    assert INDEX in dict(whole)

    shell.succeed("alembic", "downgrade", "-1")
    assert shell.succeed("alembic", "current") == "b6a5ff4214f5\n"
    assert INDEX not in dict(schema_of(empty))

    shell.succeed("alembic", "downgrade", "base")
    assert shell.succeed("alembic", "current") == ""
    shell.succeed("alembic", "upgrade", "head")
    assert schema_of(empty) == whole


def test_the_history_is_the_guides_chain(lone_shell: Shell) -> None:
    assert [line.split(", ")[0] for line in lone_shell.succeed(PROGRAMS / "alembic", "history").splitlines()] == [
        f"b6a5ff4214f5 -> {HEAD} (head)",
        "8eadb2079747 -> b6a5ff4214f5",
        "1745b4f22f68 -> 8eadb2079747",
        "d8d9cdcec340 -> 1745b4f22f68",
        "<base> -> d8d9cdcec340",
    ]


def test_the_sql_of_the_chain_runs_unchanged_through_psql(lone_shell: Shell, empty: str, migrated: str) -> None:
    script = lone_shell.succeed("alembic", "upgrade", "head", "--sql")
    psql = embedded_binaries().program("psql")
    server = Shell(empty)
    server.succeed(psql, "--no-psqlrc", "--quiet", "--dbname", empty, stdin=script)
    assert schema_of(empty) == schema_of(migrated)
    # A second time it stops at its first statement, and by its own means: a psql that went on would end with 0.
    again = server.run(psql, "--no-psqlrc", "--quiet", "--dbname", empty, stdin=script)
    assert again.returncode == 3
    assert again.stderr.count("ERROR:") == 1


def test_the_sql_for_an_existing_instance_begins_at_its_revision_and_runs_through_psql(migrated: str) -> None:
    runner.downgrade(migrated, "b6a5ff4214f5", wait_seconds=0)
    shell = Shell(migrated)
    done = shell.run("everindex", "migrate", "--sql")
    assert done.stderr == "The database is at revision b6a5ff4214f5: the SQL begins there.\n"
    assert "-- Running upgrade b6a5ff4214f5 -> e0aa2eb4fa0a" in done.stdout
    assert "d8d9cdcec340" not in done.stdout
    shell.succeed(
        embedded_binaries().program("psql"), "--no-psqlrc", "--quiet", "--dbname", migrated, stdin=done.stdout
    )
    now = shell.run("alembic", "current")
    assert now.stdout == f"{HEAD} (head)\n"
    assert f"{HEAD} (head), add_hnsw_vector_index" in now.stderr
    # Where no server answers, with an empty database.
    lost = shell.run("everindex", "migrate", "--sql", env={"DB_HOST": "127.0.0.1", "DB_PORT": "1"})
    assert "-- Running upgrade  -> d8d9cdcec340" in lost.stdout
    assert "The SQL is for an empty database" in lost.stderr


@pytest.mark.parametrize("command", ["alembic upgrade head --sql", "everindex migrate --sql", "everindex --help"])
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(lone_shell: Shell, command: str) -> None:
    done = lone_shell.run("sh", "-c", f"{command} | true")
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("made_by_hand", "status", "word"),
    [
        ("USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)", 0, "already exists, skipping"),
        ("USING hnsw (embedding vector_cosine_ops)", 0, "already exists, skipping"),
        ("USING hnsw (embedding vector_l2_ops)", 3, "index-definition-differs"),
        ("USING btree (title)", 3, "index-definition-differs"),
    ],
)
def test_the_sql_of_the_index_stops_at_an_index_of_another_definition_and_keeps_the_declared_one(
    migrated: str, made_by_hand: str, status: int, word: str
) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX}")
        connection.execute(f"CREATE INDEX {INDEX} ON articles {made_by_hand}")
        connection.execute("UPDATE alembic_version SET version_num = 'b6a5ff4214f5'")
    script = Shell().succeed("alembic", "upgrade", f"b6a5ff4214f5:{HEAD}", "--sql")
    psql = embedded_binaries().program("psql")
    done = Shell(migrated).run(psql, "--no-psqlrc", "--quiet", "--dbname", migrated, stdin=script)
    assert done.returncode == status, done.stderr
    assert word in done.stderr


def test_alembic_tells_errors_in_three_lines_without_the_password(empty: str) -> None:
    server = conninfo_to_dict(empty)
    done = Shell().run(
        PROGRAMS / "alembic", "upgrade", "head", env={"DATABASE_URL": f"postgresql://nobody_here:s3cret@/{server['dbname']}?host={server['host']}"}
    )  # fmt: skip
    assert done.returncode == 1
    assert is_told_in_three_lines(done.stderr, "credentials-refused"), done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_run_migration_is_everindex_migrate(shell: Shell, tmp_path: Path) -> None:
    script = REPOSITORY / "run_migration.py"
    assert shell.succeed("python", script, cwd=tmp_path) == f"{HEAD} (head)\n"
    assert shell.succeed("python", script, "--current", cwd=tmp_path) == f"{HEAD} (head)\n"
    failed = shell.run("python", script, cwd=tmp_path, env={"DB_NAME": "nowhere"})
    assert failed.returncode == 1
    assert is_told_in_three_lines(failed.stderr, "database-missing")


def test_run_migration_in_a_python_without_everindex_says_what_to_do(lone_shell: Shell) -> None:
    done = lone_shell.run(sys.executable, "-I", "-S", "run_migration.py")
    assert done.returncode == 1
    assert is_told_in_three_lines(done.stderr, "not-installed"), done.stderr
