"""The routes of the saved searches: list, save, show, newest answers, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from everindex.articles.declared import ARTICLES
from everindex.articles.model import DEFAULT_MODE, MAX_K, Filters
from everindex.articles.saved_searches import NEWEST, filter_of, newest_first, newest_request
from everindex.web.api.answer_schemas import AnswerOut, CollectionAnswerOut, ProblemOut
from everindex.web.api.answers import answer_response
from everindex.web.api.inputs import read_json
from everindex.web.api.record_schemas import SavedSearchBody, SavedSearchesOut, SavedSearchOut
from everindex.web.api.routes import MISSING, PROBLEMS, as_json, body_of
from everindex.web.api.schemas import K
from everindex.web.api.search import answer
from everindex.web.site import site_of

Name = Annotated[str, Path(description="Name of the saved search.")]
TAGS: list[str] = ["saved searches"]
REFUSED: dict[int | str, dict[str, Any]] = {
    409: {
        "model": ProblemOut,
        "description": "A saved search of this name exists, a filter does not fit the table, or similarity has no text.",
    }
}

router = APIRouter(prefix="/api/saved", responses=PROBLEMS)


@router.get("", summary="Saved searches", response_model=SavedSearchesOut, tags=[*TAGS])
async def saved_searches(request: Request) -> Any:
    """All saved searches, by name. Each has a feed of its newest answers at `/saved/NAME.rss`."""
    site = site_of(request)
    found = await site.in_database(site.instance.saved_searches.all)
    return as_json({"saved_searches": [search.as_dict() for search in found]})


@router.post(
    "", summary="Save a search", response_model=SavedSearchOut, status_code=201, tags=[*TAGS], responses=MISSING | REFUSED,
    openapi_extra=body_of(SavedSearchBody),
)  # fmt: skip
async def new_saved_search(request: Request) -> Any:
    """Saves a search for a text, for what passes filters, or for both. Its name must be unique."""
    body = await read_json(request, SavedSearchBody)
    site = site_of(request)
    named = Filters(
        category=body.category, topic=body.topic, news_source=body.source, since=body.since, until=body.until
    )
    filters = filter_of(named, body.filter)
    saved = await site.in_database(
        lambda: site.instance.saved_searches.add(
            body.name,
            body.text,
            mode=body.mode or DEFAULT_MODE,
            filters=filters,
            min_similarity=body.min_similarity,
            collection=body.collection,
        )
    )
    return as_json(saved.as_dict(), status_code=201)


@router.get("/{name}", summary="One saved search", response_model=SavedSearchOut, responses=MISSING, tags=[*TAGS])
async def saved_search(request: Request, name: Name) -> Any:
    """The saved search of this name."""
    site = site_of(request)
    return as_json((await site.in_database(lambda: site.instance.saved_searches.find(name))).as_dict())


@router.delete("/{name}", summary="Remove a saved search", status_code=204, responses=MISSING, tags=[*TAGS])
async def removed_saved_search(request: Request, name: Name) -> Response:
    """Removes the saved search, and its feed with it. No article changes."""
    site = site_of(request)
    await site.in_database(lambda: site.instance.saved_searches.remove(name))
    return Response(status_code=204)


@router.get(
    "/{name}/newest", summary="Newest answers of a saved search", response_model=AnswerOut | CollectionAnswerOut,
    responses=MISSING, tags=[*TAGS, "search"],
)  # fmt: skip
async def newest(
    request: Request,
    name: Name,
    k: Annotated[int, Query(description=f"Number of articles to return, 1 to {MAX_K}.", json_schema_extra=K)] = NEWEST,
) -> Any:
    """The articles of its feed: the newest that answer the search, newest first."""
    site = site_of(request)
    search = await site.in_database(lambda: site.instance.saved_searches.find(name))
    collection = None if search.collection is None else await site.collection(search.collection)
    spec = ARTICLES if collection is None else collection.spec
    found = await answer(site, newest_request(search, spec, k=k), collection)
    return await answer_response(site, newest_first(found, search, spec, k=k))
