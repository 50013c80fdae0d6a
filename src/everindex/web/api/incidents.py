"""The routes of one incident: what it is linked to, and its notes. Lists, creation and status are in routes.py."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from everindex.errors import UsageError
from everindex.web.api.answer_schemas import ProblemOut
from everindex.web.api.inputs import read_json
from everindex.web.api.record_schemas import IncidentRecordOut, IncidentsOut, LinkBody, LinkOut, NoteBody, NoteOut
from everindex.web.api.routes import MISSING, PROBLEMS, as_json, body_of
from everindex.web.site import site_of

Name = Annotated[str, Query(description="Name of the incident.")]
Topic = Annotated[str, Query(description="Its topic.")]
TAGS: list[str] = ["incidents"]
ONE_OF: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemOut, "description": "Not exactly one of article, saved_search and query is given."}
}

router = APIRouter(prefix="/api", responses=PROBLEMS)


@router.get(
    "/incident", summary="One incident with its links and notes", response_model=IncidentRecordOut, responses=MISSING,
    tags=[*TAGS],
)  # fmt: skip
async def incident(request: Request, incident_name: Name, topic: Topic) -> Any:
    """The incident with this name and topic, the articles and searches that it is linked to, and its notes."""
    site = site_of(request)
    return as_json(
        await site.in_database(lambda: site.instance.incidents.find(incident_name=incident_name, topic=topic))
    )


@router.post(
    "/incident/links", summary="Link an incident to an article or a search", response_model=LinkOut, status_code=201,
    responses=MISSING, tags=[*TAGS], openapi_extra=body_of(LinkBody),
)  # fmt: skip
async def new_link(request: Request) -> Any:
    """Links an incident to an article (by its uri), a saved search (by its name) or a text to search for. Linking again
    changes nothing."""
    body = await read_json(request, LinkBody)
    if sum(each is not None for each in (body.article, body.saved_search, body.query)) != 1:
        raise UsageError(
            "it is not clear what to link the incident to.",
            why="the body needs one of article, saved_search and query.",
            next_step="send exactly one of them.",
        )
    site = site_of(request)
    return as_json(await site.in_database(lambda: site.instance.incidents.link(**body.model_dump())), status_code=201)


@router.delete(
    "/incident/links", summary="Remove a link of an incident", status_code=204, responses=MISSING | ONE_OF, tags=[*TAGS]
)
async def removed_link(
    request: Request,
    incident_name: Name,
    topic: Topic,
    article: Annotated[str | None, Query(description="The uri of the article.")] = None,
    saved_search: Annotated[str | None, Query(description="Or the name of the saved search.")] = None,
    query: Annotated[str | None, Query(description="Or the text.")] = None,
) -> Response:
    """Removes a link, also one to an article or saved search that is gone."""
    site = site_of(request)
    await site.in_database(
        lambda: site.instance.incidents.unlink(
            incident_name=incident_name, topic=topic, article=article, saved_search=saved_search, query=query
        )
    )
    return Response(status_code=204)


@router.post(
    "/incident/notes", summary="Add a note to an incident", response_model=NoteOut, status_code=201, responses=MISSING,
    tags=[*TAGS], openapi_extra=body_of(NoteBody),
)  # fmt: skip
async def new_note(request: Request) -> Any:
    """Adds a note with the present time. Notes are never changed."""
    body = await read_json(request, NoteBody)
    site = site_of(request)
    return as_json(
        await site.in_database(lambda: site.instance.incidents.add_note(**body.model_dump())), status_code=201
    )


@router.get(
    "/article/incidents", summary="Incidents of an article", response_model=IncidentsOut, tags=[*TAGS, "articles"]
)
async def incidents_of_article(
    request: Request, uri: Annotated[str, Query(description="The uri of the article.")]
) -> Any:
    """The incidents that are linked to the article, last changed first."""
    site = site_of(request)
    return as_json({"incidents": await site.in_database(lambda: site.instance.incidents.of_article(uri))})
