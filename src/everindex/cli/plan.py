"""`everindex plan`: what a deploy would do, with locks, estimates and SQL; exit 0 for no steps, 3 for some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.ci_report import OutputOption, chosen_format, print_report
from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.index.build.estimate import Estimate
from everindex.index.deploy.preview import PlanPreview, preview_plan
from everindex.index.plan.policy import DEPLOY
from everindex.pg import address
from everindex.settings import read_settings
from everindex.units import count_text, size_text


def plan(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Time a build over 1,000 rows in a temporary table.")
    ] = True,
    wait: WaitOption = None,
    output: OutputOption = "text",
    as_json: JsonOption = False,
) -> None:
    chosen = chosen_format(output, as_json)
    settings = read_settings()
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, wait, application_name="everindex plan") as connection,
    ):
        specs = declared_indexes(connection, declared, index, collection)
        found = [preview_plan(connection, spec, policy=DEPLOY, with_trial=trial) for spec in specs]
    match chosen:
        case "text":
            for each in found:
                print_plan(each)
        case "json":
            print_json({"plans": [each.as_dict() for each in found]})
        case _:
            print_report(chosen, "plan", [_item(each) for each in found])
    if any(each.steps for each in found):
        raise typer.Exit(3)


def _item(found: PlanPreview) -> CheckedItem:
    """One index: its steps are what is to be done, its remarks are notes."""
    steps = [
        Problem(
            rule="plan-step",
            level="warning",
            message=f"{each.step.sentence}; lock: {each.step.lock}",
            next_step="run  everindex deploy .",
        )
        for each in found.steps
    ]
    notes = [Problem(rule="plan-note", level="note", message=remark) for remark in found.plan.remarks]
    return CheckedItem(name=f"index {found.plan.spec.qualified_name}", problems=(*steps, *notes))


def print_plan(found: PlanPreview, *, to: Callable[[str], None] = say) -> None:
    """Prints the plan of one index for people."""
    spec = found.plan.spec
    if not found.steps:
        to(f"index {spec.qualified_name}: nothing to do")
    else:
        to(f"index {spec.qualified_name}: {count_text(len(found.steps), 'step')}, plan {found.plan.digest}")
    for number, each in enumerate(found.steps, start=1):
        to(f"{number}. {each.step.sentence}")
        to(f"     lock:    {each.step.lock}")
        if each.estimate is not None:
            to(f"     cost:    {_cost(each.estimate)}")
        to(f"     reverse: {each.step.reverse}")
        for statement in each.statements:
            to(f"     sql:     {statement}")
    for remark in found.plan.remarks:
        to(f"  note: {remark}")
    for other in found.beside:
        to(f"  note: {other.sentence}; {other.advice}")
    for sentence in [blocker.sentence for blocker in found.blockers] + list(found.vacuums):
        to(f"  would wait for: {sentence}")


def _cost(estimate: Estimate) -> str:
    memory = f"{size_text(estimate.memory_needed_bytes)} of memory"
    if estimate.memory_given_bytes < estimate.memory_needed_bytes:
        memory += f" (only {size_text(estimate.memory_given_bytes)} available, so it slows down)"
    return (
        f"{count_text(estimate.rows, 'row')}, about {max(estimate.seconds, 0.1):.1f} s (by {estimate.seconds_from}), "
        f"{memory}, "
        f"{size_text(estimate.disk_bytes)} of disk and as much WAL"
    )
