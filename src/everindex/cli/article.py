"""`everindex article` and `everindex similar`: one article, and those nearest to it in meaning."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from everindex.articles.instance import connect_instance
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.search import print_answer

UriArgument = Annotated[str, typer.Argument(help="The article's uri, as a search prints it.")]


def article(uri: UriArgument, as_json: JsonOption = False) -> None:
    """Show one article with all that is known of it."""
    with connect_instance() as instance:
        values = dataclasses.asdict(instance.article(uri))
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        if value is not None:
            say(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}")


def similar(
    uri: UriArgument,
    k: Annotated[int, typer.Option("-k", "--k", help="How many articles, 1 to 1000.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the articles nearest in meaning to one article, itself left out."""
    with connect_instance() as instance:
        answer = instance.similar(uri, k=k)
    if as_json:
        print_json(answer.as_dict())
    else:
        print_answer(answer)
