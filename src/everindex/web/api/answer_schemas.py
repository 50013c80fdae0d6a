"""The schemas of what the JSON API answers, as pydantic models; they document answers and parse nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from everindex.articles.model import (
    AnswerMode,
    FacetSource,
    Sort,
    Strategy,
)


class PassageOut(BaseModel):
    """The passage of an article's whole text that answers best."""

    text: str
    start: Annotated[int, Field(description="Where it begins in the whole text, in characters from 0.")]
    end: Annotated[int, Field(description="Where it ends, exclusive.")]
    number: Annotated[int, Field(description="Its place among the passages of the text, from 1.")]
    count: Annotated[int, Field(description="How many passages the text has.")]
    distance: Annotated[float | None, Field(description="Cosine distance of its vector; null where not compared.")]
    snippet: Annotated[str | None, Field(description="As safe HTML, with matches in <mark>.")]


DUPLICATES = "With group_duplicates: further hits that nearly repeat this one; absent where there are none."


class _HitOut(BaseModel):
    """What a search says of every hit."""

    distance: Annotated[float | None, Field(description="Cosine distance, 0 to 2; null without a vector to compare.")]
    similarity: Annotated[float | None, Field(description="1 − distance.")]
    title_snippet: Annotated[str | None, Field(description="The title as safe HTML, with matches in <mark>.")]
    snippet: Annotated[
        str | None, Field(description="The relevant part of the summary as safe HTML, with matches in <mark>.")
    ]
    semantic_rank: Annotated[int | None, Field(description="Rank in the semantic search, from 1.")]
    keyword_rank: Annotated[int | None, Field(description="Rank in the keyword search, from 1.")]
    score: Annotated[float | None, Field(description="Score of a hybrid or keyword search; higher is better.")]
    rerank_score: Annotated[
        float | None,
        Field(description="What the cross-encoder says of it; higher is better. Null if it was not re-ranked."),
    ]
    passage: Annotated[
        PassageOut | None, Field(description="Of the article's whole text; null where that has no part in the answer.")
    ]


class FacetValueOut(BaseModel):
    value: str | float | bool
    rows: int


class BucketOut(BaseModel):
    begins: Annotated[str, Field(description="A month or a year: 2024-02, 2024.")]
    rows: int


class HistogramOut(BaseModel):
    unit: Literal["month", "year"]
    buckets: Annotated[list[BucketOut], Field(description="Oldest first, without gaps.")]


class AnswerFacetsOut(BaseModel):
    source: Annotated[
        FacetSource,
        Field(description="The rows that were counted: those that pass the filters, have the words, or are nearest."),
    ]
    counted: int
    is_complete: Annotated[bool, Field(description="False where there are more such rows than were counted.")]
    values: dict[str, list[FacetValueOut]]
    histograms: Annotated[dict[str, HistogramOut], Field(description="Of columns that are dates.")]


class HitOut(_HitOut):
    uri: str
    title: str | None
    summary: str | None
    news_source: str | None
    category: str | None
    topic: str | None
    publication_date: str | None
    expires_at: Annotated[
        str | None, Field(description="From when on no search finds it, in UTC; absent where it does not expire.")
    ] = None
    duplicates: Annotated[list[HitOut], Field(description=DUPLICATES)] = []


class CollectionHitOut(_HitOut):
    key: Annotated[Any, Field(description="What identifies the row.")]
    fields: Annotated[dict[str, Any], Field(description="The columns of the collection.")]
    duplicates: Annotated[list[CollectionHitOut], Field(description=DUPLICATES)] = []


