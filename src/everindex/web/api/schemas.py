"""The schemas of what the JSON API takes, as pydantic models that parse addresses and bodies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from everindex.articles.export import MAX_EXPORT, ExportFormat
from everindex.articles.model import (
    DEFAULT_MODE,
    MAX_FILTER_CHARS,
    MAX_K,
    MAX_QUERY_CHARS,
    VISIBLE_PATTERN,
    Mode,
    Sort,
)
from everindex.articles.search.filters.conditions import MAX_JSON_CHARS
from everindex.articles.search.filters.days import DATE_PATTERN
from everindex.articles.search.filters.facets import MAX_FACETS
from everindex.articles.search.request.options import MAX_RERANK
from everindex.index.spec import MAX_EF_SEARCH

MODE = (
    f"How a text is searched: hybrid (by meaning and by words), semantic or keyword; default {DEFAULT_MODE}. "
    "A vector is always searched semantically."
)

#: The maximum number of searches in one request.
MOST_AT_ONCE = 100

AFTER = "The next_cursor or previous_cursor of another page of the same search."
MIN_SIMILARITY = "Minimum similarity, −1 to 1; the response may then have fewer than k articles."
FILTER = (
    'A condition on any column or JSON member: {"year": {"$gte": 2024}, "$or": [{"lang": "en"}, {"lang": "de"}]}, with $eq, '
    "$ne, $in, $nin, $gt, $gte, $lt, $lte, $between, $like, $ilike, $exists, $and, $or and $not (/manual/searching). "
    "Holds together with the other filters; one that does not fit the table is refused with status 409."
)
FACETS = (
    "Columns, or members of JSON columns, whose values are counted over the result: the rows that pass the filters, or that "
    "have the words of the text, or in a search by meaning the nearest 100."
)
DIVERSITY = "Prefer varied results: 0 (off) to 1. Cannot be combined with pages."

SORT = (
    "newest: the matches of the text by date and not by relevance: all that have the words; where none has them, and in a "
    "search by meaning, the best 100."
)
GROUP_DUPLICATES = "List near-duplicates as `duplicates` of the first of them, so that k different ones are returned."
RERANK = f"Candidates that the cross-encoder re-ranks, 0 (none) to {MAX_RERANK}. Not with pages or diversity."

# Rules that the library checks with its own messages; here they are only documented.
K: JsonDict = {"minimum": 1, "maximum": MAX_K}
EF_SEARCH: JsonDict = {"minimum": 1, "maximum": MAX_EF_SEARCH}
SIMILARITY: JsonDict = {"minimum": -1, "maximum": 1}
SHARE: JsonDict = {"minimum": 0, "maximum": 1}
CANDIDATES: JsonDict = {"minimum": 0, "maximum": MAX_RERANK}
#: The range of cosine distances; at 0 nothing would be a near-duplicate.
DISTANCE: JsonDict = {"exclusiveMinimum": 0, "maximum": 2}
TEXT: JsonDict = {"minLength": 1, "maxLength": MAX_QUERY_CHARS, "pattern": VISIBLE_PATTERN}
VALUE: JsonDict = {"maxLength": MAX_FILTER_CHARS, "pattern": r"^[^\x00]*$"}
DAY: JsonDict = {"pattern": f"^(?:{DATE_PATTERN})?$"}
#: The range of float32. The width of a vector depends on the table, so a mismatch (or a zero vector) is a 409 and not
#: part of the schema.
_FLOAT32_MAX = 3.4028234663852886e38
NUMBER: JsonDict = {"minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX}
SOME: JsonDict = {"minItems": 1}
#: base64 in either alphabet, padded or not, with 4 bytes per number.
_64 = "[A-Za-z0-9+/_-]"
BASE64: JsonDict = {"pattern": f"^(?:{_64}{{16}})*(?:{_64}{{6}}(?:==)?|{_64}{{11}}=?)?$"}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: 10.0 is a whole number in JSON, like 10.
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, Field(json_schema_extra=NUMBER)]


def given(member: str, rule: JsonDict, **others: JsonDict) -> JsonDict:
    """The rule that `member` is present and satisfies `rule`, together with further rules for other members."""
    return {"required": [member], "properties": {member: rule, **others}}


NULL: JsonDict = {"type": "null"}
_LIST: JsonDict = {"type": "array"}
ONE_OF_TWO: JsonDict = {"oneOf": [given("texts", _LIST, vectors=NULL), given("vectors", _LIST, texts=NULL)]}
#: A text; a vector, which has no words to search for; or filters only.
TEXT_VECTOR_OR_FILTERS: JsonDict = {
    "oneOf": [
        given("text", {"type": "string"}, vector=NULL),
        given("vector", _LIST, text=NULL, mode={"enum": ["semantic", None]}),
        {
            "properties": {"text": NULL, "vector": NULL},
            "anyOf": [
                *(
                    given(name, {"type": "string", "minLength": 1})
                    for name in ("category", "topic", "source", "since", "until")
                ),
                given("filter", {"type": "object", "minProperties": 1}),
            ],
        },
    ]
}


#: The same of a collection, which has no named filters.
TEXT_VECTOR_OR_FILTER: JsonDict = {
    "oneOf": [
        given("text", {"type": "string"}, vector=NULL),
        given("vector", _LIST, text=NULL, mode={"enum": ["semantic", None]}),
        {
            "properties": {"text": NULL, "vector": NULL, "filter": {"type": "object", "minProperties": 1}},
            "required": ["filter"],
        },
    ]
}


class _Limits(BaseModel):
    """The options of every search, of any table."""

    k: Whole = Field(10, description=f"Number of hits to return (per search), 1 to {MAX_K}.", json_schema_extra=K)
    ef_search: Whole | None = Field(
        None, description="hnsw.ef_search, 1 to 1000; chosen from k if omitted.", json_schema_extra=EF_SEARCH
    )
    min_similarity: float | None = Field(None, description=MIN_SIMILARITY, json_schema_extra=SIMILARITY)


class _Bounds(_Limits):
    """The same with the named filters of articles."""

    category: str | None = Field(None, description="Only articles of this category.", json_schema_extra=VALUE)
    topic: str | None = Field(None, description="Only articles of this topic.", json_schema_extra=VALUE)
    source: str | None = Field(None, description="Only articles of this news_source.", json_schema_extra=VALUE)
    since: str | None = Field(
        None, description="First date, ISO-8601 or a prefix of it: 2023, 2023-02, 2023-02-07.", json_schema_extra=DAY
    )
    until: str | None = Field(None, description="Last date, inclusive, as `since`.", json_schema_extra=DAY)


class _Ways(BaseModel):
    """How one search is answered."""

    exact: bool = Field(False, description="Read every row instead of using the index: slow, but exact.")
    mode: Mode | None = Field(None, description=MODE)


class _Options(_Ways):
    """The options of a single search."""

    after: str | None = Field(None, description=AFTER)
    sort: Sort = Field("relevance", description=SORT)
    diversity: float | None = Field(None, description=DIVERSITY, json_schema_extra=SHARE)
    rerank: Whole | None = Field(None, description=RERANK, json_schema_extra=CANDIDATES)
    group_duplicates: bool = Field(False, description=GROUP_DUPLICATES)


class _Asked(BaseModel):
    """What is searched for, by URL parameters."""

    filter: str | None = Field(None, description=f"{FILTER} As JSON.", json_schema_extra={"maxLength": MAX_JSON_CHARS})
    q: str = Field("", description="Text to search for.", json_schema_extra={"maxLength": MAX_QUERY_CHARS})
    vector: str | None = Field(
        None, description="Instead of q: base64 of little-endian float32 numbers.", json_schema_extra=BASE64
    )


class _ByAddress(_Asked):
    facets: str | None = Field(
        None, description=f"{FACETS} Separated by commas.", max_length=2000,
        pattern=rf"^[^,]{{0,200}}(,[^,]{{0,200}}){{0,{MAX_FACETS - 1}}}$",
    )  # fmt: skip


class _ByBody(BaseModel):
    facets: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], description=FACETS, max_length=MAX_FACETS
    )
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    text: str | None = Field(None, description="Text to search for.", json_schema_extra=TEXT)
    vector: list[Number] | None = Field(
        None, description="Query vector with the dimensions of the column, not zero.", json_schema_extra=SOME
    )


class _ManyByBody(BaseModel):
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    texts: list[Annotated[str, Field(json_schema_extra=TEXT)]] | None = Field(
        None, description="Texts to search for.", max_length=MOST_AT_ONCE
    )
    vectors: list[Annotated[list[Number], Field(json_schema_extra=SOME)]] | None = Field(
        None, description="Query vectors with the dimensions of the column, not zero.", max_length=MOST_AT_ONCE
    )


class SearchQuery(_Bounds, _Options, _ByAddress):
    """A search by URL parameters: a text or a vector."""


class SearchBody(_Bounds, _Options, _ByBody):
    """A search by a text, by a vector, or by filters only."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=TEXT_VECTOR_OR_FILTERS)


class CollectionQuery(_Limits, _Options, _ByAddress):
    """A search of a collection by URL parameters."""


class _Export(BaseModel):
    """What an export takes in place of pages."""

    k: Whole = Field(
        MAX_K,
        description=f"Number of hits to export, 1 to {MAX_EXPORT}.",
        json_schema_extra={**K, "maximum": MAX_EXPORT},
    )
    format: ExportFormat | None = Field(
        None, description="If omitted, the first of the header Accept that is known, else jsonl."
    )


class ExportQuery(_Export, _Bounds, _Ways, _Asked):
    """An export by URL parameters."""

    sort: Sort = Field("relevance", description=SORT)


class CollectionExportQuery(_Export, _Limits, _Ways, _Asked):
    """An export of a collection by URL parameters."""

    sort: Sort = Field("relevance", description=SORT)


class CollectionBody(_Limits, _Options, _ByBody):
    """A search of a collection by a text, by a vector, or by a filter only."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=TEXT_VECTOR_OR_FILTER)


class SearchManyBody(_Bounds, _ManyByBody):
    """Several semantic searches at once: either texts or vectors."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=ONE_OF_TWO)
