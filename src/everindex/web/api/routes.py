"""The routes of the JSON API: searches, articles, incidents, the state of the index; described at /docs."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from everindex.articles.model import VISIBLE
from everindex.articles.search.filters import AnyFilters
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.request.search_request import SearchRequest, choose_mode
from everindex.errors import QueryInapplicable, UsageError
from everindex.web.api.answer_schemas import AnswerOut, AnswersOut, ArticleOut, FacetsOut, ProblemOut
from everindex.web.api.answers import answer_response, answers_response, require_hits_within_limit
from everindex.web.api.export import EXPORTED, export_response, wanted_format
from everindex.web.api.inputs import read_json, read_json_as
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
from everindex.web.api.record_schemas import IncidentBody, IncidentChangeBody, IncidentOut, IncidentsOut
from everindex.web.api.schemas import (
    CollectionBody,
    CollectionExportQuery,
    CollectionQuery,
    ExportQuery,
    SearchBody,
    SearchManyBody,
    SearchQuery,
)
from everindex.web.api.search import answer, answer_many, vector_of, vector_of_base64
from everindex.web.http.inputs import as_filter, read_filters, read_query
from everindex.web.http.viewer import VIEWER
from everindex.web.index_watch import IndexWatch
from everindex.web.site import site_of

CHANGE_STATUS = "change_status"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {
        "model": ProblemOut,
        "description": "The database role lacks a privilege, or the request came from another site.",
    },
    422: {"model": ProblemOut, "description": "The request is not valid."},
    503: {
        "model": ProblemOut,
        "description": "Temporarily unavailable: the database or the embedding endpoint does not respond, or the "
        "database is read-only.",
    },
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ProblemOut, "description": "Not found."}}
CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        "links": {
            "status": {
                "description": "Change the status of an incident.",
                "operationId": CHANGE_STATUS,
                "requestBody": {
                    "incident_name": "$response.body#/incident_name",
                    "topic": "$response.body#/topic",
                    "status": "resolved",
                },
            }
        }
    },
    409: {"model": ProblemOut, "description": "An incident with this name and topic already exists."},
}

router = APIRouter(prefix="/api", responses=PROBLEMS)


def as_json(value: Any, status_code: int = 200) -> Response:
    """A JSON response of plain values and dataclasses, without a pydantic model in between."""
    return Response(to_json(value), status_code=status_code, media_type="application/json")


def body_of(model: type[Any]) -> dict[str, Any]:
    """The OpenAPI of a route whose body is read as `model`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def query_of(model: type[BaseModel]) -> dict[str, Any]:
    """The same of one whose query is."""
    schema = model.model_json_schema()
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": member,
             "description": member.pop("description", "")}
            for name, member in schema["properties"].items()
        ]
    }  # fmt: skip


@router.get(
    "/search", summary="Search by a text or a vector", response_model=AnswerOut, tags=["search"],
    openapi_extra=query_of(SearchQuery),
)  # fmt: skip
async def search(request: Request) -> Any:
    """The k articles that answer `q` best (or are nearest to `vector`), best first, among those that pass the filters.

    With filters only: the newest articles that pass them; `total` is how many do."""
    options = read_query(request, SearchQuery)
    if options.q if options.vector else not VISIBLE.search(options.q) and _filters_of(options).is_empty:
        raise one_of_two(QueryInapplicable)
    vector = vector_of_base64(options.vector) if options.vector else None
    site = site_of(request)
    found = await answer(site, _request(options, options.q if VISIBLE.search(options.q) else None, vector))
    return await answer_response(site, found)


@router.post(
    "/search", summary="Search by a vector or a text", response_model=AnswerOut, tags=["search"],
    openapi_extra=body_of(SearchBody),
)  # fmt: skip
async def search_by_body(request: Request) -> Any:
    """As GET, with a JSON body: `{"vector": [...], "k": 10}` or `{"text": "...", "category": "..."}`."""
    search_request = await read_json_as(request, SearchBody, _of_body)
    site = site_of(request)
    return await answer_response(site, await answer(site, search_request))


