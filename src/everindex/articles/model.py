"""Articles, filters, hits and answers: the dataclasses shared by import, search, the API, the pages and the commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from everindex.articles.shape.hit import Hit
from everindex.message_text import with_backticks

#: Columns that every instance has; revision e0aa2eb4fa0a, search and verify need no others.
REQUIRED_COLUMNS = ("uri", "title", "summary", "news_source", "category", "topic", "publication_date")

#: Limits that keep every row within the size of a btree entry (2,704 bytes; PostgreSQL's nbtree.h BTMaxItemSize).
MAX_URI_BYTES = 2000
MAX_FILTER_BYTES = 500
#: The limit of a filter in characters: no article value of at most this many bytes has more.
MAX_FILTER_CHARS = MAX_FILTER_BYTES
#: A longer query is refused: no embedding model reads more, and none of ours reads more than 512 tokens.
MAX_QUERY_CHARS = 10_000
MAX_K = 1000
#: A visible character: neither one that PostgreSQL, Python or a browser takes for space, nor a control character. Valid
#: in Python and in ECMA-262, whose patterns JSON Schema uses.
VISIBLE_PATTERN = r"[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"
VISIBLE = re.compile(VISIBLE_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryIdentity:
    """What distinguishes a feed entry from others with the same link (docs/decisions/0020)."""

    id_uri: str
    """The uri derived from its own id."""

    link: str | None = None
    former: tuple[str, ...] = ()
    """Uris that earlier versions derived for such an entry."""

    has_twin: bool = False
    """Another entry of its feed has the same link, title and dates but another id: only the ids distinguish them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One article as it is imported or shown. Dates are ISO-8601 text, as existing instances store them."""

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

    expires_at: str | None = None
    """From when on no search finds it, ISO-8601 in UTC; goes to `everindex_meta.article_expiry`. To store "never" takes it back,
    None leaves it as it is."""

    entry: EntryIdentity | None = field(default=None, compare=False, repr=False)
    """For a feed entry: the uris under which the table may already hold it. Not stored."""

    @property
    def text_to_embed(self) -> str:
        """Title and summary as one text; the title is not repeated where the summary begins with it."""
        title, summary = (self.title or "").strip(), (self.summary or "").strip()
        if not summary or summary.startswith(title):
            return summary or title
        return f"{title}\n\n{summary}"


#: The `expires_at` that takes an earlier one back.
NEVER = "never"
#: Fields of an article that a source may contain.
ARTICLE_FIELDS = tuple(f.name for f in fields(Article) if f.name != "entry")
#: Columns of `articles` that an import may write, in the order of the dataclass.
ARTICLE_COLUMNS = tuple(name for name in ARTICLE_FIELDS if name not in ("raw_text", "expires_at"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A row of a source that was left out: its position (1-based line or entry) and the reason."""

    source: str
    line: int
    reason: str
    uri: str | None = None
    is_note: bool = False
    """True for a note: the article is stored without an unreadable value, or a newer entry is stored instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which articles may be in the answer; None in a field means no restriction. Dates are inclusive ISO-8601 prefixes."""

    category: str | None = None
    topic: str | None = None
    news_source: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_empty(self) -> bool:
        return not any((self.category, self.topic, self.news_source, self.since, self.until))


