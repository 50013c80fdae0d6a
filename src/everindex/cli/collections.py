"""`everindex collections`: lists collections, creates them, declares them over existing tables, drops them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from everindex.articles.collections.description import describe, sentence_of
from everindex.articles.instance import Instance
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError


def collections(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[create NAME | of TABLE | drop NAME]",
            help="create NAME: make a table and its indexes. of TABLE: use a table that exists; nothing of it changes but its "
            "indexes. drop NAME: remove a created table, or forget one that was used.",
        ),
    ] = None,
    dim: Annotated[int | None, typer.Option("--dim", help="create: dimensions of the vectors, 1 to 16000.")] = None,
    metric: Annotated[
        Literal["cosine", "l2", "inner_product"], typer.Option("--metric", help="Distance of the vectors.")
    ] = "cosine",
    vector_type: Annotated[
        Literal["vector", "halfvec"], typer.Option("--vector-type", help="create: pgvector's type of the column.")
    ] = "vector",
    key: Annotated[str, typer.Option("--key", help="Column that identifies a row.")] = "id",
    key_type: Annotated[str, typer.Option("--key-type", help="create: PostgreSQL type of the key.")] = "text",
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="Text column; can be repeated. The first of several is a title. (create: text)"),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", help="Metadata column; can be repeated. create: NAME or NAME:TYPE, such as year:integer."
        ),
    ] = None,
    vector: Annotated[str, typer.Option("--vector", help="of: column of the vectors.")] = "embedding",
    date: Annotated[str | None, typer.Option("--date", help="Metadata column by which the newest come first.")] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", help="Metadata column (date or timestamp) from which on a row is not found."),
    ] = None,
    passages: Annotated[
        str | None,
        typer.Option(
            "--passages", help="Text or metadata column whose long texts are cut into passages, searched too."
        ),
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="Schema of the table (the first of the search_path).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="of: name of the collection (the table's).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="drop: do not ask for confirmation.")] = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, given = _verb_of(words or [])
    with open_instance(wait, deploys=verb in ("create", "of")) as instance:
        if verb == "create":
            if dim is None:
                raise UsageError(
                    "everindex collections create  needs --dim.",
                    why="a column of vectors has a width: that of the model that makes them.",
                    next_step="add  --dim 384  (or 768, 1536 …).",
                )
            instance.collection(
                given, dim=dim, metric=metric, vector_type=vector_type, key=key,
                key_type=key_type, text=text or ("text",), metadata=_typed(metadata or []), date=date,
                expires=expires, passages=passages, schema=schema,
            )  # fmt: skip
        elif verb == "of":
            instance.collection_of(
                table=given, schema=schema, key=key, text=text or (), vector=vector, metadata=metadata or (),
                metric=metric, date=date, expires=expires, passages=passages, name=name,
            )  # fmt: skip
        elif verb == "drop":
            _drop(instance, given, yes=yes)
        found = [
            describe(spec, instance.collection(spec.name).engine.known, instance.reading.read)
            for spec in instance.collections()
        ]
    if as_json:
        print_json({"collections": found})
        return
    if not found:
        say("there are no collections beside the articles: make one with  everindex collections create NAME --dim 384")
    for one in found:
        say(sentence_of(one))


def _typed(metadata: list[str]) -> dict[str, str]:
    """Column → type, of `NAME` or `NAME:TYPE`."""
    pairs = (each.partition(":") for each in metadata)
    return {name.strip(): kind.strip() or "text" for name, _, kind in pairs}


def _drop(instance: Instance, name: str, *, yes: bool) -> None:
    spec = instance.collection(name).spec
    if spec.is_owned and not yes:
        raise UsageError(
            f"collection {name!r} would be dropped with its table {spec.schema}.{spec.table}.",
            why="its rows cannot be brought back.",
            next_step=f"run  everindex collections drop {name} --yes .",
        )
    instance.drop_collection(name)
    say(f"dropped {name}" if spec.is_owned else f"forgot {name}: its table stays as it is")


def _verb_of(words: list[str]) -> tuple[Literal["list", "create", "of", "drop"], str]:
    match words:
        case []:
            return "list", ""
        case ["create" | "of" | "drop" as verb, name] if name.strip():
            return verb, name.strip()
        case _:
            raise UsageError(
                "the arguments of  everindex collections  are not valid.",
                why="it takes no arguments,  create NAME ,  of TABLE , or  drop NAME.",
                next_step="run  everindex collections create docs --dim 384 .",
            )
