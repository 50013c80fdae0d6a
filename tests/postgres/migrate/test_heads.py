"""The single-head gate, and the example application with its chain."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import CommandLine

import warm
from everindex.alembic_kit.heads import main, require_single_head
from everindex.errors import ChainBroken
from kit_scene import Application, url_of
from repository import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "alembic_kit"


@pytest.fixture
def forked(tmp_path: Path, empty: str) -> Application:
    """A chain of which two branches were merged that each added a revision."""
    app = Application(tmp_path, empty)
    app.revision("a0", None, up="pass")
    app.revision("b1", "a0", up="pass")
    app.revision("b2", "a0", up="pass")
    return app


def test_one_head_is_returned_and_a_chain_without_revisions_has_none(tmp_path: Path) -> None:
    app = Application(tmp_path, "")
    assert require_single_head(_config(app)) is None
    app.revision("a0", None, up="pass")
    app.revision("a1", "a0", up="pass")
    assert require_single_head(_config(app)) == "a1"


def test_two_heads_are_named_with_the_command_that_merges_them(forked: Application) -> None:
    with pytest.raises(ChainBroken) as refused:
        forked.upgrade()
    assert refused.value.what == "the migration history has 2 heads: b1, b2."
    assert "follow a0" in refused.value.why
    assert 'alembic merge -m "merge heads" b1 b2' in refused.value.next_step
    assert forked.rows("SELECT to_regclass('alembic_version')") == [(None,)]
    command.merge(forked.config(), ["b1", "b2"], message="merge heads")
    forked.upgrade()
    assert forked.head() is not None


def test_even_upgrade_heads_and_a_script_are_refused(forked: Application) -> None:
    for run in (lambda: forked.upgrade("heads"), lambda: forked.sql("heads")):
        with pytest.raises(ChainBroken, match="2 heads"):
            run()


@pytest.mark.parametrize("arguments", [["current"], ["merge", "-m", "merged", "b1", "b2"]])
def test_what_looks_and_what_mends_is_let_through(forked: Application, arguments: list[str]) -> None:
    config = forked.config()
    config.set_main_option("revision_environment", "true")
    config.cmd_opts = CommandLine().parser.parse_args(arguments)
    assert require_single_head(config) == "b1"


def test_a_revision_that_cannot_be_read_is_told(forked: Application) -> None:
    (forked.versions / "b2.py").write_text("revision = 'b2'\ndown_revision = 'gone'\n", encoding="utf-8")
    with pytest.raises(ChainBroken, match="cannot be read"), pytest.warns(UserWarning, match="gone"):
        require_single_head(_config(forked))


def test_the_gate_is_a_command_too(forked: Application, capsys: pytest.CaptureFixture[str]) -> None:
    ini = forked.place / "alembic.ini"
    assert main([str(ini)]) == 1
    assert "there is no" in capsys.readouterr().err
    ini.write_text(f"[alembic]\nscript_location = {forked.place}/migrations\npath_separator = os\n", encoding="utf-8")
    assert main([str(ini)]) == 1
    assert capsys.readouterr().err.startswith("chain-broken: the migration history has 2 heads: b1, b2.\n  why:")
    (forked.versions / "b2.py").unlink()
    assert main([str(ini)]) == 0
    assert capsys.readouterr().out == "b1\n"


def _config(app: Application) -> object:
    app.conninfo = "dbname=nowhere"
    return app.config()


# --- the example -----------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example, as a user would take it."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("__pycache__")))


def alembic(place: Path, conninfo: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = url_of(conninfo).render_as_string(hide_password=False)
    return warm.run(
        ["-m", "alembic", *arguments],
        cwd=place,
        env={**os.environ, "DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_the_example_migrates_has_nothing_left_to_do_and_goes_back(example: Path, empty: str) -> None:
    up = alembic(example, empty, "upgrade", "head")
    assert up.returncode == 0, up.stderr
    check = alembic(example, empty, "check")
    assert (check.returncode, check.stdout) == (0, "No new upgrade operations detected.\n"), check.stderr
    script = alembic(example, empty, "upgrade", "head", "--sql")
    assert script.stdout.startswith("\\set ON_ERROR_STOP on\n")
    assert 'CREATE INDEX CONCURRENTLY IF NOT EXISTS "documents_embedding_idx"' in script.stdout
    assert '("embedding"::halfvec(64)) halfvec_cosine_ops' in script.stdout
    assert alembic(example, empty, "downgrade", "base").returncode == 0


def test_the_example_tells_an_error_in_three_lines(example: Path, empty: str) -> None:
    (example / "migrations" / "versions" / "second.py").write_text(
        "revision = 'second'\ndown_revision = None\n", encoding="utf-8"
    )
    done = alembic(example, empty, "upgrade", "head")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["chain-broken", "  why", "  next"]


def test_the_example_s_revision_is_what_autogenerate_writes(example: Path, empty: str) -> None:
    (revision,) = (example / "migrations" / "versions").glob("*.py")
    written = operations_in(revision)
    revision.unlink()
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    done = alembic(example, empty, "revision", "--autogenerate", "--rev-id", "0001", "-m", "documents")
    assert done.returncode == 0, done.stderr
    (revision,) = (example / "migrations" / "versions").glob("*.py")
    assert operations_in(revision) == written


def operations_in(revision: Path) -> list[str]:
    """Every call of `op` in a revision file but the extension's, however it is laid out."""
    tree = ast.parse(revision.read_text(encoding="utf-8"))
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return [call for call in calls if call.startswith("op.") and "EXTENSION" not in call]


def test_the_page_of_the_kit_shows_the_example_as_it_is() -> None:
    page = (REPOSITORY / "docs" / "alembic-kit.md").read_text(encoding="utf-8")
    for name in ("models.py", "migrations/env.py", "alembic.ini"):
        assert (EXAMPLE / name).read_text(encoding="utf-8") in page, name
