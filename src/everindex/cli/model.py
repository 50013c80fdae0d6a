"""`everindex model`: which models made the vectors; `everindex model declare NAME` records the one of those without a record."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.articles.embedding.declaration import SAMPLE_ROWS
from everindex.articles.embedding.model_counts import ModelCounts
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError


def model(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[declare NAME]", help="declare NAME: compare with that model, and record it."),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Number of stored vectors that `declare` compares.", min=10, max=10_000)
    ] = SAMPLE_ROWS,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    name = _declared_name(words or [])
    with open_instance(wait) as instance:
        if name is not None:
            done = instance.declare_model(name, sample=sample)
            if as_json:
                print_json(done.as_dict())
            else:
                say(f"declared: {done.model} made the vectors that have no record")
                say(f"  compared by {done.agreement.sentence}")
            return
        counts = instance.models()
    if as_json:
        print_json(counts.as_dict())
    else:
        _print(counts)


def _declared_name(words: list[str]) -> str | None:
    match words:
        case []:
            return None
        case ["declare", name] if name.strip():
            return name
        case _:
            raise UsageError(
                "the arguments of  everindex model  are not valid.",
                why="it takes no arguments, or  declare NAME.",
                next_step="run  everindex model declare static  (or the name of the model at your endpoint).",
            )


def _print(counts: ModelCounts) -> None:
    lines = [(name, count, "") for name, count in counts.recorded.items()]
    if counts.unrecorded:
        of = f"declared: {counts.declared}, of {counts.declared_form}" if counts.declared else "model unknown"
        lines.append(("unrecorded", counts.unrecorded, of))
    once = ", once the model of the others is declared" if counts.is_unrecorded else ""
    lines += [
        (
            "without a vector",
            counts.without_vector,
            f"everindex embed completes them{once}" if counts.without_vector else "",
        ),
        (
            "zero",
            counts.zero,
            f"searches cannot find them; everindex embed re-embeds them{once}" if counts.zero else "",
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
        say("until  everindex model declare NAME , texts are searched by words, and no vector is made beside these")