Mode = Literal["semantic", "keyword", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: The default mode of a text search: it finds what either of the other modes finds (docs/decisions/0011).
DEFAULT_MODE: Mode = "hybrid"

#: The order of the hits of a search by text or vector.
Sort = Literal["relevance", "newest"]
SORTS: tuple[Sort, ...] = get_args(Sort)

#: How an answer was found: by one of the modes, or without a text by filters alone.
AnswerMode = Literal["semantic", "keyword", "hybrid", "browse"]

Strategy = Literal[
    "newest",
    "index",
    "index-filtered",
    "reranked",
    "reranked-filtered",
    "partial-index",
    "filtered-exact",
    "exact",
    "none-match",
    "keyword",
]


#: Makes the cursor of the page that begins after the first n hits of an answer; where near-duplicates are grouped, with what
#: the page has shown (search/request/cursor.py: Grouped).
CutAfter = Callable[[int, Any], str | None]

FacetSource = Literal["filters", "words", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetValue:
    """One value, and how many of the counted rows have it."""

    value: str | float | bool
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many of the counted rows are of each month or year, oldest first, those without any between them included."""

    unit: Literal["month", "year"]
    buckets: tuple[tuple[str, int], ...]
    """`2024-02` or `2024`, and the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """How often the values of some columns occur among the rows of a result."""

    source: FacetSource
    """Which rows were counted. filters: all that pass the filters · words: those that have the words of the text · nearest:
    the nearest in meaning."""

    counted: int
    is_complete: bool
    """False where there are more such rows than were counted; of the nearest always True, since there is no last one."""

    values: Mapping[str, tuple[FacetValue, ...]]
    """By name, the most frequent value first. A row counts once for each element of an array."""

    histograms: Mapping[str, Histogram]
    """By name, of columns that are dates."""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` and the API give it."""
        return {
            "source": self.source,
            "counted": self.counted,
            "is_complete": self.is_complete,
            "values": {
                name: [{"value": each.value, "rows": each.rows} for each in values]
                for name, values in self.values.items()
            },
            "histograms": {
                name: {"unit": each.unit, "buckets": [{"begins": text, "rows": rows} for text, rows in each.buckets]}
                for name, each in self.histograms.items()
            },
        }


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a search found, how, and what the reader should know about it. Treat it as read-only; not frozen, like Hit."""

    hits: list[Hit]
    k: int
    strategy: Strategy
    """index: approximate, through the HNSW index · index-filtered: the same, iterating until k rows pass the filter ·
    reranked, reranked-filtered: the same through an index of halfvec or bit codes, its candidates ranked by their
    vectors · partial-index: through an index that holds exactly the rows that pass the filter · filtered-exact: exact
    over the rows that pass the filter · exact: every row read · none-match: no row passes the filter · keyword: by words
    alone · newest: by date, without a text. For a hybrid search: the strategy of its semantic part."""

    ef_search: int | None
    elapsed_ms: float
    notices: list[str] = field(default_factory=list)
    """Sentences for people: no index is available at the moment, some articles have no vector yet, and so on."""

    reason: str = ""
    """Why this strategy was chosen, for people."""

    mode: AnswerMode = "semantic"
    """semantic: by meaning · keyword: by words · hybrid: both, fused by their ranks · browse: no text, the filters alone."""

    diversity: float | None = None
    """If set, the hits are in the order of maximal marginal relevance and not of distance or score."""

    total: int | None = None
    """How many hits all pages together have: when browsing those that pass the filters, by words those that have the words. None
    where there is no such number: every article is near in meaning to some degree."""

    total_is_estimate: bool = False
    """Whether `total` is PostgreSQL's estimate, since there are too many to count for each page."""

    total_is_least: bool = False
    """Whether there are more than `total`, and counting ended there."""

    passing: int | None = None
    """Of a search by meaning, or by meaning and words, under filters: how many rows with a vector pass them, where that was
    counted for the choice of the strategy; at most 30 seconds old."""

    passing_is_least: bool = False
    """Whether more pass than `passing`, and counting ended there."""

    shown_before: int = 0
    """How many articles the pages before this one have shown, near-duplicates among them."""

    sort: Sort = "relevance"
    """newest: the matches of a text or vector by date, newest first."""

    reranked: int = 0
    """How many candidates a cross-encoder has put in its order; the hits are the first of them."""

    reranked_by: str | None = None
    """The name of that model; None where nothing was re-ranked."""

    facets: Facets | None = None
    """How often values occur in the result, where the request names columns."""

    back: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Makes `previous_cursor`, on demand."""

    more: Callable[[], str | None] | None = field(default=None, repr=False, compare=False)
    """Makes `next_cursor`, on demand because most callers never read it."""

    cursor_after: CutAfter | None = field(default=None, repr=False, compare=False)
    """See `CutAfter`; None where no page can follow."""

    @property
    def is_exact(self) -> bool:
        """Whether every row that passes the filters was compared, so that no nearer one is missing."""
        return self.strategy in ("exact", "filtered-exact", "none-match")

    @property
    def shown(self) -> int:
        """How many articles this page shows: its hits, and those that are grouped under them."""
        return len(self.hits) + sum(len(hit.duplicates) for hit in self.hits)

    @property
    def next_cursor(self) -> str | None:
        """Pass it as `after` for the next page of the same search; None when there is no next page."""
        return None if self.more is None else self.more()

    @property
    def previous_cursor(self) -> str | None:
        """Pass it as `after` for the page before this one, as it is now: empty where that is the first one. None on the first
        page, and beyond the first 1,000 articles."""
        return None if self.back is None else self.back()

    def as_dict(self) -> dict[str, Any]:
        """The answer as `--json` and the API return it."""
        return {"hits": [hit.as_dict() for hit in self.hits], **self.without_hits()}

    def without_hits(self) -> dict[str, Any]:
        """The answer as a dict without its hits."""
        content: dict[str, Any] = {}
        if self.passing is not None:
            content = {"passing": self.passing, "passing_is_least": self.passing_is_least}
        if self.total is not None:
            content |= {
                "total": self.total,
                "total_is_estimate": self.total_is_estimate,
                "total_is_least": self.total_is_least,
            }
        content |= {} if self.facets is None else {"facets": self.facets.as_dict()}
        ranked = {} if self.reranked_by is None else {"reranked": self.reranked, "reranked_by": self.reranked_by}
        return (
            content
            | ranked
            | {
                "k": self.k,
                "mode": self.mode,
                "strategy": self.strategy,
                "reason": self.reason,
                "ef_search": self.ef_search,
                "elapsed_ms": round(self.elapsed_ms, 3),
                "notices": [with_backticks(notice) for notice in self.notices],
                "diversity": self.diversity,
                "sort": self.sort,
                "shown_before": self.shown_before,
                "previous_cursor": self.previous_cursor,
                "next_cursor": self.next_cursor,
            }
        )
