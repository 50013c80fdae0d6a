"""The page `/incidents`: the list, and forms to create or change an incident, with POST and redirect."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.incident_records import Incidents
from everindex.articles.incidents import Incident, list_incidents, offered_statuses, stored_statuses
from everindex.errors import EverindexError, UsageError
from everindex.web.http.inputs import as_filter, read_form
from everindex.web.http.problems import as_problem
from everindex.web.pages.render import address, answer_page
from everindex.web.pages.search import known_facets
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False)


@router.get("/incidents")
async def incidents_page(request: Request) -> Response:
    """The incidents, narrowed to a status if one is requested."""
    return await _listed(site_of(request), status=request.query_params.get("status", ""))


@router.post("/incidents")
async def create(request: Request) -> Response:
    """Creates an incident and redirects to the list; an error is shown above the form, which keeps its input."""
    form = await read_form(request)
    return await _changed(
        site_of(request), form, is_new=True,
        change=lambda incidents: incidents.create(
            incident_name=form.get("incident_name", ""), topic=form.get("topic", ""), status=form.get("status")
        ),
    )  # fmt: skip


@router.post("/incidents/status")
async def change(request: Request) -> Response:
    """Sets the status of an incident and redirects to the list."""
    form = await read_form(request)
    return await _changed(
        site_of(request), form, is_new=False,
        change=lambda incidents: incidents.change_status(
            incident_name=form.get("incident_name", ""), topic=form.get("topic", ""), status=form.get("status", "")
        ),
    )  # fmt: skip


async def _changed(
    site: Site, form: Mapping[str, str], *, is_new: bool, change: Callable[[Incidents], Incident]
) -> Response:
    shown = form.get("shown", "")
    try:
        await site.in_database(lambda: change(site.instance.incidents))
    except EverindexError as exc:
        if not isinstance(exc, UsageError) and exc.http_status != 404:
            raise
        return await _listed(site, status=shown, error=exc, draft=form if is_new else {})
    is_sendable = len(shown) <= 200 and "\0" not in shown
    return RedirectResponse(address("/incidents", status=shown if is_sendable else ""), status_code=303)


async def _listed(
    site: Site, *, status: str, error: EverindexError | None = None, draft: Mapping[str, str] | None = None
) -> Response:
    def read() -> tuple[list[Incident], list[str]]:
        with site.instance.connection() as connection:
            return list_incidents(connection, status=as_filter(status)), stored_statuses(connection)

    incidents, stored = await site.in_database(read)
    offered = offered_statuses()
    every = tuple(dict.fromkeys([*offered, *stored]))
    facets = await known_facets(site)
    return await answer_page(
        site,
        "incidents.html", characters=300 * len(incidents),
        status_code=error.http_status if error else 200, incidents=incidents, shown=status,
        statuses=offered, shown_statuses=every, error=as_problem(error) if error else None,
        draft=dict(draft or {}), topics=facets["topic"],
        here="/incidents",
    )  # fmt: skip
