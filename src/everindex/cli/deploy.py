"""`everindex deploy`, `heal` and `rollback`: bring indexes to their declared state, or back to the previous generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, reporter, say, tell
from everindex.cli.plan import print_plan
from everindex.cli.waiting import LongWaitOption, connect_patiently, open_instance
from everindex.cli.warm import warm_after
from everindex.errors import UsageError
from everindex.index.deploy import drop as dropping
from everindex.index.deploy import executor as apply
from everindex.index.deploy.preview import preview_plan
from everindex.index.plan.policy import DEPLOY, HEAL, DeployPolicy
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.pg.connections import connect
from everindex.settings import Settings, read_settings

GiveUpOption = Annotated[
    float | None,
    typer.Option("--give-up-after", help="Seconds after which a build is cancelled and cleaned up.", min=0),
]
PatienceOption = Annotated[
    float | None,
    typer.Option("--patience", help="Seconds that a build may wait for one transaction before it is cancelled.", min=0),
]


def deploy(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="Run only the plan with this digest (printed by `everindex plan`).")
    ] = None,
    partial: Annotated[
        str | None,
        typer.Option(
            "--partial",
            metavar="JSON",
            help="Declare and build a vector index of the rows that pass this filter, for searches under exactly it.",
        ),
    ] = None,
    drop_partial: Annotated[
        str | None,
        typer.Option(
            "--drop-partial", metavar="JSON", help="Drop the partial index for this filter and its declaration."
        ),
    ] = None,
    give_up_after: GiveUpOption = None,
    patience: PatienceOption = None,
    keep_previous: Annotated[
        float | None, typer.Option("--keep-previous", help="Days to keep the old generation (7).", min=0)
    ] = None,
    wait: LongWaitOption = None,
    as_json: JsonOption = False,
) -> None:

    if partial is not None or drop_partial is not None:
        _partial(partial, drop_partial, declared, collection, wait, as_json)
        return

    def changed(spec: IndexSpec) -> IndexSpec:
        return _with_policy(spec, give_up_after, patience, None if keep_previous is None else keep_previous * 86400)

    _run(declared, index, collection, wait, as_json, policy=DEPLOY, expected_digest=plan, changed=changed)


def _partial(
    made: str | None,
    dropped: str | None,
    declared: str | None,
    collection: str | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Makes or drops the partial index for one filter of the articles, or of a collection."""
    if declared is not None or (made is not None and dropped is not None):
        raise UsageError(
            "--partial and --drop-partial cannot be combined with that.",
            why="each is about one filter of the articles or of a collection; another application declares its partial indexes "
            "itself.",
            next_step="give one of the two, with --collection or without.",
        )
    from everindex.articles.declared import ARTICLES
    from everindex.articles.partial_deploy import partial_index_for
    from everindex.articles.search.filters.conditions import parse_json  # with numpy: not before they are needed

    filters = parse_json(made or dropped or "")
    with open_instance(wait, deploys=True) as instance, reporter() as reporting:
        target = instance if collection in (None, ARTICLES.name) else instance.collection(str(collection))
        if made is not None:
            done = target.add_partial_index(filters, reporter=reporting)
            name = partial_index_for(target.engine.known()[0], filters).name
            result: dict[str, Any] = {
                "index": name,
                "outcome": done.outcome,
                "did": list(done.did),
                "warnings": list(done.warnings),
            }
        else:
            name = partial_index_for(target.engine.known()[0], filters).name
            result = {"index": name, "dropped": target.drop_partial_index(filters, reporter=reporting)}
    if as_json:
        print_json({"indexes": [result]})
    elif made is not None:
        say(f"index {name}: {str(result['outcome']).replace('-', ' ')}; searches under exactly this filter use it")
    else:
        say(f"index {name}: {'dropped' if result['dropped'] else 'did not exist'}")


def heal(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    give_up_after: GiveUpOption = None,
    patience: PatienceOption = None,
    wait: LongWaitOption = None,
    as_json: JsonOption = False,
) -> None:
    _run(
        declared,
        index,
        collection,
        wait,
        as_json,
        policy=HEAL,
        expected_digest=None,
        changed=lambda spec: _with_policy(spec, give_up_after, patience, None),
    )


