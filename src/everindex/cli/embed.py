"""`everindex embed`: makes missing vectors of the current model; `--check` compares existing ones with their texts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from everindex.cli.collection_option import CollectionOption
from everindex.cli.importing import passages_dict, print_passages
from everindex.cli.output import JsonOption, print_json, reporter, row_progress, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError
from everindex.units import count_text


def embed(
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only count the articles without a vector, or those that --check would repair."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare every vector with its text, and re-embed those that do not match.")
    ] = False,
    overwrite_unrecorded: Annotated[
        bool,
        typer.Option(
            "--overwrite-unrecorded",
            help="Also re-embed articles whose model is unrecorded; their old vectors are lost.",
        ),
    ] = False,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    if collection is not None and check:
        raise UsageError(
            "--check does not work on a collection.",
            why="it compares the vectors of articles with their texts.",
            next_step=f"leave one of them out:  everindex embed --collection {collection}  makes what is missing.",
        )
    rows = "article" if collection is None else "row"
    with open_instance(wait) as instance:
        target = instance if collection is None else instance.collection(collection)
        model = target.embedder.model
        result: dict[str, Any] = {"model": model}
        if check:
            with row_progress("comparing") as advance:
                compared = instance.check_vectors(repair=not dry_run, on_rows=advance)
            result |= {"compared": compared.rows, "of_other_text": compared.other, "re_embedded": compared.re_embedded}
            if not as_json:
                say(f"{count_text(compared.rows, 'vector')} compared with the text, {compared.other} did not match")
                if compared.re_embedded:
                    say(f"  {compared.re_embedded} re-embedded")
        queue = target.writer.keys_to_embed(overwrite_unrecorded=overwrite_unrecorded)
        waiting = len(queue)
        if dry_run:
            texts = 0 if target.passages is None else len(target.passages.due(target.embedder))
            if as_json:
                print_json({"waiting": waiting, **({"texts": texts} if texts else {}), **result})
            else:
                say(f"{count_text(waiting, rows)} without a vector of {model}")
                if texts:
                    say(f"{count_text(texts, 'whole text')} to cut into passages")
            return
        with (
            reporter() as reporting,
            row_progress("embedding", total=waiting) as advance,
        ):
            report = target.embed_missing(
                queue=queue, overwrite_unrecorded=overwrite_unrecorded, on_rows=advance, reporter=reporting
            )
    done, left = report.stored.updated, report.without_vector
    passages = report.passages
    if as_json:
        done_json = {"embedded": done, "without_vector": left, "failure_reason": report.failure_reason}
        print_json(done_json | passages_dict(passages) | result)
    else:
        say(f"{count_text(done, rows)} embedded with {model}, {left} still without a vector")
        if left:
            say(f"  first reason: {report.failure_reason}")
        print_passages(passages, to=say)
    if left or passages.without_vector:
        raise typer.Exit(1)
