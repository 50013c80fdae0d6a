"""`everindex migrate`: wait for the server, then the migrations; the same path as `alembic upgrade head`."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.cli.output import JsonOption, print_json, reporter, say, tell
from everindex.cli.waiting import LongWaitOption, connect_patiently, seconds_to_wait
from everindex.errors import CredentialsRefused, DatabaseMissing, ServerUnreachable, UsageError
from everindex.migrate import runner
from everindex.migrate.attach import no_chain_here
from everindex.migrate.standing import require_known
from everindex.pg import address
from everindex.settings import Settings, read_settings


def migrate(
    revision: Annotated[str, typer.Argument(help="Target revision; with --down: -1, a revision id or base.")] = "head",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for psql instead of running it.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Downgrade to REVISION (default -1).")] = False,
    current: Annotated[bool, typer.Option("--current", help="Print the current revision of the database.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Print the history of migrations.")] = False,
    wait: LongWaitOption = None,
    as_json: JsonOption = False,
) -> None:
    if sum((sql, current, history)) > 1:
        raise _several_questions()
    settings = read_settings()
    if down and revision == "head":
        revision = "-1"
    if history:
        _print_history(as_json)
        return
    if sql:
        start, note = (None, "") if ":" in revision else _revision_there(settings, wait)
        script = runner.offline_sql(revision if start is None else f"{start}:{revision}", down=down)
        if as_json:
            print_json({"sql": script, "note": note or None})
            return
        if note:
            tell(note)
        say(script.rstrip("\n"))
        return
    wait_seconds = seconds_to_wait(settings, wait, deploys=True)
    with address.server(settings) as conninfo:
        connect_patiently(conninfo, settings, wait, deploys=not current).close()
        if not current:
            with reporter() as reporting:
                if down:
                    runner.downgrade(conninfo, revision, wait_seconds=wait_seconds, reporter=reporting)
                else:
                    runner.upgrade(conninfo, revision, wait_seconds=wait_seconds, reporter=reporting)
        state = runner.state(conninfo, wait_seconds=wait_seconds)
    if as_json:
        print_json(
            {
                "current": state.current,
                "head": state.head,
                "is_head": state.is_head,
                "attached": state.is_attached,
            }
        )
    else:
        say(state.words)


def _revision_there(settings: Settings, wait: float | None) -> tuple[str | None, str]:
    """The revision at which the SQL must begin (the database's, if its server is configured and responds), and a
    sentence about it."""
    of_empty = (
        "The SQL is for an empty database; on an existing instance it would fail. For an existing instance set "
        "DATABASE_URL, so that the SQL begins at its revision, or pass FROM:TO as REVISION."
    )
    if settings.uses_embedded_server:
        return None, f"No server is configured. {of_empty}"
    try:
        with address.server(settings) as conninfo:
            state = runner.state(conninfo, wait_seconds=wait or 0.0)
    except (ServerUnreachable, CredentialsRefused, DatabaseMissing) as exc:
        return None, f"{exc.what[0].upper()}{exc.what[1:]} {of_empty}"
    if state.is_attached:
        raise no_chain_here("SQL of everindex's migrations")
    require_known(state)
    found = state.current
    if not found:
        return None, "The database has no revision yet: the SQL begins with the first one."
    return found[0], f"The database is at revision {found[0]}: the SQL begins there."


def _print_history(as_json: bool) -> None:
    rows = runner.history()
    if as_json:
        print_json(
            [{"revision": revision, "down_revision": before, "title": title} for revision, before, title in rows]
        )
        return
    head = rows[0][0]
    for revision, before, title in rows:
        say(f"{before or '<base>'} -> {revision}{' (head)' if revision == head else ''}, {title}")


def _several_questions() -> UsageError:
    return UsageError(
        "--sql, --current and --history cannot be used together.",
        why="each of them prints something different.",
        next_step="choose one of them.",
    )
