"""Articles of a few plain words, and what a search by keyword must answer over them: counted in Python."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from everindex.articles.model import Article

#: English stems leave each of them apart from the others, and none is a stop word.
WORDS = ("tiger", "zebra", "lemon", "piano", "rocket", "violin", "canyon", "walnut", "falcon", "meadow")
CATEGORIES = ("one", "two")


def animals(count: int = 300) -> list[Article]:
    """The same ones every time; some lack a title or a summary."""
    chance = random.Random(11)
    return [
        Article(
            uri=f"a{number:03}",
            title=None if chance.random() < 0.1 else " ".join(chance.choices(WORDS, k=chance.randint(1, 4))),
            summary=None if chance.random() < 0.2 else " ".join(chance.choices(WORDS, k=chance.randint(1, 8))),
            category=chance.choice(CATEGORIES),
            publication_date=f"20{chance.randint(10, 24)}-0{chance.randint(1, 9)}-01",
        )
        for number in range(count)
    ]


def words_in(article: Article) -> list[str]:
    """In the order of the document: the title's, then the summary's."""
    return f"{article.title or ''} {article.summary or ''}".split()


def rank_of_word(article: Article, word: str, *, having: int, rows: int) -> float:
    """What BM25 gives for a single word that `having` of `rows` articles have: 1.2, 0.5 and a usual length of 50 words are its
    constants, and a word of the title counts as two."""
    times = 2 * (article.title or "").split().count(word) + (article.summary or "").split().count(word)
    idf = math.log(1 + (rows - having + 0.5) / (having + 0.5))
    return idf * times * 2.2 / (times + 1.2 * (0.5 + 0.5 * length(article) / 50))


def length(article: Article) -> int:
    """In words, each of the title counted twice."""
    return 2 * len((article.title or "").split()) + len((article.summary or "").split())


def has_phrase(article: Article, phrase: Sequence[str]) -> bool:
    words = words_in(article)
    return any(words[start : start + len(phrase)] == list(phrase) for start in range(len(words)))
