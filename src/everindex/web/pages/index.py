"""The page `/index`, and that of each collection: the checks and the state of an index, even while parts are still being read."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.declared import ARTICLES
from everindex.errors import EverindexError
from everindex.index.activity.running_builds import RunningBuild
from everindex.web.api.routes import index_answer
from everindex.web.http.inputs import read_form
from everindex.web.http.problems import as_problem
from everindex.web.index_actions import ACTIONS, Action
from everindex.web.index_watch import IndexWatch
from everindex.web.pages.render import answer_page, prefers_json, wants_fragment
from everindex.web.reports.index_report import IndexReport
from everindex.web.reports.proofs import ProofState
from everindex.web.site import site_of

router = APIRouter(include_in_schema=False)

#: The page waits at most this long; parts that take longer appear at the next refresh.
REPORT_WAIT_SECONDS = 1.0
#: The further parts are waited for even less: they follow.
OPERATIONS_WAIT_SECONDS = 0.3
QUESTIONS = {
    "revision": "Is the database migrated or attached?",
    "index": "Does the index exist, valid and as declared?",
    "planner": "Does PostgreSQL use it?",
    "recall": "Are the search results accurate?",
}


OF_COLLECTION = "/collections/{name:path}/index"


@router.get("/index")
@router.get(OF_COLLECTION)
async def index_page(request: Request) -> Response:
    """The complete page."""
    site, name = site_of(request), _name(request)
    watch = await site.watch(name)
    if prefers_json(request):
        return await index_answer(watch)
    report = await _report_values(watch)
    return await answer_page(
        site, "index.html", here="/index" if name is None else "/collections", **_names(name),
        **await _proof_values(watch, report["report"]), **report, **await _operations_values(watch),
        action_state=watch.actions.state,
    )  # fmt: skip


@router.get("/index/running")
@router.get(f"{OF_COLLECTION}/running")
async def running_fragment(request: Request) -> Response:
    """Builds and the action that runs, for htmx."""
    site, name = site_of(request), _name(request)
    watch = await site.watch(name)
    return await answer_page(
        site, "_running.html", **_names(name), action_state=watch.actions.state, running=await _running(watch)
    )


@router.get("/index/operations")
@router.get(f"{OF_COLLECTION}/operations")
async def operations_fragment(request: Request) -> Response:
    """History, memory, slow searches, findings and settings, for htmx, while they are still being read."""
    site, name = site_of(request), _name(request)
    return await answer_page(
        site, "_operations.html", **_names(name), **await _operations_values(await site.watch(name))
    )


@router.get("/index/actions/{action}")
@router.get(f"{OF_COLLECTION}/actions/{{action}}")
async def confirm_action(request: Request) -> Response:
    """What an action would do, with the form that starts it. Reads only."""
    site, name, action = site_of(request), _name(request), _action(request)
    watch = await site.watch(name)
    confirmation = await site.in_database(lambda: watch.actions.confirmation(action))
    return await answer_page(
        site, "index_action.html", here="/index" if name is None else "/collections", **_names(name),
        confirmation=confirmation,
    )  # fmt: skip


@router.post("/index/actions/{action}")
@router.post(f"{OF_COLLECTION}/actions/{{action}}")
async def start_action(request: Request) -> Response:
    """Starts a confirmed action in the background, and leads back to the page, which shows how it goes."""
    site, name, action = site_of(request), _name(request), _action(request)
    watch = await site.watch(name)
    form = await read_form(request)
    watch.actions.start(action, digest=form.get("digest", ""))
    return RedirectResponse(f"{_names(name)['page']}#running", status_code=303)


@router.post("/index/cancel")
@router.post(f"{OF_COLLECTION}/cancel")
async def cancel(request: Request) -> Response:
    """Cancels the action that runs here, or the build of a backend (`pid`) on the table."""
    site, name = site_of(request), _name(request)
    watch = await site.watch(name)
    given = (await read_form(request)).get("pid", "")
    pid = int(given) if given.isascii() and given.isdigit() and len(given) < 11 else None
    await site.in_database(lambda: watch.actions.cancel(pid))
    return RedirectResponse(f"{_names(name)['page']}#running", status_code=303)


@router.get("/index/proofs")
@router.get(f"{OF_COLLECTION}/proofs")
async def proofs_fragment(request: Request) -> Response:
    """The checks alone, for htmx."""
    site, name = site_of(request), _name(request)
    watch = await site.watch(name)
    return await answer_page(site, "_proofs.html", **_names(name), **await _proof_values(watch, None))


@router.get("/index/report")
@router.get(f"{OF_COLLECTION}/report")
async def report_fragment(request: Request) -> Response:
    """Everything except the checks, for htmx, while a build runs or the report is still being read."""
    site, name = site_of(request), _name(request)
    return await answer_page(site, "_report.html", **_names(name), **await _report_values(await site.watch(name)))


@router.post("/index/verify")
@router.post(f"{OF_COLLECTION}/verify")
async def verify_again(request: Request) -> Response:
    """Starts the checks again unless they are running."""
    site, name = site_of(request), _name(request)
    watch = await site.watch(name)
    watch.proofs.start()
    names = _names(name)
    if wants_fragment(request):
        return await answer_page(site, "_proofs.html", **names, **await _proof_values(watch, None))
    return RedirectResponse(names["page"], status_code=303)


def _action(request: Request) -> Action:
    """The action of the address. Raises PageNotFound for another one."""
    wanted = request.path_params["action"]
    for action in ACTIONS:
        if action == wanted:
            return action
    raise HTTPException(404)


async def _running(watch: IndexWatch) -> list[RunningBuild]:
    """The builds that run; none where the database does not say."""
    try:
        return await watch.builds()
    except EverindexError:
        return []


async def _operations_values(watch: IndexWatch) -> dict[str, Any]:
    """What of the further parts is known within the time that the page waits; the rest appears at the next refresh."""
    values: dict[str, Any] = {"operations": None, "findings": None, "operations_error": None}
    try:
        values["operations"] = await watch.operations(wait_seconds=OPERATIONS_WAIT_SECONDS)
    except TimeoutError:
        pass
    except EverindexError as exc:
        values["operations_error"] = as_problem(exc)
    with contextlib.suppress(TimeoutError, EverindexError):
        values["findings"] = await watch.doctor(wait_seconds=0.0)
    return values


def _name(request: Request) -> str | None:
    """The collection of the address; None for the articles."""
    name: str | None = request.path_params.get("name")
    return name


def _names(name: str | None) -> dict[str, Any]:
    """What the templates call the collection, its rows and its page."""
    if name is None:
        return {"collection": None, "page": "/index", "rows_called": ("article", "articles")}
    return {"collection": name, "page": f"/collections/{quote(name, safe='')}/index", "rows_called": ("row", "rows")}


def proof_values(state: ProofState, *, has_revision: bool = True) -> dict[str, Any]:
    """The checks for the templates; before the first run ends, one running check for each question."""
    questions = {name: question for name, question in QUESTIONS.items() if has_revision or name != "revision"}
    return {
        "proofs": list(state.verification.proofs) if state.verification else [],
        "questions": questions, "is_running": state.is_running, "finished_at": state.finished_at,
        "age_seconds": state.age_seconds,
        "holds": state.verification.holds if state.verification else None,
        "proof_error": as_problem(state.error) if state.error else None,
    }  # fmt: skip


async def _proof_values(watch: IndexWatch, report: IndexReport | None) -> dict[str, Any]:
    """The checks for the catalog state of `report`; without a report, for the current catalog."""
    try:
        state = watch.proofs.state(await watch.catalog() if report is None else report.catalog)
    except EverindexError as exc:
        state = ProofState(is_running=False, error=exc)
    return proof_values(state, has_revision=watch.searched.spec is ARTICLES)


async def _report_values(watch: IndexWatch) -> dict[str, Any]:
    running: list[RunningBuild] = []
    try:
        catalog, running = await watch.now()
        report = await watch.report(catalog, wait_seconds=REPORT_WAIT_SECONDS)
        return {"report": replace(report, builds=running), "report_error": None, "running": running}
    except TimeoutError:
        return {"report": None, "report_error": None, "running": running}
    except EverindexError as exc:
        return {"report": None, "report_error": as_problem(exc), "running": running}
