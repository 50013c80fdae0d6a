"""`everindex search`: article search in the terminal."""

from __future__ import annotations

import html
import re
import sys
from typing import Annotated

import typer

from everindex.articles.export import (
    ExportFormat,
    export_columns,
    export_to,
    first_page,
    format_of,
    walk,
    writer_for,
)
from everindex.articles.model import DEFAULT_MODE, Answer, Facets, Filters, Mode, Sort
from everindex.articles.search.filters import both
from everindex.articles.search.filters.conditions import parse_json
from everindex.articles.search.keyword.snippet import title_and_body
from everindex.articles.search.request.search_request import SearchRequest, choose_mode
from everindex.articles.search.results.numbered_pages import is_numbered
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.searchable import Searchable
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.passage import Passage
from everindex.cli.collection_option import CollectionOption
from everindex.cli.explained import print_explanation, print_words_explanation
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import EverindexError, UsageError
from everindex.units import count_text

#: A longer text is no title.
MOST_TITLE_CHARACTERS = 300
MOST_PASSAGE_CHARACTERS = 240
#: Values of a facet that are printed; --json has more.
SHOWN_VALUES = 12

AfterOption = Annotated[
    str | None,
    typer.Option("--after", metavar="CURSOR", help="Cursor for the next page, as printed below the results."),
]
MinSimilarityOption = Annotated[float | None, typer.Option("--min-similarity", help="Minimum similarity, -1 to 1.")]
DiversityOption = Annotated[
    float | None,
    typer.Option("--diversity", help="Prefer varied results: 0 (off) to 1; 0.3 is a good start."),
]
GroupDuplicatesOption = Annotated[
    bool, typer.Option("--group-duplicates", help="List near-duplicates below the first of them, as one result.")
]


def search(
    text: Annotated[
        str, typer.Argument(help="Text to search for. If omitted, lists the newest articles that match the filters.")
    ] = "",
    k: Annotated[
        int, typer.Option("-k", "--k", help="Number of articles, 1 to 1000; with --output 1 to 1,000,000.")
    ] = 10,
    category: Annotated[str | None, typer.Option("--category", help="Only articles of this category.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Only articles of this topic.")] = None,
    news_source: Annotated[str | None, typer.Option("--source", help="Only articles from this source.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this date on: 2023, 2023-02 or 2023-02-07.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to and including this date.")] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="JSON",
            help='Only articles for which this holds, as JSON: \'{"quality_score": {"$gte": 0.5}}\'.',
        ),
    ] = None,
    facets: Annotated[
        str | None,
        typer.Option(
            "--facets", metavar="NAMES", help="Count the values of these columns in the result: category,topic."
        ),
    ] = None,
    ef_search: Annotated[
        int | None,
        typer.Option("--ef-search", help="hnsw.ef_search for this search, 1 to 1000 (chosen automatically)."),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option("--mode", help="hybrid (by meaning and by words), semantic (by meaning) or keyword (by words)."),
    ] = DEFAULT_MODE,
    exact: Annotated[bool, typer.Option("--exact", help="Read every row instead of using the index.")] = False,
    after: AfterOption = None,
    min_similarity: MinSimilarityOption = None,
    diversity: DiversityOption = None,
    group_duplicates: GroupDuplicatesOption = False,
    sort: Annotated[
        Sort, typer.Option("--sort", help="relevance, or newest: the matches of the text by date, newest first.")
    ] = "relevance",
    rerank: Annotated[
        int | None,
        typer.Option(
            "--rerank",
            help="Number of candidates that the cross-encoder of EVERINDEX_RERANK_MODEL re-ranks, 0 to 200 "
            "(EVERINDEX_RERANK).",
        ),
    ] = None,
    collection: CollectionOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the strategy, settings, SQL statement and query plan.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="Write the result into FILE (.csv, .jsonl, .parquet), - for stdout."
        ),
    ] = None,
    format_name: Annotated[
        ExportFormat | None, typer.Option("--format", help="Format of --output, if the file name does not show it.")
    ] = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    if format_name is not None and output is None:
        output = "-"
    named = Filters(category=category, topic=topic, news_source=news_source, since=since, until=until)
    filters = both(named, None if where is None else parse_json(where))
    sought = text if text.strip() else None
    with open_instance(wait) as opened:
        instance = opened if collection is None else opened.collection(collection)
        request = SearchRequest(
            mode=choose_mode(mode, text=sought, vector=None, filters=filters), text=sought,
            k=k if output is None else 1, filters=filters, ef_search=ef_search, exact=exact,
            after=after, min_similarity=min_similarity, diversity=diversity, rerank=rerank,
            group_duplicates=group_duplicates, sort=sort,
            facets=tuple(name.strip() for name in (facets or "").split(",") if name.strip()),
        )  # fmt: skip
        if output is not None:
            _export(instance, request, output, format_name, limit=k, as_json=as_json)
            return
        answer = instance.searches.answer(request)
        explain = explain and request.mode != "browse"
        explanation = _explained(instance, request) if explain and mode != "keyword" else None
        words = instance.searches.explain_words(request) if explain and mode != "semantic" else None
    if as_json:
        explained = {} if explanation is None else explanation.as_dict()
        explained |= {} if words is None else {"words": words.as_dict()}
        print_json(answer.as_dict() | ({"explanation": explained} if explained else {}))
        return
    print_answer(answer)
    if answer.facets is not None:
        print_facets(answer.facets)
    if explanation is not None:
        print_explanation(explanation)
    if words is not None:
        print_words_explanation(words)


