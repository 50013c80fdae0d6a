"""`everindex model`: the models that made the vectors.

`declare NAME` records the model of vectors without a record, `fetch NAME` downloads a local model; `plan`, `switch`, `rollback`
and `drop` change the model (cli/model_switch.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everindex.articles.embedding.declaration import SAMPLE_ROWS
from everindex.articles.embedding.model_counts import ModelCounts
from everindex.cli.collection_option import CollectionOption
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError


def model(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[declare NAME | fetch NAME | plan NAME | switch NAME | rollback | drop GENERATION]",
            help="declare NAME: compare with that model, and record it. fetch NAME: download that model of the Hugging "
            "Face "
            "Hub into its cache, for `local:NAME`; needs no database. plan NAME: what a change to that model takes; changes "
            "nothing. switch NAME: change to it, without a gap; continues one that was interrupted. rollback: back to the old "
            "vectors. drop GENERATION: remove vectors that do not serve.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Number of stored vectors that `declare` compares.", min=10, max=10_000)
    ] = SAMPLE_ROWS,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", help="Width of the new vectors (the model's own).", min=1, max=16_000)
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price", help="Price of a million tokens, for the estimate and --most-cost.", min=0),
    ] = None,
    most_cost: Annotated[
        float | None,
        typer.Option("--most-cost", help="Stop a switch before it has cost more, over all its runs.", min=0),
    ] = None,
    texts_per_second: Annotated[
        float | None, typer.Option("--rate", help="Embed at most so many texts a second.", min=0.01)
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", metavar="HH:MM-HH:MM", help="Call the model in these hours alone (UTC).")
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(
            "--judged", help="Judged queries as for `everindex evaluate`; without them titles are asked as queries."
        ),
    ] = None,
    least_overlap: Annotated[
        float,
        typer.Option("--least-overlap", help="Share of the old answers that the new ones must have.", min=0, max=1),
    ] = 0.1,
    most_slower: Annotated[
        float, typer.Option("--most-slower", help="How many times as long the median search may take.", min=1)
    ] = 2.0,
    keep_days: Annotated[
        float, typer.Option("--keep-days", help="How long the old vectors are kept for a rollback.", min=0.05)
    ] = 7.0,
    is_agreed: Annotated[
        bool, typer.Option("--yes", help="Do not ask before the new model serves; the thresholds hold all the same.")
    ] = False,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, name = _verb_of(words or [])
    if verb == "fetch":
        _fetch(name, as_json=as_json)
        return
    if verb in SWITCH_VERBS:
        from everindex.cli.model_switch import SwitchOptions, run_verb

        if collection is not None:
            raise UsageError(
                "--collection does not go with this.",
                why="only the model of the articles can be changed without a gap.",
                next_step="set EMBEDDING_MODEL and run  everindex embed --collection  for a collection.",
            )
        options = SwitchOptions(
            dimensions=dimensions, price=price, most_cost=most_cost, texts_per_second=texts_per_second, window=window,
            judged=judged, least_overlap=least_overlap, most_slower=most_slower, keep_days=keep_days, is_agreed=is_agreed,
        )  # fmt: skip
        run_verb(verb, name, options, wait=wait, as_json=as_json)
        return
    with open_instance(wait) as instance:
        target = instance if collection is None else instance.collection(collection)
        if verb == "declare":
            done = target.declare_model(name, sample=sample)
            if as_json:
                print_json(done.as_dict())
            else:
                say(f"declared: {done.model} made the vectors without a record")
                say(f"  compared: {done.agreement.sentence}")
            return
        counts = target.models()
        generations = instance.model_switch.generations() if collection is None else []
    if as_json:
        print_json(counts.as_dict() | ({"generations": generations} if generations else {}))
    else:
        _print(counts, collection)
        for each in generations:
            until = "" if each["kept_until"] is None else f" until {each['kept_until']:%Y-%m-%d %H:%M}"
            say(
                f"generation {each['generation']}: {each['state']}{until}, {each['model'] or 'model unknown'}, "
                f"{each['dimensions']} dimensions as {each['type']}"
            )


#: The verbs that change the model.
SWITCH_VERBS = ("plan", "switch", "rollback", "drop")


def _verb_of(words: list[str]) -> tuple[str, str]:
    match words:
        case []:
            return "show", ""
        case ["rollback"]:
            return "rollback", ""
        case ["declare" | "fetch" | "plan" | "switch" | "drop" as verb, name] if name.strip():
            return verb, name.strip()
        case _:
            raise UsageError(
                "the arguments of  everindex model  are not valid.",
                why="it takes no arguments,  declare NAME ,  fetch NAME ,  plan NAME ,  switch NAME ,  rollback , or  "
                "drop NUMBER.",
                next_step="run  everindex model declare static  (or the name of the model at your endpoint).",
            )


def _fetch(name: str, *, as_json: bool) -> None:
    from everindex.articles.embedding.choose import LOCAL_PREFIX
    from everindex.articles.embedding.local.files import fetch

    files = fetch(name.removeprefix(LOCAL_PREFIX))
    runtime = "sentence-transformers" if files.onnx is None else "ONNX Runtime"
    if as_json:
        print_json({"model": files.name, "directory": str(files.folder), "runtime": runtime})
    else:
        say(f"{files.name} is in {files.folder} ({runtime} runs it)")
        say(f"use it with  EMBEDDING_MODEL={LOCAL_PREFIX}{files.name}")


def _print(counts: ModelCounts, collection: str | None) -> None:
    of = "" if collection is None else f" --collection {collection}"
    lines = [(name, count, "") for name, count in counts.recorded.items()]
    if counts.unrecorded:
        about = f"declared: {counts.declared}, of {counts.declared_form}" if counts.declared else "model unknown"
        lines.append(("unrecorded", counts.unrecorded, about))
    once = ", once the model of the other vectors is declared" if counts.is_unrecorded else ""
    lines += [
        (
            "without a vector",
            counts.without_vector,
            f"everindex embed{of} creates them{once}" if counts.without_vector else "",
        ),
        (
            "zero",
            counts.zero,
            f"searches cannot find them; everindex embed{of} re-embeds them{once}" if counts.zero else "",
        ),
        (
            "not normalised",
            counts.not_unit,
            "their length is not 1; cosine distance does not depend on it" if counts.not_unit else "",
        ),
    ]
    width = max(len(name) for name, _, _ in lines)
    for name, count, remark in lines:
        say(f"{name:<{width}}  {count:>9}{f'  {remark}' if remark else ''}")
    if counts.is_unrecorded:
        say(
            f"until  everindex model declare NAME{of} , search texts are matched by keyword only, and no vector is stored "
            "beside these"
        )
