"""`everindex saved`: lists the saved searches, saves one, shows its newest answers, removes it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from everindex.articles.model import DEFAULT_MODE, Filters, Mode
from everindex.articles.saved_searches import NEWEST, SavedSearch, filter_of
from everindex.articles.search.filters.conditions import parse_json
from everindex.cli.collection_option import CollectionOption
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.search import MinSimilarityOption, print_answer
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError


def saved(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[add NAME [TEXT] | show NAME | remove NAME]",
            help="add: save a search for TEXT, or without one for what passes the filters. show: the search and its newest "
            "answers. remove: forget it. Without arguments: list them.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="show: number of articles, 1 to 1000.")] = NEWEST,
    mode: Annotated[Mode, typer.Option("--mode", help="add: hybrid, semantic or keyword.")] = DEFAULT_MODE,
    category: Annotated[str | None, typer.Option("--category", help="add: only articles of this category.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="add: only articles of this topic.")] = None,
    news_source: Annotated[str | None, typer.Option("--source", help="add: only articles from this source.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="add: from this date on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="add: up to and including this date.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="JSON", help="add: only articles that pass this filter.")
    ] = None,
    min_similarity: MinSimilarityOption = None,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, name, text = _verb_of(words or [])
    named = Filters(category=category, topic=topic, news_source=news_source, since=since, until=until)
    with open_instance(wait) as instance:
        if verb == "show":
            search, answer = instance.saved_searches.find(name), instance.saved_searches.newest(name, k=k)
            if as_json:
                print_json(search.as_dict() | {"newest": answer.as_dict()})
                return
            say(_told(search))
            print_answer(answer)
            return
        if verb == "add":
            instance.saved_searches.add(
                name, text, mode=mode, min_similarity=min_similarity, collection=collection,
                filters=filter_of(named, None if where is None else parse_json(where)),
            )  # fmt: skip
        elif verb == "remove":
            instance.saved_searches.remove(name)
        found = [each for each in instance.saved_searches.all() if collection in (None, each.collection)]
    if as_json:
        print_json({"saved_searches": [search.as_dict() for search in found]})
        return
    if not found:
        say('there are no saved searches: save one with  everindex saved add NAME "TEXT"')
    for search in found:
        say(_told(search))


def _told(search: SavedSearch) -> str:
    """One line about a saved search."""
    parts = [] if search.collection is None else [f"in {search.collection}"]
    parts += [] if search.text is None else [f"{search.text!r}", search.mode]
    parts += [json.dumps(search.filter, ensure_ascii=False)] if search.filter else []
    parts += [] if search.min_similarity is None else [f"similarity {search.min_similarity:g} or more"]
    return f"{search.name}: {' · '.join(parts)}"


def _verb_of(words: list[str]) -> tuple[Literal["list", "add", "show", "remove"], str, str | None]:
    match words:
        case [] | ["list"]:
            return "list", "", None
        case ["add", name]:
            return "add", name.strip(), None
        case ["add", name, text]:
            return "add", name.strip(), text if text.strip() else None
        case ["show" | "remove" as verb, name]:
            return verb, name.strip(), None
        case _:
            raise UsageError(
                "the arguments of  everindex saved  are not valid.",
                why="it takes no arguments,  add NAME [TEXT] ,  show NAME , or  remove NAME.",
                next_step='put a name or a text of several words in quotes:  everindex saved add leaks "memory leak" .',
            )
