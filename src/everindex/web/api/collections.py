"""The routes of the collections beside the articles: which there are, and the search of each."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request

from everindex.articles.collections.collection import Collection
from everindex.articles.model import VISIBLE
from everindex.articles.search.request import SearchRequest, choose_mode
from everindex.errors import EverindexError, QueryInapplicable, UsageError
from everindex.web.api.answers import answer_response
from everindex.web.api.inputs import read_json_as
from everindex.web.api.routes import MISSING, PROBLEMS, as_json, body_of, facets_of, one_of_two, query_of
from everindex.web.api.schemas import CollectionAnswerOut, CollectionBody, CollectionQuery, CollectionsOut
from everindex.web.api.search import answer, vector_of, vector_of_base64
from everindex.web.http.inputs import read_query, read_where
from everindex.web.site import Site, site_of

Name = Annotated[str, Path(description="Name of the collection.")]

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
    asked = read_query(request, CollectionQuery)
    filters = read_where(asked.filter)
    if asked.q if asked.vector else not VISIBLE.search(asked.q) and filters.is_empty:
        raise one_of_two(QueryInapplicable)
    vector = vector_of_base64(asked.vector) if asked.vector else None
    return await _answered(request, name, _request(asked, asked.q if VISIBLE.search(asked.q) else None, vector))


@router.post(
    "/{name}/search", summary="Search a collection by a vector or a text", response_model=CollectionAnswerOut,
    responses=MISSING, tags=["search"], openapi_extra=body_of(CollectionBody),
)  # fmt: skip
async def search_by_body(request: Request, name: Name) -> Any:
    """As GET, with a JSON body: `{"vector": [...], "k": 10}` or `{"text": "...", "filter": {"year": {"$gte": 2024}}}`."""
    return await _answered(request, name, await read_json_as(request, CollectionBody, _of_body))


async def _answered(request: Request, name: str, asked: SearchRequest) -> Any:
    site = site_of(request)
    collection = await site.in_database(lambda: site.instance.collection(name))
    return await answer_response(site, await answer(site, asked, collection))


def _of_body(body: CollectionBody) -> SearchRequest:
    """Raises UsageError, QueryInvalid."""
    has_filters = not read_where(body.filter).is_empty
    if (body.text is None) == (body.vector is None) and (body.text is not None or not has_filters):
        raise one_of_two(UsageError)
    return _request(body, body.text, None if body.vector is None else vector_of(body.vector))


def _request(asked: CollectionQuery | CollectionBody, text: str | None, vector: np.ndarray | None) -> SearchRequest:
    filters = read_where(asked.filter)
    return SearchRequest(
        mode=choose_mode(asked.mode, text=text, vector=vector, filters=filters), text=text, vector=vector, k=asked.k,
        filters=filters, ef_search=asked.ef_search, exact=asked.exact, after=asked.after,
        min_similarity=asked.min_similarity, diversity=asked.diversity, facets=facets_of(asked), rerank=asked.rerank,
    )  # fmt: skip


def _listed(site: Site) -> list[dict[str, Any]]:
    return [_told(site.instance.collection(spec.name)) for spec in site.instance.collections()]


def _told(collection: Collection) -> dict[str, Any]:
    """A collection as it is now; one whose table is gone says so."""
    spec = collection.spec
    told: dict[str, Any] = {
        "name": spec.name, "table": f"{spec.schema}.{spec.table}", "key": spec.key, "text": list(spec.text),
        "vector": spec.vector, "metadata": list(spec.metadata), "metric": spec.metric, "dimensions": None, "rows": None,
        "index": None, "problem": None,
    }  # fmt: skip
    try:
        table, serving = collection.engine.known()
    except EverindexError as exc:
        return told | {"problem": f"{exc.slug}: {exc.what}"}
    return told | {"dimensions": table.dimensions, "rows": serving.estimated_rows, "index": serving.index_name}
