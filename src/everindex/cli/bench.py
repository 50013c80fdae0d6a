"""`everindex bench`: measures this installation against the floor of raw SQL, in one run on one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.articles.bench import measure
from everindex.articles.instance import connect_instance
from everindex.cli.output import JsonOption, print_json, say
from everindex.web.bench import measure_http


def bench(
    queries: Annotated[int, typer.Option("--queries", help="Queries of each round.", min=10)] = 200,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds, taken in turn; the median counts.", min=1)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Compare a search in process and over HTTP with raw psycopg on the same index and settings."""
    with connect_instance() as instance:
        result = measure(instance, queries=queries, rounds=rounds)
        result |= measure_http(instance, queries=queries, rounds=rounds)
    if as_json:
        print_json(result)
        return
    say(f"{result['rows']} rows, {result['queries']} queries × {result['rounds']} rounds, k = 10, ef_search = {result['ef_search']}")
    say(f"raw psycopg, prepared, binary vector   {result['raw_ms']:.2f} ms")
    say(f"raw psycopg, the same settings locally {result['raw_local_ms']:.2f} ms")
    say(f"search_vector in process               {result['library_ms']:.2f} ms   {result['library_over_raw']:.2f} × raw")
    say(f"GET /api/search by text                {result['http_ms']:.2f} ms   {result['http_over_library_ms']:+.2f} ms on search")
    say(f"resident memory of this process        {result['rss_mb']:.0f} MB")
