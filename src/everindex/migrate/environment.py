"""The execution of a migration, called by `alembic/env.py`, so that all ways to migrate use the same code."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import psycopg
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from everindex.alembic_kit import implementations
from everindex.alembic_kit.report import reporter_for
from everindex.errors import EverindexError, MigrationFailed, PermissionDenied
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.migrate.application_chain import look_before_upgrade
from everindex.migrate.attach import (
    no_chain_here,
    record_attachment,
    require_attachable,
    require_of_an_application,
)
from everindex.migrate.chain import script_directory
from everindex.migrate.declared_indexes import keep_declared
from everindex.migrate.standing import read_standing, require_known
from everindex.pg import address, capabilities, own_schema
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection, WaitReport, connect, lift_time_limits
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import statement_error
from everindex.settings import current_settings

log = logging.getLogger(__name__)

#: Further work once the indexes exist, with a reporter for its sentences.
AtHead = Callable[[str, Reporter], None]

#: Alembic commands that only read; all others take the migration lock.
READING_COMMANDS = {"current", "history", "heads", "show", "branches", "check"}
#: How long short DDL of the revisions waits for its table lock; a waiting ACCESS EXCLUSIVE blocks all later statements.
DDL_LOCK_TIMEOUT = "10s"
#: How long to wait for another process that migrates the same database, whose index build may take hours.
LOCK_WAIT_SECONDS = 24 * 3600.0


def run_offline(context: Any, *, at_head: Callable[[], Sequence[str]] = lambda: ()) -> None:
    """Writes the SQL of the migrations (`--sql`), and after the head the statements of `at_head`; connects to nothing."""
    implementations.register()
    if current_settings().attached:
        raise no_chain_here("SQL of everindex's migrations")
    script_directory(context.config)  # nothing is written unless there is one line with one head
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True)
    try:
        # By default psql continues after an error; a script that builds and stamps must not.
        context.static_output("\\set ON_ERROR_STOP on")
        with context.begin_transaction():
            context.run_migrations()
        if _command(context.config) == "upgrade" and context.get_revision_argument() == context.get_head_revision():
            for statement in at_head():
                context.static_output(f"{statement};\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe (`alembic upgrade head --sql | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_online(
    context: Any,
    *,
    declared: Sequence[IndexSpec],
    at_head: AtHead = lambda conninfo, reporter: None,
) -> None:
    """Waits for the server, takes the lock, migrates, deploys the declared indexes, and at head does the further work.

    Errors are passed unchanged to a caller in Python; for the `alembic` command they are printed and the exit status is 1.
    """
    config: Config = context.config
    called_by_alembic = "everindex_conninfo" not in config.attributes
    if called_by_alembic and config.config_file_name is not None:
        logging.config.fileConfig(config.config_file_name, disable_existing_loggers=False)
    implementations.register()
    try:
        with ExitStack() as stack:
            conninfo = config.attributes.get("everindex_conninfo")
            if conninfo is None:
                conninfo = stack.enter_context(address.server(current_settings()))
            _run(context, str(conninfo), declared, at_head)
    except EverindexError as exc:
        if not called_by_alembic:
            raise
        print(exc, file=sys.stderr)
        sys.exit(1)


def _run(context: Any, conninfo: str, declared: Sequence[IndexSpec], at_head: AtHead) -> None:
    attributes = context.config.attributes
    wait_seconds = attributes.get("everindex_wait_seconds", current_settings().deployment_wait_seconds)
    on_wait = WaitReport(
        lambda text: log.warning("%s", text, extra={"event": "database-awaited"}), where=address.describe(conninfo)
    )
    with connect(conninfo, wait_seconds=wait_seconds, on_wait=on_wait) as connection:
        capabilities.require_postgres(capabilities.look(connection))
        is_attached = read_attachment(connection) is not None or attributes.get("everindex_attach", False)
        if not is_attached:
            require_known(read_standing(connection))
    if is_attached:
        _attached(context, conninfo, declared, at_head)
        return
    if _command(context.config) in READING_COMMANDS:
        _migrate(context, conninfo, is_reading=True)
        if _command(context.config) == "current" and "everindex_conninfo" not in attributes:
            _log_current(conninfo, context.config)
        return
    with _migration_lock(conninfo, attributes):
        with connect(conninfo) as connection:
            standing = read_standing(connection)
            require_known(standing)
            if _command(context.config) == "upgrade":
                look_before_upgrade(connection, standing)
        _migrate(context, conninfo)
        if _command(context.config) == "upgrade":
            _ensure_own_schema(conninfo)
            if _is_at_head(conninfo):
                keep_declared(attributes, conninfo, declared)
                with reporter_for(attributes) as reporter:
                    at_head(conninfo, reporter)


def _log_current(conninfo: str, config: Config) -> None:
    """Logs the revision's message, since `alembic current` prints only its id on stdout."""
    chain = script_directory(config)
    with connect(conninfo) as connection:
        for revision in read_standing(connection).current:
            script = chain.get_revision(revision)
            log.info(
                "%s%s, %s",
                revision,
                " (head)" if revision in chain.get_heads() else "",
                script.doc,
                extra={"event": "migration-applied"},
            )