def _export(
    instance: Searchable, request: SearchRequest, to: str, format: ExportFormat | None, *, limit: int, as_json: bool
) -> None:
    """Writes the result into a file, or to stdout."""
    if to == "-" and (as_json or (format == "parquet" and sys.stdout.isatty())):
        raise UsageError(
            "this output cannot go to stdout.",
            why="stdout takes the JSON document." if as_json else "Parquet is binary, and stdout is a terminal.",
            next_step="name a file:  --output FILE.",
        )
    writer = writer_for(format_of(to, format), export_columns(instance.engine.known()[0]))
    answers = walk(instance.searches.answer, first_page(request, limit=limit), limit=limit)
    done = export_to(sys.stdout.buffer if to == "-" else to, answers, writer)
    if to == "-":
        sys.stdout.buffer.flush()
    for notice in done.notices:
        tell(f"note: {notice}")
    if as_json:
        print_json({"rows": done.rows, "output": to, "notices": done.notices})
        return
    tell(f"{count_text(done.rows, 'row')} written" + ("" if to == "-" else f" into {to}"))


def _explained(instance: Searchable, request: SearchRequest) -> Explanation | None:
    """The explanation of the semantic search; None and a printed note where there is none."""
    if request.after and (request.mode != "semantic" or request.sort == "newest" or is_numbered(request.after)):
        tell(
            f"note: --explain works for the first page, and for later pages only with  --mode semantic  (this search "
            f"is {request.mode})"
        )
        return None
    vector = instance.query_embedder.of(request)
    if isinstance(vector, EverindexError):
        tell(f"note: no semantic search: {vector.what}")
        return None
    return instance.searches.explain(request, vector)


