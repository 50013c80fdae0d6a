"""docs/attaching.md is run: on a database of an application with its own migrations, and in that application's own tree."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import psycopg
from pgvector.sqlalchemy import Vector
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import MetaData, create_engine

from application import LATER, make_application, snapshot
from executed_page import blocks, compare, printed, script
from repository import REPOSITORY
from shipping import Shell

PAGE = REPOSITORY / "docs" / "attaching.md"
assert Vector  # reflection knows the type once it is imported
NEXT = "77aa10c4f3de"
REVISION = """
from alembic import op
revision, down_revision = {revision!r}, {before!r}
def upgrade():
    {upgrade}
def downgrade():
    pass
"""
MODELS = """
import pickle
from pathlib import Path
from pgvector.sqlalchemy import Vector
metadata = pickle.loads(Path("models.pickle").read_bytes())
"""


def write_application(tree: Path, conninfo: str) -> None:
    """The application's own tree: its chain up to a revision that the database does not have yet, and its models."""
    versions = tree / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tree / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = %(here)s\npath_separator = os\n"
    )
    for revision, before, upgrade in (
        (LATER, None, "pass"),
        (NEXT, LATER, 'op.execute("COMMENT ON TABLE application_0 IS NULL")'),
    ):
        (versions / f"{revision}.py").write_text(REVISION.format(revision=revision, before=before, upgrade=upgrade))
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo))
    metadata = MetaData()
    metadata.reflect(engine)
    engine.dispose()
    metadata.remove(metadata.tables["alembic_version"])
    (tree / "models.pickle").write_bytes(pickle.dumps(metadata))
    (tree / "models.py").write_text(MODELS)


def test_every_block_says_what_it_is() -> None:
    languages = {(block.language, block.words[0].split("=")[0] if block.words else "") for block in blocks(PAGE)}
    assert languages <= {("bash", ""), ("bash", "no-run"), ("python", "file"), ("text", "expected")}


def test_the_page_works_and_shows_what_it_says(empty: str, tmp_path: Path, warm_shell: Shell) -> None:
    make_application(empty, revision=LATER)
    before = snapshot(empty)
    for name in ("alembic.ini", "alembic"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    write_application(tmp_path / "application", empty)
    shell = warm_shell
    server = {name: str(value) for name, value in conninfo_to_dict(empty).items()}
    shell.environment["APPLICATION_URL"] = (
        f"postgresql+psycopg://{server['user']}@/{server['dbname']}?host={server['host']}&port={server['port']}"
    )
    output = printed(shell, script(PAGE), cwd=tmp_path)
    assert compare(PAGE, output) >= 12
    own_chain = [row for row in before if row[0] != "revision"]
    assert [row for row in snapshot(empty) if row[0] != "revision"] == own_chain


def test_the_setting_attaches_the_container_and_leaves_the_revision(empty: str, warm_shell: Shell) -> None:
    make_application(empty, revision=LATER, rows=20)
    shell = warm_shell
    entrypoint = REPOSITORY / "docker-entrypoint.sh"
    without = shell.run("sh", entrypoint, "echo", "serving")
    assert without.returncode == 1
    assert "everindex attach" in without.stderr
    for _ in range(2):
        said = shell.succeed("sh", entrypoint, "echo", "serving", env={"EVERINDEX_ATTACHED": "true"})
        assert said.splitlines()[-1] == "serving"
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(LATER,)]
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass"
        )
        assert row.fetchone() == (True,)
    # It is recorded as well: a process without the setting follows.
    assert "attached" in shell.succeed("everindex", "migrate", "--current")
    sql = shell.run("everindex", "migrate", "--sql")
    assert (sql.returncode, sql.stdout) == (1, "")
    assert sql.stderr.startswith("database-attached: ")


def test_sql_of_the_chain_is_refused_with_the_setting(lone_shell: Shell) -> None:
    done = lone_shell.run("everindex", "migrate", "--sql", env={"EVERINDEX_ATTACHED": "true"})
    assert done.returncode == 1
    assert done.stderr.startswith("database-attached: ")