def rollback(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop the previous generation instead; this cannot be undone.")
    ] = False,
    wait: LongWaitOption = None,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    done: list[dict[str, Any]] = []
    with (
        address.server(settings) as conninfo,
        reporter() as reporting,
    ):
        specs = _specs(conninfo, declared, index, collection, settings, wait)
        if len(specs) > 1:
            raise UsageError(
                "several indexes are declared.",
                why=f"they are {', '.join(spec.name for spec in specs)}; only one can be rolled back at a time.",
                next_step="name one with --index.",
            )
        for spec in specs:
            if forget:
                was_there = dropping.drop_previous(conninfo, spec, reporter=reporting)
                done.append({"index": spec.name, "forgotten": was_there})
            else:
                done.append({"index": spec.name, "serving": dropping.rollback(conninfo, spec, reporter=reporting)})
    if as_json:
        print_json({"indexes": done})
        return
    for each in done:
        if forget:
            say(
                f"index {each['index']}: the previous generation "
                f"{'was dropped' if each['forgotten'] else 'did not exist'}"
            )
        else:
            say(f"index {each['index']} serves as {each['serving']}")


def _run(
    declared: str | None,
    names: list[str] | None,
    collection: str | None,
    wait: float | None,
    as_json: bool,
    *,
    policy: DeployPolicy,
    expected_digest: str | None,
    changed: Callable[[IndexSpec], IndexSpec],
) -> None:
    settings = read_settings()
    results: list[dict[str, Any]] = []
    with (
        address.server(settings) as conninfo,
        reporter() as reporting,
    ):
        specs = _specs(conninfo, declared, names, collection, settings, wait)
        if expected_digest is not None and len(specs) != 1:
            raise UsageError(
                "--plan is for a single index.",
                why=f"the declared indexes are {', '.join(spec.name for spec in specs)}.",
                next_step="name the index with --index.",
            )
        for spec in map(changed, specs):
            _show(conninfo, spec, policy)
            done = apply.deploy(
                conninfo,
                spec,
                reporter=reporting,
                policy=policy,
                expected_digest=expected_digest,
            )
            if done.outcome in ("built", "rebuilt", "replaced"):
                warm_after(conninfo, spec, max_seconds=settings.warm_seconds)
            results.append(
                {
                    "index": spec.name,
                    "outcome": done.outcome,
                    "build_seconds": round(done.build_seconds, 3),
                    "did": list(done.did),
                    "warnings": list(done.warnings),
                    "remarks": list(done.remarks),
                }
            )
    if as_json:
        print_json({"indexes": results})
        return
    for result in results:
        say(f"index {result['index']}: {str(result['outcome']).replace('-', ' ')}")
        for sentence in result["did"]:
            say(f"  done: {sentence}")
        for warning in result["warnings"]:
            say(f"  warning: {warning}")
        for remark in result["remarks"]:
            say(f"  note: {remark}")


def _show(conninfo: str, spec: IndexSpec, policy: DeployPolicy) -> None:
    """Prints the plan with its locks to stderr, before the first statement."""
    with connect(conninfo, application_name="everindex plan") as connection:
        found = preview_plan(connection, spec, policy=policy, with_trial=False)
    if found.steps:
        print_plan(found, to=tell)


def _specs(
    conninfo: str,
    declared: str | None,
    names: list[str] | None,
    collection: str | None,
    settings: Settings,
    wait: float | None,
) -> tuple[IndexSpec, ...]:
    with connect_patiently(conninfo, settings, wait, deploys=True, application_name="everindex deploy") as connection:
        return declared_indexes(connection, declared, names, collection)


def _with_policy(
    spec: IndexSpec, give_up_after: float | None, patience: float | None, keep_previous_seconds: float | None
) -> IndexSpec:
    given = {
        "give_up_after_seconds": give_up_after,
        "wait_for_transactions_seconds": patience,
        "keep_previous_seconds": keep_previous_seconds,
    }
    return replace(
        spec, build=replace(spec.build, **{name: value for name, value in given.items() if value is not None})
    )
