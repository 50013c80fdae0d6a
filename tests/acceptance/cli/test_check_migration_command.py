"""`everindex check-migration` as a gate before other people's migrations: files, revisions, the catalog, formats, statuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from command_line import PASSWORD, Done, everindex, three_lines
from repository import REPOSITORY

INDEX = "articles_embedding_hnsw_idx"
REVISION = '''"""A revision."""
from alembic import op
revision, down_revision = {revision!r}, {down!r}
def upgrade():
    {body}
def downgrade():
    pass
'''


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The example of the kit, to which revisions can be added."""
    tree = tmp_path / "application"
    shutil.copytree(REPOSITORY / "examples" / "alembic_kit", tree, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def revision(tree: Path, number: int, body: str) -> Path:
    path = tree / "migrations" / "versions" / f"{number:04}_next.py"
    head = "0001" if number == 2 else f"{number - 1:04}"
    path.write_text(REVISION.format(revision=f"{number:04}", down=head, body=body))
    return path


def first(tree: Path) -> Path:
    return tree / "migrations" / "versions" / "0001_documents.py"


def test_a_blocking_build_fails_the_gate_and_an_online_one_passes(tmp_path: Path) -> None:
    text = "CREATE INDEX i ON documents USING hnsw (embedding vector_cosine_ops);"
    done = everindex("check-migration", "-", stdin=text)
    assert done.status == 3
    assert done.stdout.startswith("✗ stdin:1: blocking-vector-index-build: this builds vector index i blocking")
    file = tmp_path / "0002.sql"
    file.write_text(text.replace("INDEX i", "INDEX CONCURRENTLY i"))
    done = everindex("check-migration", str(file))
    assert (done.status, done.stdout) == (0, "1 statement in 1 migration: 0 findings\n")


def test_the_revisions_of_the_kit_pass_and_a_drop_after_them_is_known_without_a_database(application: Path) -> None:
    dropping = revision(application, 2, 'op.drop_index("documents_embedding_idx", table_name="documents")')
    done = everindex("check-migration", "--json", str(first(application)), str(dropping))
    assert done.status == 3
    rules = [(finding["rule"], finding["source"]) for finding in done.json["findings"]]
    assert rules == [("blocking-vector-index-drop", str(dropping)), ("drops-serving-index", str(dropping))]
    assert all(finding["line"] is None for finding in done.json["findings"])  # the SQL has no line in the revision
    assert everindex("check-migration", str(first(application))).status == 0


def test_a_revision_that_needs_a_database_is_told_without_what_its_env_says(application: Path) -> None:
    revision(application, 2, f'raise RuntimeError("postgresql://me:{PASSWORD}@host/db")')
    third = revision(application, 3, 'op.execute("DROP INDEX CONCURRENTLY documents_embedding_idx")')
    done = everindex("check-migration", str(third))
    assert (done.status, done.stdout) == (2, "")
    three_lines(done, "migration-unreadable", status=2)
    assert "it ended with status 1 (RuntimeError)." in done.stderr
    done = everindex("check-migration", str(third), "--since", "0002")
    assert done.status == 3
    assert "concurrently-in-transaction" in done.stdout
    assert "unknown-index" in done.stdout


def test_a_python_file_that_is_no_revision_and_a_file_that_is_missing_are_told(
    application: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text("")
    three_lines(everindex("check-migration", str(other)), "migration-unreadable", status=2)
    done = everindex("check-migration", str(application / "models.py"))
    assert "is not a revision of" in done.stderr
    for name in ("missing.sql", "missing.py"):
        done = everindex("check-migration", str(tmp_path / name))
        assert (done.status, done.stderr.split(":")[0]) == (2, "source-unreadable")
    assert everindex("check-migration", "-", "--allow", "everything", stdin="").status == 2


def test_the_catalog_tells_which_index_serves_and_how_many_rows_would_wait(on_articles: Callable[..., Done]) -> None:
    text = f"DROP INDEX CONCURRENTLY {INDEX}; ALTER TABLE articles ALTER embedding TYPE halfvec(256); DROP INDEX other;"
    done = on_articles("check-migration", "--database", "--json", "-", stdin=text)
    assert done.status == 3
    assert [finding["rule"] for finding in done.json["findings"]] == ["drops-serving-index", "retypes-vector-column"]
    assert "searches of articles (1500 rows) by embedding" in done.json["findings"][0]["what"].replace("public.", "")
    replaced = (
        "CREATE INDEX CONCURRENTLY successor ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 24);"
        f"DROP INDEX CONCURRENTLY {INDEX}"
    )
    assert on_articles("check-migration", "--database", "-", stdin=replaced).status == 0


@pytest.mark.parametrize("command", ["check", "verify", "plan", "check-migration"])
def test_every_format_has_what_is_wrong_and_keeps_the_status(on_articles: Callable[..., Done], command: str) -> None:
    arguments, stdin, status = {
        "check": (["-"], "-- name: bad\nSELECT uri FROM articles ORDER BY embedding <=> $1 DESC LIMIT 3", 3),
        "verify": (["--samples", "5", "--recall", "0.5"], None, 0),
        "plan": (["--no-trial"], None, 0),
        "check-migration": (["-"], f"DROP TABLE a; BEGIN; DROP INDEX CONCURRENTLY {INDEX}", 3),
    }[command]
    github, sarif, junit = (
        on_articles(command, *arguments, "--output", output, stdin=stdin) for output in ("github", "sarif", "junit")
    )
    assert github.status == sarif.status == junit.status == status
    results = sarif.json["runs"][0]["results"]
    annotations = [line for line in github.stdout.splitlines() if line.startswith("::")]
    assert len(results) == len(annotations)
    suite = ElementTree.fromstring(junit.stdout)[0]
    assert suite.get("name") == f"everindex {command}"
    assert len(suite) >= 1
    assert (suite.get("failures") != "0") is (github.status == 3)
    if status == 3:
        assert results[0]["level"] == "error"


def test_an_error_of_the_command_itself_is_shown_in_the_format_too() -> None:
    for output, sign in (("github", "::error title=server-unreachable"), ("sarif", '"ruleId": "server-unreachable"'),
                         ("junit", '<failure type="server-unreachable"')):  # fmt: skip
        done = everindex("verify", "--output", output, DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/db")
        assert done.status == 1
        assert sign in done.stdout
        assert done.stderr.startswith("server-unreachable: ")
    done = everindex("check", "--output", "junit", "--json", "SELECT 1")
    assert (done.status, done.stderr.split(":")[0]) == (2, "bad-input")
