"""The start of a container, run for real: migrate, then become the command, or end."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from repository import REPOSITORY
from shipping import HEAD, Shell, is_told_in_three_lines

ENTRYPOINT = REPOSITORY / "docker-entrypoint.sh"
GUIDE = """\
echo "Running database migrations..."
if ! alembic upgrade head; then
  echo "❌ ERROR: Database migrations FAILED!"
  exit 1
fi
echo "✅ Database migrations completed successfully"
"""


def revision(conninfo: str) -> str | None:
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
        if found == (None,):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def test_lines_79_to_87_are_the_guides() -> None:
    lines = ENTRYPOINT.read_text(encoding="utf-8").splitlines(keepends=True)
    assert "".join(lines[78:84]) == GUIDE
    assert GUIDE in "".join(lines[78:87])


def test_the_container_migrates_and_then_becomes_its_command(shell: Shell, empty: str, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("relative files keep their meaning")
    with subprocess.Popen(
        ["sh", ENTRYPOINT, "sh", "-c", "echo pid $$; cat here"],
        cwd=tmp_path,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        said, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert said.splitlines() == [
        "Running database migrations...",
        "✅ Database migrations completed successfully",
        f"pid {process.pid}",
        "relative files keep their meaning",
    ]
    assert revision(empty) == HEAD


def test_a_second_start_changes_nothing_and_the_commands_status_is_the_containers(
    migrated: str, warm_path: str
) -> None:
    done = Shell(migrated).run("sh", ENTRYPOINT, "sh", "-c", "exit 7", env={"PATH": warm_path})
    assert done.returncode == 7
    assert "Running upgrade" not in done.stderr


@pytest.mark.parametrize(
    ("env", "slug"),
    [
        ({"DB_NAME": "nowhere"}, "database-missing"),
        ({"DB_USER": "nobody_here"}, "credentials-refused"),
        ({"DB_HOST": "127.0.0.1", "DB_PORT": "1", "EVERINDEX_WAIT": "1"}, "server-unreachable"),
        ({"DB_PORT": "many"}, "setting-invalid"),
    ],
)
def test_a_container_that_cannot_migrate_says_why_in_three_lines_and_does_not_serve(
    warm_shell: Shell, env: dict[str, str], slug: str
) -> None:
    done = warm_shell.run("sh", ENTRYPOINT, "echo", "serving", env=env)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["Running database migrations...", "❌ ERROR: Database migrations FAILED!"]
    assert is_told_in_three_lines(done.stderr, slug), done.stderr


def test_migrate_only_ends_after_the_migration(warm_shell: Shell, empty: str) -> None:
    assert warm_shell.succeed("sh", ENTRYPOINT, "migrate-only").endswith("completed successfully\n")
    assert revision(empty) == HEAD


def test_with_auto_migrate_0_the_command_starts_at_once(warm_shell: Shell, empty: str) -> None:
    assert warm_shell.succeed("sh", ENTRYPOINT, "echo", "serving", env={"AUTO_MIGRATE": "0"}) == "serving\n"
    assert revision(empty) is None


def test_commands_that_only_read_do_not_migrate(warm_shell: Shell, empty: str) -> None:
    assert warm_shell.succeed("sh", ENTRYPOINT, "migrate", "--current") == "no revision: not migrated\n"
    assert warm_shell.succeed("sh", ENTRYPOINT, "--version").startswith("everindex ")
    assert revision(empty) is None


def test_every_command_of_the_command_line_is_one_of_the_container(warm_shell: Shell, empty: str) -> None:
    names = warm_shell.succeed("everindex", "--commands").split()
    assert {"measure", "article", "tune", "warm", "similar", "import", "serve"} <= set(names)
    for name in ("measure", "import", names[-1]):
        done = warm_shell.run("sh", ENTRYPOINT, name, "--help", env={"AUTO_MIGRATE": "0", "PORT": "0"})
        assert done.returncode == 0, (name, done.stderr)
        assert f"Usage: everindex {name}" in done.stdout
    assert revision(empty) is None


def test_what_is_no_command_of_everindex_is_a_program(warm_shell: Shell, empty: str) -> None:
    for name in ("serv", ".*"):
        assert warm_shell.run("sh", ENTRYPOINT, name, env={"AUTO_MIGRATE": "0"}).returncode == 127
    assert warm_shell.succeed("sh", ENTRYPOINT, "/bin/echo", "here", env={"AUTO_MIGRATE": "0"}) == "here\n"


def test_a_stop_during_the_migration_reaches_it(shell: Shell) -> None:
    with subprocess.Popen(
        ["sh", ENTRYPOINT, "echo", "serving"],
        cwd=REPOSITORY,
        env=shell.environment | {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "EVERINDEX_WAIT": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        assert "waiting for PostgreSQL" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "serving" not in said


@pytest.mark.parametrize("replicas", [3, pytest.param(8, marks=pytest.mark.long)])
def test_of_entrypoints_that_start_at_once_one_migrates_and_all_become_their_command(empty: str, replicas: int) -> None:
    environment = Shell(empty).environment
    started = [
        subprocess.Popen(
            ["sh", ENTRYPOINT, "echo", "ready"],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(replicas)
    ]
    ended = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0] * replicas, ended
    assert all(said.endswith("\nready\n") for said, _ in ended)
    assert sum("Running upgrade" in log for _, log in ended) == 1
    assert revision(empty) == HEAD
    with psycopg.connect(empty) as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row == (0,)
