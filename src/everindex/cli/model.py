"""`everindex model`: the models that made the vectors.

`declare NAME` records the model of vectors without a record, `fetch NAME` downloads a local model.
"""

from __future__ import annotations

from typing import Annotated, Literal

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
            metavar="[declare NAME | fetch NAME]",
            help="declare NAME: compare with that model, and record it. fetch NAME: download that model of the Hugging "
            "Face "
            "Hub into its cache, for `local:NAME`; needs no database.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Number of stored vectors that `declare` compares.", min=10, max=10_000)
    ] = SAMPLE_ROWS,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, name = _verb_of(words or [])
    if verb == "fetch":
        _fetch(name, as_json=as_json)
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
    if as_json:
        print_json(counts.as_dict())
    else:
        _print(counts, collection)


def _verb_of(words: list[str]) -> tuple[Literal["show", "declare", "fetch"], str]:
    match words:
        case []:
            return "show", ""
        case ["declare" | "fetch" as verb, name] if name.strip():
            return verb, name.strip()
        case _:
            raise UsageError(
                "the arguments of  everindex model  are not valid.",
                why="it takes no arguments,  declare NAME , or  fetch NAME.",
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
