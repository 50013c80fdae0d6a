"""`everindex verify`: checks that the index exists, is used and is accurate; exit 0 when all checks pass, 3 when one fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from everindex.articles.collections.registry import all_collections, require_collection
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.verification import verify as verify_database
from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.ci_report import OutputOption, chosen_format, print_report
from everindex.cli.collection_option import CollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes, nothing_declared
from everindex.cli.output import JsonOption, print_json, query_progress, say
from everindex.cli.proofs import print_proofs
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import ColumnMismatch, TableNotFound
from everindex.index.recall.proof import Verification, fails
from everindex.index.recall.verify import prove_all
from everindex.pg import address
from everindex.pg.connections import connect, lift_time_limits
from everindex.settings import read_settings


def verify(
    samples: Annotated[
        int, typer.Option("--samples", help="Number of queries for the recall measurement.", min=2, max=10_000)
    ] = 100,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Seconds after which to stop measuring recall.", min=0.1)
    ] = 30.0,
    floor: Annotated[float | None, typer.Option("--recall", help="Minimum recall@10 (0.95).", min=0.0, max=1.0)] = None,
    wait: WaitOption = None,
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: CollectionOption = None,
    output: OutputOption = "text",
    as_json: JsonOption = False,
) -> None:
    chosen = chosen_format(output, as_json)
    settings = read_settings()
    with address.server(settings) as conninfo:
        with connect_patiently(conninfo, settings, wait) as connection:
            if collection is not None:
                collections = [require_collection(connection, collection)]
            else:
                collections = [] if declared is not None else all_collections(connection)
            if declared is None and not collections:
                raise nothing_declared(connection)
        if declared is not None:
            result = _verify_declared(conninfo, declared, index, floor, samples=samples, max_seconds=max_seconds)
        else:
            result = _verify_collections(
                conninfo, collections,
                floor=settings.recall_floor if floor is None else floor,
                is_floor_requested=floor is not None, samples=samples, max_seconds=max_seconds,
            )  # fmt: skip
    match chosen:
        case "text":
            print_proofs(result, to=say)
        case "json":
            print_json(result.as_dict())
        case _:
            print_report(chosen, "verify", _items(result))
    if not result.holds:
        raise typer.Exit(3)


def _items(result: Verification) -> list[CheckedItem]:
    """Each proof, and each remark as a note of its own."""
    items = [
        CheckedItem(
            name=proof.name if proof.collection is None else f"{proof.collection}: {proof.name}",
            is_skipped=proof.holds is None,
            problems=()
            if proof.holds
            else (
                Problem(
                    rule=f"verify-{proof.name}",
                    level="error" if proof.holds is False else "note",
                    message=proof.sentence,
                    next_step=proof.next_step,
                ),
            ),
        )
        for proof in result.proofs
    ]
    notes = [
        CheckedItem(
            name=note.slug,
            problems=(
                Problem(
                    rule=note.slug,
                    level="note",
                    message=note.sentence,
                    next_step=note.next_step,
                ),
            ),
        )
        for note in result.notes
    ]
    return items + notes


def _verify_collections(
    conninfo: str,
    collections: list[CollectionSpec],
    *,
    floor: float,
    is_floor_requested: bool,
    samples: int,
    max_seconds: float,
) -> Verification:
    """The checks of one collection after the other; of several, one whose table is gone is a failed check."""
    found: list[Verification] = []
    for spec in collections:
        try:
            with query_progress("measuring recall") as show:
                result = verify_database(
                    conninfo, spec, floor=floor, is_floor_requested=is_floor_requested, samples=samples, max_seconds=max_seconds,
                    on_query=show,
                )  # fmt: skip
        except (TableNotFound, ColumnMismatch) as exc:
            if len(collections) == 1:
                raise
            result = Verification(proofs=(fails("index", exc.what.rstrip("."), exc.next_step),))
        found.append(result if len(collections) == 1 else result.of(spec.name))
    return Verification(
        proofs=tuple(proof for each in found for proof in each.proofs),
        notes=tuple(note for each in found for note in each.notes),
    )


def _verify_declared(
    conninfo: str,
    declared: str,
    names: list[str] | None,
    floor: float | None,
    *,
    samples: int,
    max_seconds: float,
) -> Verification:
    """Checks another application's declared indexes with the simplest statement that uses each."""
    with connect(conninfo, application_name="everindex verify") as connection:
        lift_time_limits(connection)
        specs = declared_indexes(connection, declared, names)
        return Verification(
            proofs=tuple(
                proof
                for spec in specs
                for proof in prove_all(
                    connection,
                    spec if floor is None else replace(spec, recall_floor=floor),
                    samples=samples,
                    max_seconds=max_seconds,
                )
            )
        )
