"""The ranking of matches by reading their texts, where the words of the rows are not in memory.

Reading and parsing a match takes the server about 0.1 ms, so at most so many are ranked. The formula is that of the words in
memory (`postings.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from everindex.articles.search.keyword.postings import Best, Item, idf, length_norm, rounded_scores, term_weight
from everindex.articles.search.keyword.state import Known
from everindex.articles.search.keyword.statements import stems_of_items, words_of_matches
from everindex.articles.search.request.search_request import SearchRequest
from everindex.pg.connections import Connection

_COUNTED = np.dtype([("hash", ">u4"), ("times", ">i4")])


def best_of_texts(
    connection: Connection,
    known: Known,
    request: SearchRequest,
    parameters: Mapping[str, Any],
    *,
    items: Callable[[], Sequence[Item]],
    most: int,
    k: int,
) -> tuple[Best, float | None]:
    """The k best of at most `most` matches, and the full score where the query has a single stem: `items` is then not
    called.

    `parameters`: those of `words_of_matches`. `items`: the words and phrases of the query, counted.
    """
    found = known.texts.of(
        ("matches", most, *request.bound(known.table).shape),
        lambda: words_of_matches(known, request.filters, most=most + 1),
    ).run(connection, parameters)
    counted = [np.frombuffer(row[2] or b"", dtype=_COUNTED) for row in found]
    stems = sorted({int(stem) for one in counted for stem in one["hash"]})
    full_score = None
    if len(stems) <= 1:
        full_score = idf(known.estimated_rows, len(found))
        weights = dict.fromkeys(stems, full_score)
    else:
        weights = _idf_of(stems, items(), texts=known.estimated_rows)
    norms = length_norm(np.array([row[1] or 0 for row in found], dtype=np.int64))
    scores = np.zeros(len(found))
    for stem in stems:
        times = np.array([int(one["times"][one["hash"] == stem].sum()) for one in counted])
        scores += weights[stem] * term_weight(times, norms)
    scores = rounded_scores(scores)
    order = sorted(range(len(found)), key=lambda at: (-scores[at], found[at][0]))[:k]
    best = Best(marks=[found[at][0] for at in order], scores=[float(scores[at]) for at in order], matches=len(found))
    return best, full_score


def count_items(
    connection: Connection, known: Known, queries: Sequence[str], *, items_json: str, most: int
) -> list[Item]:
    """The words and phrases of a query, and how many rows have each, counted up to `most`. `items_json`: `queries` for the
    statement."""
    rows = known.texts.of(("items", most), lambda: stems_of_items(known, count_up_to=most)).run(
        connection, {"items": items_json}
    )
    return [
        Item(query=query, stems=tuple(np.frombuffer(stems, dtype=">u4").tolist()), having=having)
        for query, (stems, having) in zip(queries, rows, strict=True)
    ]


def _idf_of(stems: Sequence[int], items: Sequence[Item], *, texts: int) -> dict[int, float]:
    """The idf of each stem, of a spelling that joins two words that of the rarer of them."""
    least = min((item.having for item in items if item.stems), default=0)
    having = {stem: item.having for item in items for stem in item.stems}
    return {stem: idf(texts, having.get(stem, least)) for stem in stems}
