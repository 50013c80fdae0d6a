"""`everindex search`: the search of the page, in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.articles.instance import connect_instance
from everindex.articles.model import DEFAULT_MODE, Answer, Filters, Hit, Mode
from everindex.cli.output import JsonOption, print_json, say, tell


def search(
    text: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    k: Annotated[int, typer.Option("-k", "--k", help="How many articles, 1 to 1000.")] = 10,
    category: Annotated[str | None, typer.Option("--category", help="Only this category.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Only this topic.")] = None,
    news_source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this date on: 2023, 2023-02 or 2023-02-07.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to and with this date.")] = None,
    ef_search: Annotated[int | None, typer.Option("--ef-search", help="Width of the index scan, 1 to 1000.")] = None,
    mode: Annotated[
        Mode, typer.Option("--mode", help="By meaning and words (hybrid), by meaning (semantic) or by words (keyword).")
    ] = DEFAULT_MODE,
    exact: Annotated[bool, typer.Option("--exact", help="Read every row instead of using the index.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search articles by meaning and by words; "quoted phrases", or, and -minus are understood."""
    filters = Filters(category=category, topic=topic, news_source=news_source, since=since, until=until)
    with connect_instance() as instance:
        answer = instance.search(text, k=k, mode=mode, filters=filters, ef_search=ef_search, exact=exact)
    if as_json:
        print_json(answer.as_dict())
    else:
        print_answer(answer)


def print_answer(answer: Answer) -> None:
    """The hits with their facts; how they were found goes to stderr."""
    for number, hit in enumerate(answer.hits, start=1):
        say(f"{number:>3}. {' '.join((hit.title or hit.uri).split())}")
        facts = (hit.news_source, hit.category, hit.topic, hit.publication_date)
        say(f"     {' · '.join([*_found_by(hit), *(' '.join(fact.split()) for fact in facts if fact)])}")
        say(f"     {hit.uri}")
    if not answer.hits and answer.mode == "keyword":
        say("no article has these words: try  --mode hybrid , or widen the filters")
    elif not answer.hits:
        say("no article matches: widen the filters, or import articles first (everindex import FILE)")
    for notice in answer.notices:
        tell(f"note: {notice}")
    tell(f"{len(answer.hits)} of {answer.k} asked, {answer.strategy}, {answer.elapsed_ms:.1f} ms ({answer.mode})")


def _found_by(hit: Hit) -> list[str]:
    """How near it is, and which search has it in which place."""
    told = [] if hit.similarity is None else [f"similarity {hit.similarity:.3f}"]
    if hit.keyword_rank is not None:
        told.append(f"word rank {hit.keyword_rank}")
    return told
