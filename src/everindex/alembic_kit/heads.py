"""The single-head check of a migration history, for an env.py, an entrypoint or CI. Connects to no database.

`python -m everindex.alembic_kit.heads [alembic.ini]` is the same check for a shell: exit status 1 unless there is one head.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from everindex.errors import ChainBroken

#: Commands that only read or repair the history; they run env.py too (the latter with revision_environment = true).
UNGATED_COMMANDS = {"merge", "heads", "branches", "history", "show", "current"}


def require_single_head(config: Config) -> str | None:
    """The one head of the migrations; None without revisions. Raises ChainBroken with all heads and the remedy.

    Reads revision files only. Two heads appear when two branches that each added a revision are merged: `upgrade head` then
    fails in the middle of a deployment, and `upgrade heads` runs them in an untested order.
    """
    scripts = ScriptDirectory.from_config(config)
    try:
        heads = sorted(scripts.get_heads())
    except (CommandError, SyntaxError, KeyError, ImportError) as exc:
        raise ChainBroken(
            "the migration history cannot be read.",
            why=f"{(str(exc).strip() or type(exc).__name__).splitlines()[0]}.",
            next_step=f"repair the revision file in {scripts.dir}; no database was changed.",
        ) from exc
    if len(heads) > 1 and _command(config) not in UNGATED_COMMANDS:
        after = sorted({parent for head in heads for parent in _parents(scripts, head)})
        raise ChainBroken(
            f"the migration history has {len(heads)} heads: {', '.join(heads)}.",
            why=f"these revisions follow {' and '.join(after) or 'nothing'}, but none of them follows the others.",
            next_step=f'run  alembic merge -m "merge heads" {" ".join(heads)}  and commit the file, or give one of them '
            "another down_revision; no database was changed.",
        )
    return heads[0] if heads else None


def main(arguments: Sequence[str]) -> int:
    """The check as a command: prints the head, or the three lines of the error, and returns the exit status."""
    ini = Path(arguments[0]) if arguments else Path("alembic.ini")
    try:
        if not ini.is_file():
            raise ChainBroken(
                f"there is no {ini} here.",
                why="the check reads the migrations of an alembic.ini.",
                next_step="run it in the directory of alembic.ini, or name the file: python -m everindex.alembic_kit.heads PATH.",
            )
        head = require_single_head(Config(str(ini)))
    except ChainBroken as exc:
        print(exc, file=sys.stderr)
        return exc.exit_status
    except CommandError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(head or "no revisions yet")
    return 0


def _parents(scripts: ScriptDirectory, revision: str) -> tuple[str, ...]:
    down = scripts.get_revision(revision).down_revision
    return () if down is None else (down,) if isinstance(down, str) else tuple(down)


def _command(config: Config) -> str | None:
    command = getattr(config.cmd_opts, "cmd", None)
    return command[0].__name__ if command else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