@router.post(
    "/search/many", summary="Several searches in one request", response_model=AnswersOut, tags=["search"],
    openapi_extra=body_of(SearchManyBody),
)  # fmt: skip
async def search_many(request: Request) -> Any:
    """Up to 100 semantic searches in one round trip to the database: `{"texts": ["...", "..."]}` or `{"vectors": [[...]]}`."""
    search_request, texts, vectors = await read_json_as(request, SearchManyBody, _several)
    site = site_of(request)
    return await answers_response(site, await answer_many(site, search_request, texts, vectors))


@router.get(
    "/export", summary="Export a search", tags=["search"], responses=EXPORTED, response_class=Response,
    openapi_extra=query_of(ExportQuery),
)  # fmt: skip
async def export(request: Request) -> Response:
    """The first k hits of a search as a file, sent while it is read: CSV, JSON Lines or Parquet.

    With neither `q` nor `vector`: the newest articles that pass the filters, all without filters. Columns are those of an
    article, then what the search says of it. In CSV a text that a spreadsheet would run as a formula begins with an
    apostrophe."""
    options = read_query(request, ExportQuery)
    site = site_of(request)
    made = export_request(options, _filters_of(options))
    return await export_response(site, made, None, format=wanted_format(request, options.format), limit=options.k)


def export_request(options: ExportQuery | CollectionExportQuery, filters: AnyFilters) -> SearchRequest:
    """Raises QueryInapplicable, QueryInvalid."""
    text = options.q if VISIBLE.search(options.q) else None
    if text is not None and options.vector:
        raise one_of_two(QueryInapplicable)
    vector = vector_of_base64(options.vector) if options.vector else None
    mode = (
        "browse"
        if text is None and vector is None
        else choose_mode(options.mode, text=text, vector=vector, filters=filters)
    )
    return SearchRequest(
        mode=mode, text=text, vector=vector, filters=filters, ef_search=options.ef_search, exact=options.exact,
        min_similarity=options.min_similarity, sort=options.sort,
    )  # fmt: skip


def _of_body(body: SearchBody) -> SearchRequest:
    """Raises UsageError, QueryInvalid."""
    if (body.text is None) == (body.vector is None) and (body.text is not None or _filters_of(body).is_empty):
        raise one_of_two(UsageError)
    return _request(body, body.text, None if body.vector is None else vector_of(body.vector))


def _several(body: SearchManyBody) -> tuple[SearchRequest, list[str], list[np.ndarray] | None]:
    """The options, and the texts or vectors of several searches. Raises UsageError, QueryInvalid, AnswerTooLarge."""
    if (body.texts is None) == (body.vectors is None):
        raise one_of_two(UsageError)
    search_request = SearchRequest(
        mode="semantic", k=body.k, filters=_filters_of(body), ef_search=body.ef_search,
        min_similarity=body.min_similarity,
    )  # fmt: skip
    vectors = None if body.vectors is None else [vector_of(vector) for vector in body.vectors]
    require_hits_within_limit(len(body.texts or body.vectors or ()), body.k)
    return search_request, body.texts or [], vectors


def _request(options: SearchQuery | SearchBody, text: str | None, vector: np.ndarray | None) -> SearchRequest:
    filters = _filters_of(options)
    return SearchRequest(
        mode=choose_mode(options.mode, text=text, vector=vector, filters=filters), text=text, vector=vector, k=options.k,
        filters=filters, ef_search=options.ef_search, exact=options.exact, after=options.after,
        min_similarity=options.min_similarity, diversity=options.diversity, facets=facets_of(options), rerank=options.rerank,
        group_duplicates=options.group_duplicates, sort=options.sort,
    )  # fmt: skip


def _filters_of(body: SearchQuery | SearchBody | SearchManyBody | ExportQuery) -> AnyFilters:
    return read_filters(
        category=body.category, topic=body.topic, source=body.source, since=body.since, until=body.until,
        more=body.filter,
    )  # fmt: skip


def facets_of(options: SearchQuery | SearchBody | CollectionQuery | CollectionBody) -> tuple[str, ...]:
    """The facets that a request names: separated by commas in an address, a list in a body."""
    if isinstance(options.facets, str):
        return tuple(name.strip() for name in options.facets.split(",") if name.strip())
    return tuple(options.facets or ())


