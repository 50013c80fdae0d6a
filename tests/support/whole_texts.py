"""Articles with whole texts, made of items of the sample: what one sentence says stands in one text alone."""

from __future__ import annotations

import itertools
from functools import cache

from everindex.articles.importers import read_source, sample_source
from everindex.articles.model import Article

#: Items in one whole text: some 4,000 characters.
ITEMS = 20


@cache
def items(count: int) -> tuple[str, ...]:
    """The first summaries of the sample that differ, each of 60 characters or more, and none with a minus before a word,
    which would leave it out."""
    read = (row.summary for row in read_source(str(sample_source())) if isinstance(row, Article))
    long = (text.strip() for text in read if text and len(text) >= 60 and " -" not in text)
    return tuple(itertools.islice(dict.fromkeys(long), count))


def of_article(number: int) -> tuple[str, ...]:
    """The items that stand in the whole text of that article alone."""
    return items(40 * ITEMS)[number * ITEMS : (number + 1) * ITEMS]


def whole_text(number: int) -> str:
    return "\n\n".join(of_article(number))


def digests(count: int) -> list[Article]:
    """`count` articles, at most 40, whose titles and summaries say nothing of what their texts are about."""
    return [
        Article(
            uri=f"digest/{number}", title="Weekly digest", summary="What has changed this week.",
            category="even" if number % 2 == 0 else "odd", raw_text=whole_text(number),
        )
        for number in range(count)
    ]  # fmt: skip