def _migration_lock(conninfo: str, attributes: dict[str, Any]) -> AbstractContextManager[None]:
    return advisory_lock(
        conninfo,
        "migrate",
        wait_seconds=attributes.get("everindex_lock_wait_seconds", LOCK_WAIT_SECONDS),
        stop=attributes.get("everindex_stop"),
        on_wait=lambda holder: log.warning(
            "waiting: another process is migrating this database: %s", holder, extra={"event": "migration-awaited"}
        ),
    )


def _migrate(context: Any, conninfo: str, *, is_reading: bool = False) -> None:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(conninfo, application_name="everindex migrate", autocommit=False),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        driver: Connection = connection.connection.driver_connection  # type: ignore[assignment]
        driver.add_notice_handler(
            lambda diagnostic: log.info(
                "%s: %s", diagnostic.severity, diagnostic.message_primary, extra={"event": "server-notice"}
            )
        )
        driver.autocommit = True
        if not is_reading:
            lift_time_limits(driver, "idle_session_timeout")  # idle while the engine builds on a separate connection
            driver.execute("SELECT set_config('lock_timeout', %s, false)", (DDL_LOCK_TIMEOUT,))
        driver.autocommit = False
        context.configure(
            connection=connection,
            transaction_per_migration=True,
            everindex_conninfo=conninfo,
            everindex_reporter=context.config.attributes.get("everindex_reporter"),
            everindex_stop=context.config.attributes.get("everindex_stop"),
        )
        try:
            with context.begin_transaction():
                context.run_migrations()
        except Exception as exc:
            cause = getattr(exc, "orig", exc)  # SQLAlchemy wraps the driver's error
            if isinstance(cause, psycopg.Error):
                error = statement_error(cause, doing="a statement of a revision")
                raise MigrationFailed(
                    "the migration stopped in the middle; the revisions before the failing one are applied.",
                    why=error.why,
                    next_step=f"{error.next_step} `everindex migrate --current` shows where the database is.",
                ) from exc
            raise


def _ensure_own_schema(conninfo: str) -> None:
    """Creates our own schema if possible. It is optional: a role that may not create schemas can still migrate."""
    try:
        own_schema.ensure(conninfo)
    except PermissionDenied as exc:
        log.warning(
            "without schema everindex_meta the model of a vector is not recorded: %s",
            exc,
            extra={"event": "own-schema-missing"},
        )


def _is_at_head(conninfo: str) -> bool:
    with connect(conninfo) as connection:
        return read_standing(connection).kind == "head"


def _attached(context: Any, conninfo: str, declared: Sequence[IndexSpec], at_head: AtHead) -> None:
    """A migration of an attached database, which only covers the indexes. alembic_version is not read."""
    command, attributes = _command(context.config), context.config.attributes
    if command == "current":
        context.config.print_stdout("attached: the revision is that of the application's own migrations")
        return
    if command != "upgrade":
        raise no_chain_here(f"{command} of everindex's migrations")
    if context.get_revision_argument() != context.get_head_revision():
        raise no_chain_here("a migration of everindex's migrations to a revision")
    with connect(conninfo) as connection:
        if attributes.get("everindex_attach", False):
            require_of_an_application(connection)
        require_attachable(connection, declared)
    with _migration_lock(conninfo, attributes):
        record_attachment(conninfo, declared)
        keep_declared(attributes, conninfo, declared, is_attached=True)
        with reporter_for(attributes) as reporter:
            at_head(conninfo, reporter)


def _command(config: Config) -> str:
    given = config.attributes.get("everindex_command")
    if given is not None:
        return str(given)
    command = getattr(config.cmd_opts, "cmd", None)
    return command[0].__name__ if command else "upgrade"
