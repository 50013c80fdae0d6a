"""Alembic's commands for everindex's own revisions, with everindex's errors."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from everindex.errors import ChainBroken, RevisionNotFound
from everindex.index.reporter import Reporter
from everindex.migrate.chain import chain_config, script_directory
from everindex.migrate.standing import Standing, read_standing
from everindex.pg.connections import connect

# As in `chain`, imported where it is used, so that other commands need not load it.
if TYPE_CHECKING:
    from alembic.config import Config


def attach(conninfo: str, *, wait_seconds: float = 60.0, reporter: Reporter | None = None) -> None:
    """Records that the database's application has its own migrations, and deploys the declared indexes; see `attach`.

    This is the same code path as an upgrade of an attached database.
    """
    from alembic import command

    config = _config(conninfo, "upgrade", wait_seconds=wait_seconds, reporter=reporter)
    config.attributes["everindex_attach"] = True
    with _alembic_errors_translated(config):
        command.upgrade(config, "head")


def upgrade(
    conninfo: str,
    revision: str = "head",
    *,
    wait_seconds: float = 60.0,
    reporter: Reporter | None = None,
    lock_wait_seconds: float | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Waits for the server, then applies the migrations up to `revision`; at head it also repairs the declared indexes.

    `lock_wait_seconds` limits the wait for another process that migrates the database (LockNotObtained); `stop` ends the wait, or
    the build of an index, as it ends a deploy.
    """
    from alembic import command

    config = _config(conninfo, "upgrade", wait_seconds=wait_seconds, reporter=reporter)
    config.attributes.update(everindex_stop=stop)
    if lock_wait_seconds is not None:
        config.attributes.update(everindex_lock_wait_seconds=lock_wait_seconds)
    with _alembic_errors_translated(config):
        command.upgrade(config, revision)


def downgrade(conninfo: str, revision: str, *, wait_seconds: float = 60.0, reporter: Reporter | None = None) -> None:
    """Migrates down to `revision` (`-1`, `base`, or an id)."""
    from alembic import command

    config = _config(conninfo, "downgrade", wait_seconds=wait_seconds, reporter=reporter)
    with _alembic_errors_translated(config):
        command.downgrade(config, revision)


def offline_sql(revision: str = "head", *, down: bool = False) -> str:
    """The SQL of the migrations as one script for psql; connects to nothing. Downgrades need a range `from:to`."""
    from alembic import command

    buffer = io.StringIO()
    config = chain_config()
    config.output_buffer = buffer
    with _alembic_errors_translated(config):
        if down:
            command.downgrade(config, revision, sql=True)
        else:
            command.upgrade(config, revision, sql=True)
    return buffer.getvalue()


def state(conninfo: str, *, wait_seconds: float = 0.0) -> Standing:
    """The state of the database relative to everindex's migrations. Reads only."""
    with connect(conninfo, wait_seconds=wait_seconds) as connection:
        return read_standing(connection)


def history() -> list[tuple[str, str | None, str]]:
    """The migrations from the head down: (revision, the previous one, its message)."""
    return [
        (script.revision, script.down_revision if isinstance(script.down_revision, str) else None, script.doc)
        for script in script_directory().walk_revisions()
    ]


def _config(conninfo: str, name: str, *, wait_seconds: float, reporter: Reporter | None) -> Config:
    script_directory()  # a broken migration history is reported before anything else
    config = chain_config()
    config.attributes.update(
        everindex_conninfo=conninfo,
        everindex_command=name,
        everindex_wait_seconds=wait_seconds,
        everindex_reporter=reporter,
    )
    return config


class _alembic_errors_translated:  # noqa: N801 reads as a word of the with statement
    """Inside the block, Alembic's CommandError is translated into one of ours."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        from alembic.util import CommandError

        if not isinstance(exc, CommandError):
            return
        text = str(exc).splitlines()[0]
        if "locate revision" in text or "revision identifier" in text or "Relative revision" in text:
            raise RevisionNotFound(
                "the migrations have no such revision.",
                why=f"{text}.",
                next_step="`everindex migrate --history` lists the revisions; nothing was changed.",
            ) from exc
        raise ChainBroken(
            "Alembic cannot use the migrations.",
            why=f"{text}.",
            next_step="nothing was changed; see `everindex migrate --history`.",
        ) from exc
