"""Which indexes a command is about: the forms of `--declared`, where else it is said, and databases without articles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_line import Done, everindex, three_lines, url_of

MODELS = """
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, Index, Integer, MetaData, Table
from sqlalchemy.orm import DeclarativeBase


def on(table):
    made = MetaData()
    options = dict(postgresql_using="hnsw", postgresql_ops={"embedding": "vector_cosine_ops"})
    Table(table, made, Column("embedding", VECTOR(3)), Index("items_idx", "embedding", **options))
    return made


class Base(DeclarativeBase):
    metadata = on("items")


class holder:
    metadata = on("items")


metadata = on("items")
typo, view, number, nothing = on("itmes"), on("seen"), 3, MetaData()
"""
JSON = '{"name": "items_idx", "table": "items", "column": "%s"}'
SCHEMA = """
CREATE EXTENSION vector;
CREATE TABLE items (id int, embedding vector(3));
INSERT INTO items SELECT n, ARRAY[n, n % 7, 1]::vector FROM generate_series(1, 40) n;
CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops);
CREATE VIEW seen AS SELECT * FROM items;
ANALYZE items;
"""
#: What would install the articles, or speak of them.
OURS = ("everindex migrate", "alembic upgrade", "8eadb2079747", "articles", "not-migrated")


@pytest.fixture(scope="module")
def foreign(cluster: Any) -> Iterator[str]:
    """The database of another application, which has an index and no articles."""
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    for name, text in {
        "app/__init__.py": "",
        "app/models.py": MODELS,
        "app/raises.py": "raise RuntimeError('postgresql://u:s3cret-Pa55word@h/d')",
        "app/lacks.py": "import not_installed_anywhere",
        "app/ends.py": "import sys\nsys.exit(3)",
        "app/wrong.py": "def (",
        "index.json": JSON % "embedding",
        "column.json": JSON % "embeding",
        "broken.json": "[{",
        "list.json": "[]",
        "key.json": '{"name": "i", "table": "items", "colum": "embedding"}',
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def on(conninfo: str, place: Path, *arguments: str, **variables: str) -> Done:
    done = everindex(*arguments, cwd=place, DATABASE_URL=url_of(conninfo), **variables)
    if arguments[0] != "doctor":
        for text in OURS:
            assert text not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize(
    "form",
    [
        "app.models:Base",
        "app.models:Base.metadata",
        "app.models:metadata",
        "app.models:holder.metadata",
        "index.json",
        "./index.json",
    ],
)
def test_every_form_of_a_declaration_is_understood(foreign: str, place: Path, form: str) -> None:
    done = on(foreign, place, "status", "--declared", form)
    assert (done.status, done.stdout.count("✓ index items_idx exists")) == (0, 1), done


def test_a_declaration_can_be_said_once_and_the_nearer_one_wins(foreign: str, place: Path) -> None:
    (place / "pyproject.toml").write_text('[tool.everindex]\ndeclared = "app.models:Base"\n', encoding="utf-8")
    assert on(foreign, place, "status").status == 0
    assert on(foreign, place, "status", EVERINDEX_DECLARED="app.models:typo").status == 3
    assert on(foreign, place, "status", "--declared", "index.json", EVERINDEX_DECLARED="app.models:typo").status == 0
    assert on(foreign, place, "verify").status == 0
    (place / ".env").write_text("EVERINDEX_DECLARED=app.models:number\n", encoding="utf-8")
    three_lines(on(foreign, place, "plan"), "bad-input", status=2)
    # An empty text is the articles, which are not here.
    done = everindex("status", "--declared", "", cwd=place, DATABASE_URL=url_of(foreign))
    three_lines(done, "nothing-declared", status=3)


def test_a_broken_pyproject_stops_only_who_is_configured_there(foreign: str, place: Path) -> None:
    (place / "pyproject.toml").write_text("[tool.other\n", encoding="utf-8")
    assert on(foreign, place, "status", EVERINDEX_DECLARED="index.json").status == 0
    assert "nothing-declared" in everindex("status", cwd=place, DATABASE_URL=url_of(foreign)).stderr
    (place / "pyproject.toml").write_text("[tool.everindex]\ndeclared = index\n", encoding="utf-8")
    three_lines(on(foreign, place, "status"), "setting-invalid", status=2)
    (place / "pyproject.toml").write_text("[tool.everindex]\ndeclared = 3\n", encoding="utf-8")
    three_lines(on(foreign, place, "status"), "setting-invalid", status=2)


@pytest.mark.parametrize(
    ("form", "slug", "told"),
    [
        ("app.models:Bse", "bad-input", "did you mean --declared app.models:Base ?"),
        ("app.models:number", "bad-input", "it is an int"),
        ("app.models:nothing", "bad-input", "declares no HNSW index"),
        ("app.models", "bad-input", "MODULE:ATTRIBUTE"),
        ("app.modls:Base", "bad-input", "module app.modls was not found"),
        ("ap.models:Base", "bad-input", "module ap was not found"),
        ("app.raises:Base", "bad-input", "RuntimeError"),
        ("app.ends:Base", "bad-input", "SystemExit"),
        ("app.wrong:Base", "bad-input", "SyntaxError"),
        ("app.lacks:Base", "bad-input", "not_installed_anywhere"),
        ("broken.json", "source-unreadable", "broken.json"),
        ("missing.json", "source-unreadable", "No such file"),
        ("list.json", "bad-input", "declares no HNSW index"),
        ("key.json", "spec-illegal", "colum"),
    ],
)
def test_a_declaration_that_cannot_be_had_is_told_in_three_lines(
    foreign: str, place: Path, form: str, slug: str, told: str
) -> None:
    done = on(foreign, place, "plan", "--declared", form)
    three_lines(done, slug, status=2)
    assert told in done.stderr


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("app.models:typo", "there is no table public.itmes"),
        ("app.models:view", "a view has that name"),
        ("column.json", "has no column embeding"),
    ],
)
def test_a_table_or_column_that_is_not_there_advises_no_migration_of_ours(
    foreign: str, place: Path, form: str, told: str
) -> None:
    for command in ("plan", "deploy", "heal"):
        done = on(foreign, place, command, "--declared", form)
        three_lines(done, "table-not-found")
        assert told in done.stderr
    for command in ("status", "verify"):
        done = on(foreign, place, command, "--declared", form)
        if form == "column.json":  # an index of that name is there, on another column
            assert "not as declared" in done.stdout
        else:
            assert told in done.stdout
        assert done.status == 3
    done = on(foreign, place, "doctor", "--declared", form, "--rule", "declared-index-missing")
    assert "migrate" not in done.stdout


@pytest.mark.parametrize("command", ["status", "verify", "plan", "deploy", "heal", "keep", "measure", "tune", "warm"])
def test_without_articles_or_a_declaration_the_page_is_shown(foreign: str, place: Path, command: str) -> None:
    done = everindex(command, cwd=place, DATABASE_URL=url_of(foreign))
    three_lines(done, "nothing-declared", status=3)
    assert "docs/your-own-table.md" in done.stderr
    assert '"table": "items", "column": "embedding"' in done.stderr
    assert "migrate" not in done.stderr


def test_what_is_advised_there_works_as_it_is_printed(cluster: Any, place: Path) -> None:
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA.replace("items", '"My Items"').replace('"My Items"_idx', "i").encode())
        connection.execute("DROP INDEX i")
    told = everindex("status", cwd=place, DATABASE_URL=url_of(conninfo)).stderr
    declaration = told[told.index("{") : told.index("}") + 1]
    (place / "index.json").write_text(declaration, encoding="utf-8")
    assert everindex("deploy", "--declared", "index.json", cwd=place, DATABASE_URL=url_of(conninfo)).status == 0
    assert everindex("verify", "--declared", "index.json", cwd=place, DATABASE_URL=url_of(conninfo)).status == 0
    cluster.drop(conninfo)


def test_the_doctor_examines_a_database_without_a_declaration_and_says_so(foreign: str, place: Path) -> None:
    done = everindex("doctor", cwd=place, DATABASE_URL=url_of(foreign))
    assert "no index is declared" in done.stderr
    assert "declared-index" not in done.stdout
    assert "migrate" not in done.stdout + done.stderr
    declared = on(foreign, place, "doctor", "--declared", "app.models:Base", "--all")
    assert 'declared index "public"."items_idx" exists' in declared.stdout


def test_an_empty_database_and_another_application_s_articles_are_no_instance(empty: str, place: Path) -> None:
    for statement in ("SELECT 1", "CREATE TABLE articles (id int, title text, body text)"):
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(statement.encode())
        three_lines(everindex("status", cwd=place, DATABASE_URL=url_of(empty)), "nothing-declared", status=3)


def test_advised_commands_repeat_the_declaration(foreign: str, place: Path) -> None:
    other = (JSON % "embedding").replace("items_idx", "it's")
    (place / "an other.json").write_text(other, encoding="utf-8")
    done = on(foreign, place, "status", "--declared", "an other.json")
    assert "everindex heal --declared 'an other.json'" in done.stdout
