"""docs/deployment.md is run: every command and every statement of it, in order, in one shell, on a real server."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from shipping import PROGRAMS, REPOSITORY, Shell

from everindex.pg.embedded import embedded_binaries

GUIDE = REPOSITORY / "docs" / "deployment.md"
MARK = "@@ block of line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the words after it, its text, and the line where it begins."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int


def blocks() -> list[Block]:
    text = GUIDE.read_text(encoding="utf-8")
    return [
        Block(
            language=found[1],
            words=tuple(found[2].split()),
            text=found[3],
            line=text.count("\n", 0, found.start()) + 1,
        )
        for found in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def script() -> str:
    """The blocks as one bash script: statements go to psql, and a mark before each block tells its output apart."""
    parts = ["set -euo pipefail", "exec </dev/null"]
    for block in blocks():
        if "no-run" in block.words or block.language == "text":
            continue
        parts.append(f"echo '{MARK} {block.line}'")
        if block.language == "sql":
            parts.append(f"psql -v ON_ERROR_STOP=1 -P pager=off <<'SQL'\n{block.text}SQL")
        else:
            parts.append(block.text)
    return "\n".join(parts)


def plain(line: str) -> str:
    return " ".join(line.split())


def is_shown(expected: str, output: str) -> bool:
    """True when a line of the output contains the expected one; `...` stands for anything, runs of blanks for one."""
    pattern = ".*".join(re.escape(part.strip()) for part in plain(expected).split("..."))
    return any(re.search(pattern, plain(line)) for line in output.splitlines())


def test_every_block_says_what_it_is() -> None:
    assert {(block.language, block.words) for block in blocks()} <= {
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
    text = script()
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
    done = shell.run("bash", "-c", text, cwd=clone)
    last = done.stdout.rpartition(MARK)[2]
    assert done.returncode == 0, f"the block of line {last}\n{done.stderr[-3000:]}"
    said: dict[int, str] = {}
    for part in done.stdout.split(MARK)[1:]:
        line, _, rest = part.partition("\n")
        said[int(line)] = rest
    return said


def test_the_guide_works_and_shows_what_it_says(output: dict[int, str]) -> None:
    run = None
    compared = 0
    for block in blocks():
        if block.words == ("expected",):
            assert run is not None
            for line in block.text.splitlines():
                assert is_shown(line, output[run]), f"line {block.line}: {line!r} is not in {output[run]!r}"
                compared += 1
        elif "no-run" not in block.words:
            run = block.line
    assert compared >= 10
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
    assert entrypoint in [block.text for block in blocks()]
