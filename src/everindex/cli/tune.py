"""`everindex tune`: the cheapest configuration that reaches a recall; `--apply` deploys it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from everindex.articles.collections.registry import declared_indexes as indexes_here
from everindex.cli.advice_text import print_advice, print_applied
from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.measure import KOption, MaxSecondsOption, QueriesOption, write_text
from everindex.cli.output import JsonOption, print_json, reporter, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.cli.warm import warm_after
from everindex.errors import UsageError
from everindex.index.catalog.adopted import adopted_here
from everindex.index.catalog.observe import in_search_path
from everindex.index.spec import IndexSpec
from everindex.index.spec_json import to_json
from everindex.index.tuning import curve_history
from everindex.index.tuning.apply import Applied, apply_advice, recommended, reset
from everindex.index.tuning.recommendation import Advice, advise
from everindex.index.tuning.survey_result import Budget
from everindex.pg import address
from everindex.pg.connections import Connection, connect
from everindex.settings import Settings, read_settings


def tune(
    recall: Annotated[
        float | None, typer.Option("--recall", help="Minimum recall@k (EVERINDEX_RECALL_FLOOR).", min=0.01, max=1.0)
    ] = None,
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Deploy the recommended configuration online and use it for searches.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --declared FILE.json: write the recommendation into that file.")
    ] = False,
    back: Annotated[bool, typer.Option("--reset", help="Return to the configuration declared in code.")] = False,
    k: KOption = 10,
    queries: QueriesOption = 200,
    sample: Annotated[
        int, typer.Option("--sample", help="Maximum rows of the sample on which configurations are tried.", min=1000)
    ] = 100_000,
    max_seconds: MaxSecondsOption = 900.0,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    _refuse_contradictions(declared, apply=apply, write=write, back=back)
    floor = settings.recall_floor if recall is None else recall
    budget = Budget(k=k, queries=queries, sample_rows=sample, max_seconds=max_seconds)
    with address.server(settings) as conninfo:
        with connect_patiently(conninfo, settings, wait, application_name="everindex tune") as connection:
            specs = declared_indexes(connection, declared, index, collection)
            in_code = _in_code(connection) if declared is None else {}
        if back:
            _reset(conninfo, [in_code[spec.schema, spec.name] for spec in specs], settings, as_json)
            return
        results: list[dict[str, Any]] = []
        for spec in specs:
            advice = advise(conninfo, spec, floor=floor, budget=budget, say=tell)
            with connect(conninfo, application_name="everindex tune") as connection:
                curve_history.keep(connection, advice.survey)
            if not as_json:
                print_advice(advice)
            result = advice.as_dict()
            if apply and declared is None and advice.choice is not None:
                applied = _apply(conninfo, in_code[spec.schema, spec.name], advice, budget, settings)
                result["applied"] = applied.as_dict()
                if not as_json:
                    print_applied(applied, k)
            elif (apply or write) and declared is not None and advice.choice is not None:
                result["declaration"] = to_json(recommended(spec, advice).as_declared(spec))
                _hand_over(declared, spec, result["declaration"], write=write, as_json=as_json)
            results.append(result)
    if as_json:
        print_json({"tuned": results})
    if not all(result["holds"] for result in results):
        raise typer.Exit(3)


def _in_code(connection: Connection) -> dict[tuple[str, str], IndexSpec]:
    """The declarations before tuning, by the schema and the name that their indexes have in this database."""
    located = (adopted_here(connection, in_search_path(connection, spec)) for spec in indexes_here(connection))
    return {(spec.schema, spec.name): spec for spec in located}


def _refuse_contradictions(declared: str | None, *, apply: bool, write: bool, back: bool) -> None:
    if back and (apply or write or declared is not None):
        raise UsageError(
            "--reset cannot be combined with these options.",
            why="--reset returns to the declaration in this application's code and measures nothing.",
            next_step="leave out --apply, --write and --declared; another application's declaration is in its own "
            "file.",
        )
    if write and (declared is None or not declared.endswith(".json")):
        raise UsageError(
            "--write needs a JSON file to write into.",
            why="the articles' index is declared in code, and a MetaData in its application's code.",
            next_step="name the file with --declared FILE.json, or use --apply for the articles' index.",
        )


def _reset(conninfo: str, specs: list[IndexSpec], settings: Settings, as_json: bool) -> None:
    done = []
    for spec in specs:
        with reporter() as reporting:
            was_tuned, deployed = reset(conninfo, spec, reporter=reporting)
        if deployed.outcome != "already-there":
            warm_after(conninfo, spec, max_seconds=settings.warm_seconds)
        done.append(
            {"index": spec.name, "was_tuned": was_tuned, "outcome": deployed.outcome, "did": list(deployed.did)}
        )
    if as_json:
        print_json({"reset": done})
        return
    for each in done:
        say(
            f"index {each['index']}: {'as declared in code again' if each['was_tuned'] else 'was not tuned'}"
            f" ({str(each['outcome']).replace('-', ' ')})"
        )


def _apply(conninfo: str, declared: IndexSpec, advice: Advice, budget: Budget, settings: Settings) -> Applied:
    with reporter() as reporting:
        applied = apply_advice(conninfo, declared, advice, budget=budget, reporter=reporting, say=tell)
    if applied.deployed.outcome != "already-there":
        warm_after(conninfo, declared, max_seconds=settings.warm_seconds)
    return applied


# --- declarations of other applications ------------------------------------------------------------------------------


def _hand_over(declared: str, spec: IndexSpec, declaration: dict[str, object], *, write: bool, as_json: bool) -> None:
    """Prints the declaration, or writes it to its file; `everindex deploy --declared` deploys it."""
    if not write:
        if not as_json:
            say("declare it like this, then run  everindex deploy --declared …  (--write writes it to a JSON file):")
            say(json.dumps(declaration, indent=2))
        return
    path = Path(declared)
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    rows = document if isinstance(document, list) else [document]
    for row in rows:
        if row["name"] == spec.name and row.get("schema", "public") == spec.schema:
            row.update({name: declaration[name] for name in CHOSEN if name in declaration})
            for name in CHOSEN:
                if name not in declaration:
                    row.pop(name, None)
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if not as_json:
        say(f"wrote {path}; run  everindex deploy --declared {path}  to build it")


#: The members that tuning writes into a declaration.
CHOSEN = ("opclass", "type", "m", "ef_construction", "ef_search", "candidates")
