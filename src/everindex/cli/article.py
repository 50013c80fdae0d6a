"""`everindex article` and `everindex similar`: one article or row, and those nearest to it in meaning."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.cli.collection_option import CollectionOption
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.search import (
    AfterOption,
    DiversityOption,
    GroupDuplicatesOption,
    MinSimilarityOption,
    print_answer,
)
from everindex.cli.waiting import WaitOption, open_instance

UriArgument = Annotated[
    str, typer.Argument(help="URI of the article, or key of the collection's row, as printed by search.")
]


def article(
    uri: UriArgument, collection: CollectionOption = None, wait: WaitOption = None, as_json: JsonOption = False
) -> None:
    with open_instance(wait) as instance:
        found = instance.article(uri) if collection is None else instance.collection(collection).row(uri)
    values = found if isinstance(found, dict) else dataclasses.asdict(found)
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        if value is not None:
            say(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}")


def similar(
    uri: UriArgument,
    k: Annotated[int, typer.Option("-k", "--k", help="Number of articles, 1 to 1000.")] = 10,
    after: AfterOption = None,
    min_similarity: MinSimilarityOption = None,
    diversity: DiversityOption = None,
    group_duplicates: GroupDuplicatesOption = False,
    without_near_duplicates: Annotated[
        bool, typer.Option("--without-near-duplicates", help="Omit near-duplicates of the article and of each other.")
    ] = False,
    near_duplicate_distance: Annotated[
        float,
        typer.Option("--near-duplicate-distance", help="Cosine distance below which two articles are near-duplicates."),
    ] = NEAR_DUPLICATE_DISTANCE,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    with open_instance(wait) as instance:
        target = instance if collection is None else instance.collection(collection)
        answer = target.similar(
            uri,
            k=k,
            after=after,
            min_similarity=min_similarity,
            diversity=diversity,
            group_duplicates=group_duplicates,
            without_near_duplicates=without_near_duplicates,
            near_duplicate_distance=near_duplicate_distance,
        )
    if as_json:
        print_json(answer.as_dict())
    else:
        print_answer(answer)
