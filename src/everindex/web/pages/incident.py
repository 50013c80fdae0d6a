"""The page `/incident`: one incident with its links and notes, and the forms that add to it, with POST and redirect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.incident_records import MAX_NOTE_CHARS, IncidentRecord, Link
from everindex.articles.incidents import Incident, offered_statuses
from everindex.articles.saved_searches import SavedSearch
from everindex.errors import EverindexError, QueryInvalid, UsageError
from everindex.web.http.inputs import read_form
from everindex.web.http.problems import as_problem, problem_headers
from everindex.web.pages.render import address, answer_page
from everindex.web.pages.saved import page_of
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False)


def incident_page(incident: Incident) -> str:
    """The address of the page of an incident."""
    return address("/incident", incident_name=incident.incident_name, topic=incident.topic)


@router.get("/incident")
async def one(request: Request) -> Response:
    """One incident."""
    given = request.query_params
    return await _shown(site_of(request), given.get("incident_name", ""), given.get("topic", ""))


@router.post("/incident/links")
async def link(request: Request) -> Response:
    """Links the incident and redirects to its page, or to the article where the form is on that."""
    form = await read_form(request)
    site = site_of(request)
    name, topic = _incident_of(form)
    target = _target_of(form)
    back = form.get("article", "") if form.get("back") == "article" else None
    return await _changed(
        site, name, topic, form, lambda: site.instance.incidents.link(incident_name=name, topic=topic, **target),
        to=None if back is None else address("/article", uri=back),
    )  # fmt: skip


@router.post("/incident/unlink")
async def unlink(request: Request) -> Response:
    """Removes a link and redirects to the incident."""
    form = await read_form(request)
    site = site_of(request)
    name, topic = _incident_of(form)
    target = _target_of(form)
    return await _changed(
        site, name, topic, form, lambda: site.instance.incidents.unlink(incident_name=name, topic=topic, **target)
    )


@router.post("/incident/notes")
async def note(request: Request) -> Response:
    """Adds a note and redirects to the incident."""
    form = await read_form(request)
    site = site_of(request)
    name, topic = _incident_of(form)
    text = form.get("text", "")
    return await _changed(
        site, name, topic, form,
        lambda: site.instance.incidents.add_note(incident_name=name, topic=topic, text=text),
    )  # fmt: skip


def _incident_of(form: Mapping[str, str]) -> tuple[str, str]:
    """Name and topic: as two fields, or as the JSON list of both that a select has. Raises QueryInvalid."""
    chosen = form.get("incident")
    if chosen is None:
        return form.get("incident_name", ""), form.get("topic", "")
    try:
        name, topic = json.loads(chosen)
        return str(name), str(topic)
    except (ValueError, TypeError, RecursionError):
        raise QueryInvalid(
            "no incident was chosen.", why="the form names none.", next_step="go back and choose one."
        ) from None


def _target_of(form: Mapping[str, str]) -> dict[str, Any]:
    return {kind: form[kind] for kind in ("article", "saved_search", "query") if form.get(kind)}


async def _changed(
    site: Site, name: str, topic: str, form: Mapping[str, str], change: Callable[[], object], *, to: str | None = None
) -> Response:
    try:
        await site.in_database(change)
    except UsageError as exc:
        return await _shown(site, name, topic, error=exc, draft=form)
    return RedirectResponse(to or address("/incident", incident_name=name, topic=topic), status_code=303)


async def _shown(
    site: Site, name: str, topic: str, *, error: EverindexError | None = None, draft: Mapping[str, str] | None = None
) -> Response:
    def read() -> tuple[IncidentRecord, dict[str, SavedSearch]]:
        record = site.instance.incidents.find(incident_name=name, topic=topic)
        return record, {search.name: search for search in site.instance.saved_searches.all()}

    record, saved = await site.in_database(read)

    def href(link: Link) -> str | None:
        """Where a link leads; None where it leads nowhere any more."""
        if link.is_gone:
            return None
        match link.kind:
            case "article":
                return address("/article", uri=link.target)
            case "saved_search":
                return page_of(saved[link.target])
            case "query":
                return address("/", q=link.target)

    linked = {each.target for each in record.links if each.kind == "saved_search"}
    return await answer_page(
        site, "incident.html", characters=sum(200 + len(each.text) for each in record.notes) + 300 * len(record.links),
        status_code=error.http_status if error else 200, headers=problem_headers(error) if error else {},
        incident=record.incident, notes=record.notes, links=[(each, href(each)) for each in record.links],
        unlinked=[each for each in saved if each not in linked], statuses=offered_statuses(),
        error=as_problem(error) if error else None, draft=dict(draft or {}), longest_note=MAX_NOTE_CHARS,
        here="/incidents",
    )  # fmt: skip