def print_answer(answer: Answer) -> None:
    """Prints the hits with their details to stdout, and how they were found to stderr."""
    for number, hit in enumerate(answer.hits, start=1):
        title, body = title_and_body(hit)
        say(f"{number:>3}. {_shortened(title or (None if hit.columns.is_flat else body) or str(hit.key))}")
        facts = (" ".join(str(fact).split()) for fact in hit.metadata.values() if fact not in (None, "", {}, []))
        expiry = [] if hit.expiry is None else [f"expires {hit.expiry}"]
        say(f"     {' · '.join([*_found_by(hit), *facts, *expiry])}")
        if hit.passage is not None:
            say(f"     {_passage(hit.passage)}")
        say(f"     {hit.key}")
        for other in hit.duplicates:
            say(f"     + {_shortened(title_and_body(other)[0] or str(other.key))} · {other.key}")
    if not answer.hits and answer.mode == "keyword":
        say("no article contains these words: try  --mode hybrid , or relax the filters")
    elif not answer.hits:
        say("no article matches: relax the filters, or import articles first (everindex import FILE)")
    for notice in answer.notices:
        tell(f"note: {notice}")
    if answer.mode == "browse":
        tell(f"{_position(answer)} · newest first · {answer.elapsed_ms:.1f} ms")
        _tell_pages(answer)
        return
    varied = "" if answer.diversity is None else f", diversity {answer.diversity:g}"
    if answer.reranked_by is not None:
        tell(f"re-ranked: the first {answer.reranked}, by {answer.reranked_by}")
    strategy = "" if answer.strategy in (answer.mode, "newest") else f" · {answer.strategy}"
    by_date = " · newest first" if answer.sort == "newest" else ""
    tell(f"{_position(answer)} · {answer.mode}{varied}{strategy}{by_date} · {answer.elapsed_ms:.1f} ms")
    _tell_pages(answer)


def print_facets(facets: Facets) -> None:
    """The most frequent values of each facet, and the histograms of dates."""
    counted = {"filters": "that pass the filters", "words": "that have these words", "nearest": "that are nearest"}
    more = "" if facets.is_complete else " (there are more)"
    say(f"of {count_text(facets.counted, 'article')} {counted[facets.source]}{more}:")
    for name, values in facets.values.items():
        say(f"  {name}: {', '.join(f'{_line(each.value)} {each.rows:,}' for each in values[:SHOWN_VALUES]) or '-'}")
    for name, histogram in facets.histograms.items():
        say(f"  {name} by {histogram.unit}: {', '.join(f'{text} {rows:,}' for text, rows in histogram.buckets) or '-'}")


def _line(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())


def _position(answer: Answer) -> str:
    """Which articles these are, and of how many where that is known: 10 results, 21-40 of 312 articles."""
    shown = str(answer.shown)
    if answer.shown_before and answer.shown:
        shown = f"{answer.shown_before + 1:,}-{answer.shown_before + answer.shown:,}"
    if answer.total is None and answer.passing:
        least = "more than " if answer.passing_is_least else ""
        results = f"results {shown}" if answer.shown_before else count_text(answer.shown, "result")
        return f"{results} of {least}{answer.passing:,} that pass the filter"
    if answer.total is None:
        return f"results {shown}" if answer.shown_before else count_text(answer.shown, "result")
    about = "about " if answer.total_is_estimate else "more than " if answer.total_is_least else ""
    return f"{shown} of {about}{count_text(answer.total, 'article')}"


def _tell_pages(answer: Answer) -> None:
    if answer.previous_cursor is not None:
        tell(f"Previous page: add  --after {answer.previous_cursor}")
    if answer.next_cursor is not None:
        tell(f"Next page: add  --after {answer.next_cursor}")


def _shortened(text: str) -> str:
    """One line of a text, its beginning where it is no title."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_TITLE_CHARACTERS else f"{line[:MOST_TITLE_CHARACTERS].rstrip()} …"


def _passage(passage: Passage) -> str:
    """The best passage of the whole text, and its place in it."""
    part = passage.text if passage.snippet is None else html.unescape(re.sub("</?mark>", "", passage.snippet))
    line = " ".join(part.split())
    shown = line if len(line) <= MOST_PASSAGE_CHARACTERS else f"{line[:MOST_PASSAGE_CHARACTERS].rstrip()} …"
    where = f"passage {passage.number} of {passage.count}, characters {passage.start:,} to {passage.end:,}"
    return f"“{shown}” ({where})"


def _found_by(hit: Hit) -> list[str]:
    """The similarity, and the ranks in the semantic and the keyword search."""
    parts = [] if hit.similarity is None else [f"similarity {hit.similarity:.3f}"]
    if hit.rerank_score is not None:
        parts.insert(0, f"re-ranked {hit.rerank_score:.3f}")
    if hit.keyword_rank is not None:
        parts += [] if hit.semantic_rank is None else [f"meaning #{hit.semantic_rank}"]
        parts.append(f"words #{hit.keyword_rank}")
    return parts
