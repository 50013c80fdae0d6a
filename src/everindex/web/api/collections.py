"""The routes of the collections beside the articles: which there are, the search of each, its rows and its index."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from everindex.articles.collections.description import describe
from everindex.articles.model import VISIBLE
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.request.search_request import SearchRequest, choose_mode
from everindex.errors import QueryInapplicable, UsageError
from everindex.web.api.answer_schemas import CollectionAnswerOut, CollectionsOut, RowOut
from everindex.web.api.answers import answer_response
from everindex.web.api.export import EXPORTED, export_response, wanted_format
from everindex.web.api.inputs import read_json_as
from everindex.web.api.parameters import (
    After,
    Count,
    Diversity,
    Filter,
    GroupDuplicates,
    MinSimilarity,
    NearDuplicateDistance,
    WithoutNearDuplicates,
)
from everindex.web.api.routes import (
    MISSING,
    PROBLEMS,
    as_json,
    body_of,
    export_request,
    facets_of,
    index_answer,
    one_of_two,
    query_of,
)
from everindex.web.api.schemas import (
    CollectionBody,
    CollectionExportQuery,
    CollectionQuery,
)
from everindex.web.api.search import answer, vector_of, vector_of_base64
from everindex.web.http.inputs import read_query, read_where
from everindex.web.site import Site, site_of

Name = Annotated[str, Path(description="Name of the collection.")]
Key = Annotated[str, Query(description="What identifies the row, as text.")]

router = APIRouter(prefix="/api/collections", responses=PROBLEMS, tags=["collections"])


@router.get("", summary="Collections", response_model=CollectionsOut)
async def collections(request: Request) -> Any:
    """The collections beside the articles, by name, each with its columns and the index that serves its searches."""
    site = site_of(request)
    return as_json({"collections": await site.in_database(lambda: _listed(site))})


@router.get(
    "/{name}/search", summary="Search a collection by a text or a vector", response_model=CollectionAnswerOut,
    responses=MISSING, tags=["search"], openapi_extra=query_of(CollectionQuery),
)  # fmt: skip
async def search(request: Request, name: Name) -> Any:
    """As the search of the articles; each hit has its `key`, and the collection's columns as `fields`."""
    options = read_query(request, CollectionQuery)
    filters = read_where(options.filter)
    if options.q if options.vector else not VISIBLE.search(options.q) and filters.is_empty:
        raise one_of_two(QueryInapplicable)
    vector = vector_of_base64(options.vector) if options.vector else None
    return await _answered(request, name, _request(options, options.q if VISIBLE.search(options.q) else None, vector))


@router.post(
    "/{name}/search", summary="Search a collection by a vector or a text", response_model=CollectionAnswerOut,
    responses=MISSING, tags=["search"], openapi_extra=body_of(CollectionBody),
)  # fmt: skip
async def search_by_body(request: Request, name: Name) -> Any:
    """As GET, with a JSON body: `{"vector": [...], "k": 10}` or `{"text": "...", "filter": {"year": {"$gte": 2024}}}`."""
    return await _answered(request, name, await read_json_as(request, CollectionBody, _of_body))


@router.get(
    "/{name}/similar", summary="Rows similar to a row", response_model=CollectionAnswerOut, responses=MISSING, tags=["search"],
)  # fmt: skip
async def similar(
    request: Request,
    name: Name,
    key: Key,
    k: Count = 10,
    after: After = None,
    min_similarity: MinSimilarity = None,
    diversity: Diversity = None,
    filter: Filter = None,
    group_duplicates: GroupDuplicates = False,
    without_near_duplicates: WithoutNearDuplicates = False,
    near_duplicate_distance: NearDuplicateDistance = NEAR_DUPLICATE_DISTANCE,
) -> Any:
    """The k rows nearest to the row with that key, excluding the row itself."""
    site = site_of(request)
    filters = read_where(filter)
    collection = await site.collection(name)
    found = await site.in_database(
        lambda: collection.similar(
            key,
            k=k,
            filters=filters,
            after=after,
            min_similarity=min_similarity,
            diversity=diversity,
            group_duplicates=group_duplicates,
            without_near_duplicates=without_near_duplicates,
            near_duplicate_distance=near_duplicate_distance,
        )
    )
    return await answer_response(site, found)


@router.get("/{name}/row", summary="One row of a collection", response_model=RowOut, responses=MISSING)
async def row(request: Request, name: Name, key: Key) -> Any:
    """The row with that key, with the collection's columns as `fields`."""
    site = site_of(request)
    collection = await site.collection(name)
    return as_json({"key": key, "fields": await site.in_database(lambda: collection.row(key))})


@router.get("/{name}/index", summary="State of a collection's vector index", responses=MISSING)
async def index(request: Request, name: Name) -> Any:
    """As GET /api/index: checks (run in the background), definition, size, use and plan."""
    return await index_answer(await site_of(request).watch(name))


@router.get(
    "/{name}/export", summary="Export a search of a collection", tags=["search"], responses=MISSING | EXPORTED,
    response_class=Response, openapi_extra=query_of(CollectionExportQuery),
)  # fmt: skip
async def export(request: Request, name: Name) -> Response:
    """As the export of the articles; the columns are those of the collection, then what the search says of each row."""
    options = read_query(request, CollectionExportQuery)
    site = site_of(request)
    collection = await site.collection(name)
    made = export_request(options, read_where(options.filter))
    return await export_response(site, made, collection, format=wanted_format(request, options.format), limit=options.k)


async def _answered(request: Request, name: str, search_request: SearchRequest) -> Any:
    site = site_of(request)
    return await answer_response(site, await answer(site, search_request, await site.collection(name)))


def _of_body(body: CollectionBody) -> SearchRequest:
    """Raises UsageError, QueryInvalid."""
    has_filters = not read_where(body.filter).is_empty
    if (body.text is None) == (body.vector is None) and (body.text is not None or not has_filters):
        raise one_of_two(UsageError)
    return _request(body, body.text, None if body.vector is None else vector_of(body.vector))


def _request(options: CollectionQuery | CollectionBody, text: str | None, vector: np.ndarray | None) -> SearchRequest:
    filters = read_where(options.filter)
    return SearchRequest(
        mode=choose_mode(options.mode, text=text, vector=vector, filters=filters), text=text, vector=vector, k=options.k,
        filters=filters, ef_search=options.ef_search, exact=options.exact, after=options.after,
        min_similarity=options.min_similarity, diversity=options.diversity, facets=facets_of(options), rerank=options.rerank,
        group_duplicates=options.group_duplicates, sort=options.sort,
    )  # fmt: skip


def _listed(site: Site) -> list[dict[str, Any]]:
    instance = site.instance
    return [
        describe(spec, instance.collection(spec.name).engine.known, instance.reading.read)
        for spec in instance.collections()
    ]
