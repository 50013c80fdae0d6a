"""Commands run as a person or a container runs them, and what a told error looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

import warm
from repository import REPOSITORY

HEAD = "e0aa2eb4fa0a"
#: Where the programs of this environment lie; not resolved, since the python of a virtual environment is a link.
PROGRAMS = Path(sys.executable).parent
#: The programs of this environment that need no interpreter of their own (warm.py), and how they are called there.
WARM = {"everindex": ["everindex"], "alembic": ["-m", "alembic"]}


class Shell:
    """Runs commands of this environment against one database, with nothing else from our environment."""

    def __init__(self, conninfo: str | None = None) -> None:
        kept = ("HOME", "LANG", "TMPDIR", "EVERINDEX_HOME")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment["PATH"] = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        if conninfo is not None:
            server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
            self.environment |= {
                "DB_HOST": server["host"],
                "DB_PORT": server["port"],
                "DB_NAME": server["dbname"],
                "DB_USER": server["user"],
            }

    def run(
        self, *command: str | Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end. `everindex` and `alembic` are forked with everything loaded; as paths they are started."""
        words = [str(word) for word in command]
        environment = self.environment | (env or {})
        if words[0] in WARM:
            return warm.run(WARM[words[0]] + words[1:], cwd=cwd, env=environment, input=stdin.encode(), timeout=300)
        return subprocess.run(
            words,
            cwd=cwd,
            env=environment,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )

    def succeed(
        self, *command: str | Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None, stdin: str = ""
    ) -> str:
        """The standard output of a command that has to end with status 0."""
        done = self.run(*command, cwd=cwd, env=env, stdin=stdin)
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def is_told_in_three_lines(text: str, slug: str) -> bool:
    """True when `text` ends with an error of that slug (what, why, next), and no traceback is in it."""
    what, why, next_step = ([""] * 3 + text.rstrip().splitlines())[-3:]
    return (
        what.startswith(f"{slug}: ")
        and why.startswith("  why:  ")
        and next_step.startswith("  next: ")
        and "Traceback" not in text
    )


def executable(file: Path, text: str) -> Path:
    """A script in place of a program."""
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return file
