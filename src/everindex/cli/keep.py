"""`everindex keep`: the keeper in its own process, beside an application or for another application's indexes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer

from everindex.articles.background.keeper import article_indexes, article_tasks, reason_to_wait
from everindex.articles.recall_queries import RecallQueries
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import print_json, say, tell
from everindex.cli.stopped_by_signals import stopped_by_signals
from everindex.cli.waiting import LongWaitOption, connect_patiently
from everindex.index.keeper.loop import Keeper
from everindex.index.keeper.round import Round
from everindex.index.plan.policy import HEAL, KEEP
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.pg.connections import Connection
from everindex.settings import read_settings

#: Exit statuses of `--once`.
FAILED, FINDINGS_LEFT = 1, 3


def keep(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Run one round: exit 0 if everything is as declared, 1 on failure, 3 if something remains to be done.",
        ),
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", help="Seconds between two checks (EVERINDEX_KEEP_SECONDS, 60).", min=0.1),
    ] = None,
    replaces: Annotated[
        bool,
        typer.Option(
            "--replace", help="Also replace a valid index whose definition differs (EVERINDEX_KEEP_DRIFT=replace)."
        ),
    ] = False,
    wait: LongWaitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each round as one JSON line.")] = False,
) -> None:
    settings = read_settings()

    def wanted(connection: Connection) -> Iterable[IndexSpec]:
        specs = declared_indexes(connection, declared, index)
        if declared is not None:
            return specs
        floors = {spec.name: spec.recall_floor for spec in article_indexes(settings)(connection)}
        return [replace(spec, recall_floor=floors[spec.name]) for spec in specs]

    stop = threading.Event()
    last: list[Round] = []

    def show(round_: Round) -> None:
        # A standby or waiting keeper checks often: print its state only when it has changed.
        is_news = not last or round_.role == "leads" or (round_.role, round_.reason) != (last[0].role, last[0].reason)
        last[:] = [round_]
        if as_json and is_news:
            print_json(round_.as_dict())

    with address.server(settings) as conninfo:
        keeper = Keeper(
            conninfo,
            wanted,
            interval_seconds=settings.keep_seconds if interval is None else interval,
            policy=HEAL if replaces or settings.keep_drift == "replace" else KEEP,
            recall_seconds=settings.keep_recall_seconds,
            warm_seconds=settings.warm_seconds,
            reason_to_wait=reason_to_wait if declared is None else lambda connection: None,
            on_round=show,
            tasks=article_tasks(conninfo, settings) if declared is None and index is None else (),
            # Models are known only for the article table: for any other there are no queries to embed.
            search_queries=RecallQueries(settings),
        )
        with connect_patiently(conninfo, settings, wait, deploys=True) as connection:
            list(wanted(connection))  # an impossible declaration is reported before the keeper starts
        with stopped_by_signals(stop):
            if once:
                raise typer.Exit(_one_round(keeper, stop, as_json))
            tell(f"everindex maintains the indexes of {address.describe(conninfo)}  (Ctrl-C stops it)")
            keeper.run(stop)


def _one_round(keeper: Keeper, stop: threading.Event, as_json: bool) -> int:
    round_ = keeper.once(stop)
    if as_json:
        print_json(round_.as_dict())
    else:
        if round_.reason is not None:
            say(f"waiting: {round_.reason}")
        for each in round_.indexes:
            say(f"index {each.index}: {each.outcome.replace('-', ' ')}")
            for sentence in each.did:
                say(f"  done: {sentence}")
            for warning in each.warnings:
                say(f"  warning: {warning}")
            if each.finding is not None:
                say(f"  left: {each.finding.text}")
    if any(finding.is_failure for finding in round_.findings):
        return FAILED
    is_left = round_.role != "leads" or round_.findings or any(each.outcome == "being-built" for each in round_.indexes)
    return FINDINGS_LEFT if is_left else 0
