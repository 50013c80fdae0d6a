"""`everindex bench`: compares this installation with raw SQL, in one run on one machine."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, open_instance


def bench(
    queries: Annotated[int, typer.Option("--queries", help="Queries per round.", min=10)] = 200,
    rounds: Annotated[
        int, typer.Option("--rounds", help="Number of rounds; the median of all rounds is reported.", min=1)
    ] = 5,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    from everindex.articles.overhead import measure
    from everindex.web.overhead import measure_http

    for name in ("everindex.access", "everindex.search"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with open_instance(wait) as instance:
        result = measure(instance, queries=queries, rounds=rounds)
        result |= measure_http(instance, queries=queries, rounds=rounds)
    if as_json:
        print_json(result)
        return
    say(
        f"{result['rows']} rows, {result['queries']} queries × {result['rounds']} rounds, k = 10, ef "
        f"{result['ef_search']}"
    )
    lines = [
        ("raw psycopg, prepared, binary vector", "raw_ms", ""),
        ("the same, settings local to each search", "raw_local_ms", ""),
        ("search_vector in process", "library_ms", f"{result['library_over_raw']:.2f} x raw"),
        ("search of a text in process", "text_ms", ""),
        ("GET /api/search?q=", "http_text_ms", f"+{result['http_text_over_search_ms']:.2f} ms"),
        ("search_vector in process, again", "vector_ms", ""),
        ("GET /api/search?vector=", "http_vector_ms", f"+{result['http_vector_over_search_ms']:.2f} ms"),
    ]
    for name, key, note in lines:
        say(f"{name:<42} {result[key]:>7.2f} ms   {note}".rstrip())
    say(f"{'resident memory, server and client':<42} {result['rss_mb']:>7.0f} MB")
