"""The SQL that an Alembic revision would run, made by Alembic itself in its offline mode, in a process of its own.

Contacts no database. The environment (env.py) and the revisions of the application run as `alembic upgrade --sql` runs them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from everindex.errors import MigrationUnreadable
from everindex.migration_check.review import MigrationText

TIME_LIMIT_SECONDS = 120.0


def is_revision(path: Path) -> bool:
    """Whether a file is Python: only Alembic's revisions are among migrations."""
    return path.suffix == ".py"


def revision_texts(path: Path, *, ini: Path | None, since: str) -> list[MigrationText]:
    """The SQL of one revision file, preceded by that of the revisions from `since` on, which is read for what they create.

    `ini` is the alembic.ini; without one it is looked for beside the file and above. Raises MigrationUnreadable.
    """
    ini = ini or _ini_above(path)
    scripts = _scripts(ini, path)
    found = next(
        (
            script
            for script in scripts.walk_revisions()
            if script.path and Path(script.path).resolve() == path.resolve()
        ),
        None,
    )
    if found is None:
        raise MigrationUnreadable(
            f"{path} is not a revision of {ini}.",
            why=f"its script_location is {scripts.dir}.",
            next_step="name the right one with --alembic-ini.",
        )
    down = found.down_revision
    if down is not None and not isinstance(down, str):
        return [MigrationText(source=str(path), text="", is_generated=True)]  # a merge runs no statement
    texts = []
    if down is not None and down != since:
        texts.append(MigrationText(source=f"{since}:{down}", text=_offline(ini, f"{since}:{down}"), is_reported=False))
    text = _offline(ini, f"{down or 'base'}:{found.revision}")
    return [*texts, MigrationText(source=str(path), text=text, is_generated=True)]


def _ini_above(path: Path) -> Path:
    for folder in path.resolve().parents:
        if (folder / "alembic.ini").is_file():
            return folder / "alembic.ini"
    raise MigrationUnreadable(
        f"there is no alembic.ini for {path}.",
        why="it was looked for in the folder of the revision and in all above it.",
        next_step="name it with --alembic-ini, or pass the SQL:  alembic upgrade A:B --sql | everindex check-migration - .",
    )


def _scripts(ini: Path, path: Path) -> ScriptDirectory:
    try:
        scripts = ScriptDirectory.from_config(Config(str(ini)))
        scripts.get_heads()
    except (CommandError, SyntaxError, KeyError, ImportError) as exc:
        raise MigrationUnreadable(
            f"the revisions of {ini} cannot be read.",
            why=f"{(str(exc).strip() or type(exc).__name__).splitlines()[0]}.",
            next_step=f"repair them, then check {path} again.",
        ) from exc
    return scripts


def _offline(ini: Path, revisions: str) -> str:
    command = [sys.executable, "-m", "alembic", "-c", str(ini.resolve()), "upgrade", revisions, "--sql"]
    try:
        done = subprocess.run(
            command, cwd=ini.resolve().parent, capture_output=True, encoding="utf-8", errors="replace", check=False,
            stdin=subprocess.DEVNULL, timeout=TIME_LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise MigrationUnreadable(
            f"alembic upgrade {revisions} --sql did not end within {TIME_LIMIT_SECONDS:.0f} s.",
            why="a revision or env.py waits for something, probably for a database.",
            next_step="make them work without a database, or check the SQL that you write yourself.",
        ) from exc
    if done.returncode != 0:
        raise MigrationUnreadable(
            f"alembic upgrade {revisions} --sql failed.",
            why=f"it ended with status {done.returncode}{_kind_of_error(done.stderr)}.",
            next_step="if an earlier revision needs a database, begin after it with --since REVISION; otherwise run the command "
            "by hand to see its message.",
        )
    return done.stdout


def _kind_of_error(output: str) -> str:
    """The type of the last exception; not its text, which may hold the address that an env.py connects to."""
    lines = [line for line in output.splitlines() if line.strip()]
    match = re.match(r"((?:\w+\.)*\w*(?:Error|Exception|Exit|Util|Interrupt))\b", lines[-1]) if lines else None
    return "" if match is None else f" ({match[1].rpartition('.')[2]})"
