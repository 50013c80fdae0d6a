"""`everindex fleet`: one operation over many databases, in waves, with one report."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.fleet_view import print_report, watching
from everindex.cli.output import JsonOption, print_json
from everindex.cli.stopped_by_signals import stopped_by_signals
from everindex.errors import UsageError
from everindex.fleet.report_files import require_suffix, write_report
from everindex.fleet.results import CHANGING, VERBS, FleetReport, Verb
from everindex.fleet.rollout import Pace, run, target_of_record
from everindex.fleet.rollout_state import RolloutState, state_path
from everindex.fleet.targets import Target, names_databases, query_targets, read_targets
from everindex.fleet.tenants import TENANT_INDEXES, TENANT_ROWS
from everindex.fleet.waves import error_budget
from everindex.fleet.work import Orders
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.pg.connections import Connection
from everindex.settings import Settings, read_settings


def fleet(
    verb: Annotated[
        str,
        typer.Argument(
            metavar="VERB",
            help="status, plan and verify read; migrate, deploy, heal and rollback change, in waves. Each does what the command "
            "of that name does for one database; deploy and heal end with a verification.",
        ),
    ],
    targets: Annotated[
        Path | None,
        typer.Option(
            "--targets", metavar="FILE", help="The targets, as CSV with a header or as TOML (EVERINDEX_TARGETS)."
        ),
    ] = None,
    targets_query: Annotated[
        str | None,
        typer.Option(
            "--targets-query", metavar="SQL", help="A query on the configured database whose rows are the targets."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Only this target; can be repeated.")
    ] = None,
    canary: Annotated[
        int,
        typer.Option(
            "--canary", help="Targets of the first wave, unless some are marked; none of them may fail.", min=0
        ),
    ] = 1,
    wave_size: Annotated[int, typer.Option("--wave-size", help="Targets of each wave after the canaries.", min=1)] = 25,
    max_failures: Annotated[
        str | None,
        typer.Option(
            "--max-failures", metavar="N|N%", help="Targets that may fail before the rollout stops (5%, at least 1)."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Targets at a time, over all servers.", min=1, max=64)] = 4,
    per_server: Annotated[
        int,
        typer.Option(
            "--per-server",
            help="Targets of one server at a time; of these, one is changed while others are verified.",
            min=1,
        ),
    ] = 4,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="FILE", help="The state of the rollout (FILE.VERB.state beside --targets FILE)."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of continuing an unfinished rollout.")
    ] = False,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            "--report", metavar="FILE", help="Also write a report: .json, .html, or .xml for JUnit; can be repeated."
        ),
    ] = None,
    declared: DeclaredOption = None,
    index: IndexOption = None,
    floor: Annotated[float | None, typer.Option("--recall", help="Minimum recall@10 (0.95).", min=0.0, max=1.0)] = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Queries of each recall measurement.", min=2, max=10_000)
    ] = 50,
    max_seconds: Annotated[
        float,
        typer.Option("--max-seconds", help="Seconds after which to stop measuring the recall of a target.", min=0.1),
    ] = 10.0,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="deploy, heal: measure the recall of each target afterwards.")
    ] = True,
    lock_wait: Annotated[
        float, typer.Option("--lock-wait", help="Seconds to wait for another process that works on a target.", min=0)
    ] = 60.0,
    give_up_after: Annotated[
        float | None,
        typer.Option("--give-up-after", help="Seconds after which a build is cancelled and cleaned up.", min=0),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(
            "--patience", help="Seconds that a build may wait for one transaction before it is cancelled.", min=0
        ),
    ] = 60.0,
    tenant_rows: Annotated[
        int, typer.Option("--tenant-rows", help="Rows from which a tenant of a column earns an index.", min=1)
    ] = TENANT_ROWS,
    max_tenant_indexes: Annotated[
        int, typer.Option("--max-tenant-indexes", help="Most such indexes of one table.", min=0)
    ] = TENANT_INDEXES,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for a server that is still starting.", min=0)
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    operation = _verb_of(verb)
    if operation == "migrate" and declared is not None:
        raise UsageError(
            "--declared and migrate cannot be combined.",
            why="it runs everindex's own migrations, and those databases belong to another application.",
            next_step="run  everindex fleet deploy --declared … , which builds its indexes.",
        )
    for path in report or ():
        require_suffix(path)
    orders = Orders(
        verb=operation, declared=partial(_declared, declared, index), is_ours=declared is None,
        floor=settings.recall_floor if floor is None else floor, is_floor_requested=floor is not None, samples=samples,
        max_seconds=max_seconds, verifies=verify, lock_wait_seconds=lock_wait, give_up_after_seconds=give_up_after,
        patience_seconds=patience, tenant_rows=tenant_rows, tenant_indexes=max_tenant_indexes,
    )  # fmt: skip
    stop = threading.Event()
    with _targets(settings, targets, targets_query, only) as found:
        pace = Pace(
            canaries=canary, wave_size=wave_size, budget=error_budget(len(found), max_failures), workers=workers,
            per_server=per_server, wait_seconds=wait,
        )  # fmt: skip
        where = _state_file(operation, state, targets)
        with (
            RolloutState(where, verb=operation, starts_anew=restart) as kept,
            stopped_by_signals(stop, insists=True),
            _named_records(),
            watching(operation) as observer,
        ):
            done = run(found, orders, pace=pace, state=kept, observer=observer, stop=stop)
    _tell(done, report or (), as_json=as_json)


def _tell(done: FleetReport, files: Sequence[Path], *, as_json: bool) -> None:
    if as_json:
        print_json(done.as_dict())
    else:
        print_report(done, is_listed=done.verb not in CHANGING)
    for path in files:
        write_report(done, path)
    if done.exit_status:
        raise typer.Exit(done.exit_status)


def _declared(declared: str | None, names: list[str] | None, connection: Connection) -> tuple[IndexSpec, ...]:
    return declared_indexes(connection, declared, names)


def _verb_of(word: str) -> Verb:
    for verb in VERBS:
        if word == verb:
            return verb
    raise UsageError(
        f"everindex fleet has no verb {word[:40]!r}.",
        why=f"it has {', '.join(VERBS)}.",
        next_step="run  everindex fleet status --targets FILE .",
    )


@contextmanager
def _targets(
    settings: Settings, file: Path | None, query: str | None, only: list[str] | None
) -> Iterator[tuple[Target, ...]]:
    """The targets, and while the block runs the embedded server, if they are on it."""
    if (file is not None) and (query is not None):
        raise UsageError(
            "--targets and --targets-query cannot be combined.",
            why="each names all targets.",
            next_step="give one of them.",
        )
    if query is not None:
        with address.server(settings) as base:
            yield _chosen(query_targets(base, query), only)
        return
    text, where = _text(settings, file)
    if not settings.uses_embedded_server:
        yield _chosen(read_targets(text, where=where, base=address.configured(settings).direct), only)
    elif names_databases(text, where=where):
        with address.server(settings) as base:
            yield _chosen(read_targets(text, where=where, base=base), only)
    else:
        yield _chosen(read_targets(text, where=where), only)


def _text(settings: Settings, file: Path | None) -> tuple[str, str]:
    if file is None:
        if settings.targets is None:
            raise UsageError(
                "no targets are named.",
                why="neither --targets nor --targets-query is given, and EVERINDEX_TARGETS is not set.",
                next_step="write a file with the columns name,url and pass it with --targets (docs/fleet.md).",
            )
        return settings.targets.get_secret_value(), "EVERINDEX_TARGETS"
    try:
        return file.read_text(encoding="utf-8"), str(file)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"the targets {file} cannot be read.",
            why=f"{exc.strerror if isinstance(exc, OSError) else 'it is not UTF-8 text'}.",
            next_step="correct the path of --targets; no database was touched.",
        ) from None


def _chosen(targets: tuple[Target, ...], only: list[str] | None) -> tuple[Target, ...]:
    if not only:
        return targets
    unknown = sorted(set(only) - {target.name for target in targets})
    if unknown:
        raise UsageError(
            f"no target is named {', '.join(map(repr, unknown))}.",
            why=f"there are {len(targets)} targets with other names.",
            next_step="correct --only; no database was touched.",
        )
    return tuple(target for target in targets if target.name in only)


def _state_file(verb: Verb, given: Path | None, targets: Path | None) -> Path | None:
    """Where the rollout keeps its state; None for what changes nothing, and for targets without a file or --state."""
    if verb not in CHANGING:
        return None
    if given is None and targets is None and verb == "rollback":
        raise UsageError(
            "a rollback of a fleet needs a state file.",
            why="a second rollback would undo the first, so what is done must be known if the command is interrupted.",
            next_step="name a file with --state.",
        )
    return given or (None if targets is None else state_path(targets, verb))


class _WithTarget(logging.Filter):
    """Adds the target that a thread works on to its log records."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = target_of_record()
        if name is not None:
            record.target = name
        return True


@contextmanager
def _named_records() -> Iterator[None]:
    named = _WithTarget()
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(named)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(named)
