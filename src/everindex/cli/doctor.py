"""`everindex doctor`: the results of every rule, worst first; `--fix` applies the safe fixes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from everindex.articles.collections.registry import declared_indexes as indexes_here
from everindex.articles.ingest.stored_vectors import sample_comparison
from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes, nothing_declared
from everindex.cli.given_declaration import as_advised
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.doctor.examine import chosen_rules, examine
from everindex.doctor.fix import FixResult, apply_fixes
from everindex.doctor.rule import Report, Rule, RuleResult
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import Connection, connect
from everindex.settings import read_settings

_MARKS = {"critical": "✗", "warning": "!", "notice": "·"}
_OUTCOMES = {"done": "done", "failed": "failed", "left": "left alone"}


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Run the fixes that are safe; print the others.")] = False,
    rules: Annotated[list[str] | None, typer.Option("--rule", help="Run only this rule; can be repeated.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show the rules that pass.")] = False,
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    slugs = tuple(rules or ())
    chosen_rules(slugs)
    settings = read_settings()
    compare = sample_comparison(settings)
    with address.server(settings) as conninfo:
        fixed: tuple[FixResult, ...] = ()
        with connect_patiently(conninfo, settings, wait, application_name="everindex doctor") as connection:
            found = look(connection)
            specs = _declared(connection, declared, index, collection, settings.recall_floor)
            report = examine(connection, specs, slugs=slugs, compare_vectors=compare)
        if fix:
            _tell_plan(report)
            fixed = apply_fixes(conninfo, report, declared=specs, on_result=_tell_fixed)
        if fixed:
            with connect(conninfo, application_name="everindex doctor") as connection:
                report = examine(connection, specs, slugs=slugs, compare_vectors=compare)
        where = address.describe(conninfo)
    server = f"PostgreSQL {found.server_version}, pgvector {version_text(found.extension_version)}"
    if as_json:
        print_json({"server": server, "database": where, **report.as_dict(), "fixed": [one.as_dict() for one in fixed]})
    else:
        say(f"{server}, {where}")
        _print(report, show_all=show_all)
    if not report.is_healthy:
        raise typer.Exit(3)


def _declared(
    connection: Connection, declared: str | None, names: list[str] | None, collection: str | None, floor: float
) -> tuple[IndexSpec, ...]:
    """The declarations; where there are none, prints a line about it and returns none, since server and tables are
    examined anyway."""
    if declared is not None or names:
        return declared_indexes(connection, declared, names, collection)
    here = indexes_here(connection, collection)
    if not here:
        missing = nothing_declared(connection)
        tell(f"{missing.what} Server and tables are examined anyway.\n  next: {missing.next_step}")
        return ()
    return tuple(effective_spec(connection, replace(spec, recall_floor=floor)) for spec in here)


def _print(report: Report, *, show_all: bool) -> None:
    for rule, answer in report.answers:
        match answer.status:
            case "finding":
                say(f"{_MARKS[rule.severity]} {rule.severity}: {answer.sentence}  [{rule.slug}]")
                _print_fix(rule, answer)
            case "unknown":
                say(f"? unknown: {answer.sentence}  [{rule.slug}]")
            case "good":
                if show_all:
                    say(f"✓ {answer.sentence}  [{rule.slug}]")
    say(_summary(report, show_all=show_all))


def _print_fix(rule: Rule, answer: RuleResult) -> None:
    say(f"    why:  {rule.reason}")
    if answer.fix is None:
        return
    safe = "  (safe: --fix runs it)" if answer.fix.is_safe else ""
    for statement in answer.fix.statements:
        say(f"    fix:  {statement};{safe}")
    if answer.fix.advice:
        say(f"    next: {as_advised(answer.fix.advice)}")


def _summary(report: Report, *, show_all: bool) -> str:
    counts = [
        (sum(rule.severity == severity for rule, _ in report.findings), severity)
        for severity in ("critical", "warning", "notice")
    ]
    statuses = [answer.status for _, answer in report.answers]
    counted = [
        f"{count} {severity}{'' if count == 1 or severity == 'critical' else 's'}"
        for count, severity in counts
        if count
    ]
    if "unknown" in statuses:
        counted.append(f"{statuses.count('unknown')} unknown")
    counted.append(
        f"{statuses.count('good')} good" + ("" if show_all or "good" not in statuses else " (--all shows them)")
    )
    return ", ".join(counted)


def _tell_plan(report: Report) -> None:
    """Prints the statements before running them, since one of them may take long."""
    for _, answer in report.findings:
        if answer.fix is not None and answer.fix.is_safe:
            for statement in answer.fix.statements:
                tell(f"to run: {statement}")


def _tell_fixed(fixed: FixResult) -> None:
    why = f": {fixed.why}" if fixed.why else ""
    tell(f"{_OUTCOMES[fixed.outcome]}: {fixed.statement}{why}")
