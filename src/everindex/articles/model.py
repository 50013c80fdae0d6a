"""What is an article, and what does a search answer? The dataclasses that store, search, API, pages and CLI share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

#: Columns every instance has; revision e0aa2eb4fa0a, search and verify need no others.
REQUIRED_COLUMNS = ("uri", "title", "summary", "news_source", "category", "topic", "publication_date")

#: Bounds that keep every row within what a btree entry can hold (2,704 bytes; PostgreSQL's nbtree.h BTMaxItemSize).
MAX_URI_BYTES = 2000
MAX_FILTER_BYTES = 500
#: A query longer than this is refused: no embedding model reads more, and none of ours reads more than 512 tokens.
MAX_QUERY_CHARS = 10_000
MAX_K = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One article as it is imported or shown. Dates are ISO-8601 text, as existing instances keep them."""

    uri: str
    title: str | None = None
    summary: str | None = None
    news_source: str | None = None
    publication_date: str | None = None
    submission_date: str | None = None
    category: str | None = None
    topic: str | None = None
    tags: tuple[str, ...] | None = None
    sentiment: str | None = None
    sentiment_explanation: str | None = None
    future_signal: str | None = None
    future_signal_explanation: str | None = None
    time_to_impact: str | None = None
    time_to_impact_explanation: str | None = None
    driver_type: str | None = None
    driver_type_explanation: str | None = None
    analyzed: bool | None = None
    quality_score: float | None = None
    relevance_score: float | None = None
    raw_text: str | None = None
    """The full text; goes to `raw_articles`."""

    @property
    def text_to_embed(self) -> str:
        """Title and summary as one text; a summary that opens with the title is not said twice."""
        title, summary = (self.title or "").strip(), (self.summary or "").strip()
        if not summary or summary.startswith(title):
            return summary or title
        return f"{title}\n\n{summary}"


#: Columns of `articles` that an import may write, in the order of the dataclass.
ARTICLE_COLUMNS = tuple(f.name for f in fields(Article) if f.name != "raw_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A row of a source that was left out: where it stands (1-based line or entry) and why."""

    source: str
    line: int
    reason: str
    uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which articles may answer; every part that is None lets all pass. Dates are inclusive ISO-8601 prefixes."""

    category: str | None = None
    topic: str | None = None
    news_source: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_empty(self) -> bool:
        return not any((self.category, self.topic, self.news_source, self.since, self.until))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One answer of a search: the article and how far it is from the query."""

    uri: str
    title: str | None
    summary: str | None
    news_source: str | None
    category: str | None
    topic: str | None
    publication_date: str | None
    distance: float
    """Cosine distance, 0 (same direction) to 2 (opposite): pgvector's `<=>`."""

    @property
    def similarity(self) -> float:
        """Cosine similarity, 1 − distance, 1 to −1."""
        return 1.0 - self.distance

    def as_dict(self) -> dict[str, Any]:
        """The hit as `--json` and the API give it."""
        return {
            "uri": self.uri,
            "title": self.title,
            "summary": self.summary,
            "news_source": self.news_source,
            "category": self.category,
            "topic": self.topic,
            "publication_date": self.publication_date,
            "distance": self.distance,
            "similarity": self.similarity,
        }


Strategy = Literal["index", "exact", "filtered-exact", "index-filtered", "none-match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a search found, how, and what the reader ought to know about it."""

    hits: list[Hit]
    k: int
    strategy: Strategy
    """index: approximate, through the HNSW index · index-filtered: the same, iterating until k rows pass the filter ·
    filtered-exact: exact over the rows that pass · exact: every row read · none-match: no row passes the filter."""

    ef_search: int | None
    elapsed_ms: float
    notices: list[str] = field(default_factory=list)
    """Sentences for people: no index serves at the moment, articles still without a vector, and so on."""

    def as_dict(self) -> dict[str, Any]:
        """The answer as `--json` and the API give it."""
        return {
            "hits": [hit.as_dict() for hit in self.hits],
            "k": self.k,
            "strategy": self.strategy,
            "ef_search": self.ef_search,
            "elapsed_ms": round(self.elapsed_ms, 3),
            "notices": self.notices,
        }