def one_of_two(kind: type[UsageError]) -> UsageError:
    """The error for a search with more or less than one of its inputs: of class `kind`. UsageError for a body, whose
    schema states the rule; another class for URL parameters, whose schema cannot."""
    return kind(
        "a search needs a text, a vector or filters.",
        why="the request has both a text and a vector, or none of the three.",
        next_step="send either a text or a vector, or only filters.",
    )


@router.get(
    "/similar", summary="Articles similar to an article", response_model=AnswerOut, responses=MISSING, tags=["search"]
)
async def similar(
    request: Request,
    uri: Annotated[str, Query(description="URI of the article.")],
    k: Count = 10,
    after: After = None,
    min_similarity: MinSimilarity = None,
    diversity: Diversity = None,
    filter: Filter = None,
    group_duplicates: GroupDuplicates = False,
    without_near_duplicates: WithoutNearDuplicates = False,
    near_duplicate_distance: NearDuplicateDistance = NEAR_DUPLICATE_DISTANCE,
) -> Any:
    """The k articles nearest to the article `uri`, excluding the article itself."""
    site = site_of(request)
    filters = read_filters(category=None, topic=None, source=None, since=None, until=None, more=filter)
    found = await site.in_database(
        lambda: site.instance.similar(
            uri,
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


@router.get("/article", summary="One article", response_model=ArticleOut, responses=MISSING, tags=["articles"])
async def article(request: Request, uri: Annotated[str, Query(description="The uri of the article.")]) -> Any:
    """One article with all its stored fields."""
    site = site_of(request)
    return await site.in_database(lambda: as_json(dataclasses.asdict(site.instance.article(uri))))


@router.get("/facets", summary="Filter values", response_model=FacetsOut, tags=["search"])
async def facets(request: Request) -> Any:
    """The 200 most frequent values of category, topic and news_source with their counts, at most a minute old."""
    found = await site_of(request).facets.get()
    return as_json({column: [facet.as_dict() for facet in values] for column, values in found.items()})


@router.get("/incidents", summary="Incidents", response_model=IncidentsOut, tags=["incidents"])
async def incidents(
    request: Request, status: Annotated[str | None, Query(description="Only incidents with this status.")] = None
) -> Any:
    """The incidents, last changed first, at most 500; `status` narrows them."""
    site = site_of(request)

    found = await site.in_database(lambda: site.instance.incidents.all(status=as_filter(status)))
    return as_json({"incidents": found})


@router.post(
    "/incidents", summary="Create an incident", response_model=IncidentOut, status_code=201, tags=["incidents"],
    responses=CREATED, openapi_extra=body_of(IncidentBody),
)  # fmt: skip
async def new_incident(request: Request) -> Any:
    """Creates an incident. Its name and topic together must be unique."""
    body = await read_json(request, IncidentBody)
    site = site_of(request)

    made = await site.in_database(lambda: site.instance.incidents.create(**body.model_dump()))
    return as_json(made, status_code=201)


@router.patch(
    "/incidents", summary="Change the status of an incident", response_model=IncidentOut, responses=MISSING,
    tags=["incidents"], openapi_extra=body_of(IncidentChangeBody), operation_id=CHANGE_STATUS,
)  # fmt: skip
async def changed_incident(request: Request) -> Any:
    """Sets the status of the incident with this name and topic."""
    body = await read_json(request, IncidentChangeBody)
    site = site_of(request)

    return as_json(await site.in_database(lambda: site.instance.incidents.change_status(**body.model_dump())))


@router.get("/index", summary="State of the vector index", tags=["operations"])
async def index(request: Request) -> Any:
    """The contents of the page /index: checks (run in the background), definition, size, use, queue and plan."""
    return await index_answer(await site_of(request).watch())


async def index_answer(watch: IndexWatch) -> Response:
    """The state of an index as JSON."""
    catalog, builds = await watch.now()
    report = await watch.report(catalog)
    operations = await watch.operations()
    state = watch.actions.state
    return as_json({
        "verification": watch.proofs.state(report.catalog).as_dict(),
        **dataclasses.replace(report, builds=builds).as_dict(),
        **operations.as_dict(with_settings=VIEWER.get().may_operate),
        "action": None if state is None else state.as_dict(),
    })  # fmt: skip