class _AnswerOut(BaseModel):
    """What every answer says beside its hits."""

    k: int
    mode: Annotated[AnswerMode, Field(description="browse: no text; the newest articles that match the filters.")]
    strategy: Strategy
    ef_search: int | None
    elapsed_ms: Annotated[float, Field(description="Time of the search in the database, in milliseconds.")]
    notices: Annotated[list[str], Field(description="Notes for people on the limits of this response.")]
    diversity: Annotated[float | None, Field(description="If set, hits are ordered for variety.")]
    next_cursor: Annotated[
        str | None, Field(description="Send it as `after` for the next page; null on the last page.")
    ]
    previous_cursor: Annotated[
        str | None,
        Field(
            description="Send it as `after` for the page before (empty: the first one); null on the first page, and beyond the "
            "first 1,000 articles."
        ),
    ]
    shown_before: Annotated[int, Field(description="Number of articles that the pages before have shown.")]
    sort: Annotated[Sort, Field(description="The order of the hits.")]
    reranked: Annotated[int, Field(description="How many candidates a cross-encoder has re-ranked.")] = 0
    reranked_by: Annotated[str | None, Field(description="The name of that model.")] = None
    facets: Annotated[AnswerFacetsOut | None, Field(description="Where the request names facets.")] = None
    total: Annotated[
        int,
        Field(
            description="Number of hits on all pages together: in mode browse of those that match the filters, by words of "
            "those that have the words. Absent where there is no such number."
        ),
    ] = 0
    total_is_estimate: Annotated[bool, Field(description="Whether total is an estimate by PostgreSQL.")] = False
    passing: Annotated[
        int,
        Field(
            description="Semantic and hybrid, under a filter: rows with a vector that pass it, where they were counted. Up to 30 "
            "seconds old."
        ),
    ] = 0
    passing_is_least: Annotated[bool, Field(description="Whether more than passing pass.")] = False
    total_is_least: Annotated[bool, Field(description="Whether there are more than total.")] = False


class AnswerOut(_AnswerOut):
    hits: list[HitOut]


class CollectionAnswerOut(_AnswerOut):
    hits: list[CollectionHitOut]


class CollectionOut(BaseModel):
    name: str
    table: str
    is_owned: Annotated[bool, Field(description="Whether everindex made the table.")]
    key: str
    text: list[str]
    vector: str
    metadata: list[str]
    metric: str
    type: Annotated[str | None, Field(description="vector or halfvec.")]
    dimensions: int | None
    passages: Annotated[str | None, Field(description="The column whose texts are split into passages.")]
    rows: int | None
    rows_are: Annotated[
        Literal["counted", "estimated", "at least"] | None,
        Field(description="estimated: by PostgreSQL; at least: there are more, and no estimate yet."),
    ]
    index: Annotated[str | None, Field(description="The vector index that serves searches; null while there is none.")]
    problem: Annotated[str | None, Field(description="Why the collection cannot be searched, where it cannot.")]


class RowOut(BaseModel):
    key: str
    fields: Annotated[dict[str, Any], Field(description="The columns of the collection.")]


class CollectionsOut(BaseModel):
    collections: list[CollectionOut]


class AnswersOut(BaseModel):
    answers: Annotated[list[AnswerOut], Field(description="One per query, in the same order.")]


class ArticleOut(BaseModel):
    uri: str
    title: str | None
    summary: str | None
    news_source: str | None
    publication_date: str | None
    submission_date: str | None
    category: str | None
    topic: str | None
    tags: list[str] | None
    sentiment: str | None
    sentiment_explanation: str | None
    future_signal: str | None
    future_signal_explanation: str | None
    time_to_impact: str | None
    time_to_impact_explanation: str | None
    driver_type: str | None
    driver_type_explanation: str | None
    analyzed: bool | None
    quality_score: float | None
    relevance_score: float | None
    raw_text: str | None
    expires_at: Annotated[str | None, Field(description="From when on no search finds it, in UTC; null: never.")]


class FacetOut(BaseModel):
    value: str
    articles: int


class FacetsOut(BaseModel):
    category: list[FacetOut]
    topic: list[FacetOut]
    news_source: list[FacetOut]


class ProblemOut(BaseModel):
    """RFC 9457 problem details; `next` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    next: str
    request_id: str | None = None
    """That of the response's X-Request-ID, and of the log."""
