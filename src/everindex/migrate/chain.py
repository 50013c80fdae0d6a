"""The revision files of everindex, from the repository's `alembic/` or the copy in the wheel; rejected unless linear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from everindex.errors import ChainBroken
from everindex.migrate.revision_files import only_head, revisions

# Alembic and SQLAlchemy take most of a second to load, and few commands need them, so they are imported where they are used.
if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

#: The revision before the vector index: a first load happens here, so that the index is built once on all rows.
BEFORE_INDEX = "b6a5ff4214f5"


def chain_ini() -> Path:
    """The `alembic.ini` of the migrations. Raises ChainBroken when the installation has none."""
    package = Path(__file__).parent.parent
    for ini in (package / "_chain" / "alembic.ini", package.parent.parent / "alembic.ini"):
        if ini.is_file():
            return ini
    raise ChainBroken(
        "the revision files of everindex are missing.",
        why="neither the package nor the repository around it has an alembic.ini.",
        next_step="install everindex again (pip install --force-reinstall everindex).",
    )


def chain_config() -> Config:
    """Alembic's configuration of the migrations, for its commands."""
    from alembic.config import Config

    return Config(str(chain_ini()))


def script_directory(config: Config | None = None) -> ScriptDirectory:
    """The loaded migrations. Raises ChainBroken unless they form one line with one head and every file can be read."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    try:
        scripts = ScriptDirectory.from_config(config or chain_config())
        heads = scripts.get_heads()
    except (CommandError, SyntaxError, KeyError, ImportError) as exc:
        raise _broken(str(exc)) from exc
    if len(heads) != 1:
        raise _broken(f"it has {len(heads)} heads: {', '.join(sorted(heads)) or 'none'}")
    return scripts


def head_revision() -> str:
    """The revision that a database must be at. Raises ChainBroken as `script_directory` does."""
    return only_head(chain_ini().parent / "alembic" / "versions") or script_directory().get_heads()[0]


def known_revisions() -> frozenset[str]:
    """All revisions of the migrations. Raises ChainBroken when their files are missing."""
    return revisions(chain_ini().parent / "alembic" / "versions")


def _broken(why: str) -> ChainBroken:
    return ChainBroken(
        "the migration history is broken.",
        why=f"{why.strip().splitlines()[0] if why.strip() else 'a revision file cannot be loaded'}.",
        next_step="compare alembic/versions/ with the release (git status alembic/), or install everindex again; "
        "the database was not changed.",
    )
