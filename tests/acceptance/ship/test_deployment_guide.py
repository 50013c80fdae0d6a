"""docs/deployment.md is run: every command and every statement of it, in order, in one shell, on a real server."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from everindex.pg.embedded.running import embedded_binaries
from executed_page import blocks, compare, printed, script
from repository import REPOSITORY
from shipping import PROGRAMS, Shell

GUIDE = REPOSITORY / "docs" / "deployment.md"


def test_every_block_says_what_it_is() -> None:
    assert {(block.language, block.words) for block in blocks(GUIDE)} <= {
        ("bash", ()), ("bash", ("no-run",)), ("sql", ()), ("sql", ("no-run",)), ("text", ("expected",))
    }  # fmt: skip


@pytest.fixture
def output(filled: str, tmp_path: Path) -> dict[int, str]:
    """{line of the block: what it printed}, after all have ended with status 0."""
    server = {name: str(value) for name, value in conninfo_to_dict(filled).items()}
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("alembic.ini", "run_migration.py"):
        shutil.copy(REPOSITORY / name, clone / name)
    shutil.copytree(REPOSITORY / "alembic", clone / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to(PROGRAMS)
    text = script(GUIDE)
    for name, value in {
        "host": server["host"],
        "database": server["dbname"],
        "user": server["user"],
        "password": "",
    }.items():
        text = text.replace(f"<{name}>", value)
    assert not re.search(r"<[a-z]+>", text), "a placeholder of the guide that the test does not know"
    shell = Shell()
    # The activated environment comes first; the client is that of the server.
    shell.environment["PATH"] = f"{embedded_binaries().bin_dir}:{shell.environment['PATH']}"
    shell.environment |= {"PGHOST": server["host"], "PGUSER": server["user"], "PGDATABASE": server["dbname"]}
    return printed(shell, text, cwd=clone)


def test_the_guide_works_and_shows_what_it_says(output: dict[int, str]) -> None:
    assert compare(GUIDE, output) >= 10
    assert len(output) >= 20


def test_the_guide_links_a_page_for_every_error_of_a_deployment() -> None:
    linked = set(re.findall(r"\(problems/([a-z-]+)\.md\)", GUIDE.read_text(encoding="utf-8")))
    assert linked >= {
        "server-unreachable", "server-host-unknown", "credentials-refused", "database-missing", "extension-unavailable",
        "extension-not-permitted", "extension-too-old", "postgres-too-old", "index-definition-differs", "build-failed",
        "lock-not-obtained", "migration-failed", "permission-denied", "column-mismatch", "server-read-only", "chain-broken",
        "revision-unknown", "revision-not-found", "not-migrated", "embedded-server-failed", "setting-invalid",
    }  # fmt: skip


def test_the_guide_shows_the_entrypoint_as_it_is() -> None:
    entrypoint = "".join(
        (REPOSITORY / "docker-entrypoint.sh").read_text(encoding="utf-8").splitlines(keepends=True)[78:84]
    )
    assert entrypoint in [block.text for block in blocks(GUIDE)]
