"""The page `/index`, and that of each collection: the checks and the state of an index, even while parts are still being read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.declared import ARTICLES
from everindex.errors import EverindexError
from everindex.web.http.problems import as_problem
from everindex.web.index_watch import IndexWatch
from everindex.web.pages.render import answer_page, wants_fragment
from everindex.web.reports.index_report import IndexReport
from everindex.web.reports.proofs import ProofState
from everindex.web.site import site_of

router = APIRouter(include_in_schema=False)

#: The page waits at most this long; parts that take longer appear at the next refresh.
REPORT_WAIT_SECONDS = 1.0
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
    report = await _report_values(watch)
    return await answer_page(
        site, "index.html", here="/index" if name is None else "/collections", **_names(name),
        **await _proof_values(watch, report["report"]), **report,
    )  # fmt: skip


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
    try:
        report = await watch.report(await watch.catalog(), wait_seconds=REPORT_WAIT_SECONDS)
        return {"report": report, "report_error": None}
    except TimeoutError:
        return {"report": None, "report_error": None}
    except EverindexError as exc:
        return {"report": None, "report_error": as_problem(exc)}
