"""The schemas of what people record over the API: incidents with links and notes, saved searches, deletion and expiry."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from everindex.articles.incident_records import MAX_NOTE_CHARS, LinkKind
from everindex.articles.incidents import MAX_NAME_CHARS, offered_statuses
from everindex.articles.model import VISIBLE_PATTERN, Mode
from everindex.articles.saved_searches import MAX_NAME_CHARS as MAX_SAVED_NAME_CHARS
from everindex.articles.saved_searches import NAME_PATTERN
from everindex.web.api.schemas import DAY, FILTER, MODE, NULL, SIMILARITY, TEXT, VALUE, given

NAME: JsonDict = {"minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": rf"^[^\x00]*{VISIBLE_PATTERN}[^\x00]*$"}
NOTE: JsonDict = NAME | {"maxLength": MAX_NOTE_CHARS}
SAVED_NAME: JsonDict = {"minLength": 1, "maxLength": MAX_SAVED_NAME_CHARS, "pattern": NAME_PATTERN}
ONE_TARGET: JsonDict = {
    "oneOf": [
        given("article", {"type": "string"}, saved_search=NULL, query=NULL),
        given("saved_search", {"type": "string"}, article=NULL, query=NULL),
        given("query", {"type": "string"}, article=NULL, saved_search=NULL),
    ]
}
#: A text, filters, or both.
TEXT_OR_FILTERS: JsonDict = {
    "anyOf": [
        given("text", {"type": "string"}),
        *(
            given(name, {"type": "string", "minLength": 1})
            for name in ("category", "topic", "source", "since", "until")
        ),
        given("filter", {"type": "object", "minProperties": 1}),
    ]
}


def _offered(schema: JsonDict) -> None:
    """Adds the statuses in this process's settings, which a static type could not know."""
    schema["enum"] = list(offered_statuses())


def _offered_first(schema: JsonDict) -> None:
    _offered(schema)
    schema["default"] = offered_statuses()[0]


class IncidentBody(BaseModel):
    """An incident to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    incident_name: str = Field(json_schema_extra=NAME)
    topic: str = Field(json_schema_extra=NAME)
    status: str = Field(
        default_factory=lambda: offered_statuses()[0],
        description="One of EVERINDEX_INCIDENT_STATUSES.",
        json_schema_extra=_offered_first,
    )


class IncidentChangeBody(IncidentBody):
    """The incident to change, and its new status."""

    status: str = Field(
        description="One of EVERINDEX_INCIDENT_STATUSES, or the current status of the incident.",
        json_schema_extra=_offered,
    )


class LinkBody(BaseModel):
    """The incident, and one of what it may be linked to."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=ONE_TARGET)

    incident_name: str = Field(json_schema_extra=NAME)
    topic: str = Field(json_schema_extra=NAME)
    article: str | None = Field(None, description="The uri of an article.")
    saved_search: str | None = Field(None, description="The name of a saved search.")
    query: str | None = Field(None, description="A text to search for.", json_schema_extra=TEXT)


class NoteBody(BaseModel):
    """The incident, and a note to it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    incident_name: str = Field(json_schema_extra=NAME)
    topic: str = Field(json_schema_extra=NAME)
    text: str = Field(description="The note. Nothing changes it later.", json_schema_extra=NOTE)


class SavedSearchBody(BaseModel):
    """A search to save: a text, filters, or both."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=TEXT_OR_FILTERS)

    name: str = Field(description="It names the feed: /saved/NAME.rss.", json_schema_extra=SAVED_NAME)
    text: str | None = Field(None, description="Text to search for.", json_schema_extra=TEXT)
    mode: Mode | None = Field(None, description=MODE)
    category: str | None = Field(None, description="Only articles of this category.", json_schema_extra=VALUE)
    topic: str | None = Field(None, description="Only articles of this topic.", json_schema_extra=VALUE)
    source: str | None = Field(None, description="Only articles of this news_source.", json_schema_extra=VALUE)
    since: str | None = Field(None, description="First date, as in a search.", json_schema_extra=DAY)
    until: str | None = Field(None, description="Last date, inclusive.", json_schema_extra=DAY)
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    min_similarity: float | None = Field(
        None,
        description="How similar an article must be to be among the newest answers; if omitted, these are taken of the most "
        "similar ones.",
        json_schema_extra=SIMILARITY,
    )
    collection: str | None = Field(
        None, description="The collection to search instead of the articles; filter names its columns."
    )


class ExpiryBody(BaseModel):
    """Articles, and when they expire."""

    model_config = ConfigDict(extra="forbid", strict=True)

    uris: list[str] = Field(min_length=1, max_length=1000)
    expires_at: dt.datetime | None = Field(description="Without a zone UTC; null: never.")


class IncidentOut(BaseModel):
    incident_name: str
    topic: str
    status: str
    created_at: str | None
    updated_at: str | None


class IncidentsOut(BaseModel):
    incidents: list[IncidentOut]


class LinkOut(BaseModel):
    kind: LinkKind
    target: Annotated[str, Field(description="The uri, the name of the saved search, or the text.")]
    title: Annotated[str | None, Field(description="Of an article: as it is, or where it is gone as it was.")]
    is_gone: Annotated[bool, Field(description="Whether the article or saved search no longer exists.")]
    linked_at: str


class NoteOut(BaseModel):
    text: str
    noted_at: str


class IncidentRecordOut(BaseModel):
    incident: IncidentOut
    links: Annotated[list[LinkOut], Field(description="The newest first, at most 500.")]
    notes: Annotated[list[NoteOut], Field(description="The newest first, at most 500.")]


class SavedSearchOut(BaseModel):
    name: str
    text: Annotated[str | None, Field(description="null: the filters alone.")]
    mode: Mode
    filter: Annotated[dict[str, Any], Field(description="A condition of the filter language; the named filters in it.")]
    min_similarity: float | None
    collection: Annotated[str | None, Field(description="null: the articles.")]
    saved_at: str | None


class SavedSearchesOut(BaseModel):
    saved_searches: list[SavedSearchOut]


class DeletedOut(BaseModel):
    deleted: int
    matching: Annotated[int, Field(description="Rows that the keys and filters name.")]
    dry_run: bool


class ExpiryOut(BaseModel):
    articles: Annotated[int, Field(description="How many of the uris are articles.")]
