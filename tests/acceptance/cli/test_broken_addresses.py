"""Every command refuses an address that does not mean what its text says, and shows nothing of it."""

from __future__ import annotations

import pytest

import warm
from command_line import environment, everindex, three_lines
from repository import REPOSITORY

PASSWORD = "Qx/Zj@9Kw#Vb%"
ADDRESS = f"postgresql://app:{PASSWORD}@db.example:5432/articles"
PIECES = {PASSWORD[at : at + 3] for at in range(len(PASSWORD) - 2)}


def check_nothing_shown(*texts: str) -> None:
    for text in texts:
        assert not [piece for piece in PIECES if piece in text], text
        assert "db.example" not in text


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "search x",
        "migrate",
        "doctor",
        "verify --json",
        "import -",
        "keep --once",
        "serve",
        "deploy",
        "up --port 0",
    ],
)
def test_no_command_shows_a_part_of_a_broken_address(command: str) -> None:
    done = everindex(*command.split(), stdin="", DATABASE_URL=ADDRESS)
    three_lines(done, "setting-invalid", status=2)
    assert "DATABASE_URL is not a PostgreSQL address" in done.stderr
    check_nothing_shown(done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["DATABASE_URL_DIRECT", "DATABASE_URL_READ"])
def test_nor_of_the_other_ways_to_the_server(name: str) -> None:
    done = everindex("status", **{"DATABASE_URL": "postgresql://localhost:1/x", name: ADDRESS})
    three_lines(done, "setting-invalid", status=2)
    assert f"{name} is not" in done.stderr
    check_nothing_shown(done.stdout, done.stderr)


def test_with_debug_the_traceback_shows_nothing_of_it() -> None:
    done = warm.run(["everindex", "status", "--debug"], env=environment({"DATABASE_URL": ADDRESS}))
    assert "Traceback" in done.stderr
    check_nothing_shown(done.stdout, done.stderr)


def test_alembic_shows_nothing_of_it_and_says_what_to_remove() -> None:
    done = warm.run(
        ["-m", "alembic.__main__", "current"],
        env=environment({"DATABASE_URL": ADDRESS, "DB_HOST": "localhost"}),
        cwd=REPOSITORY,
    )
    assert done.returncode == 1
    assert "next: remove DATABASE_URL: DB_HOST" in done.stderr
    check_nothing_shown(done.stdout, done.stderr)
