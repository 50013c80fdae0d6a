"""The page `/index`: the checks and the status of the index, shown at once even while parts are still being read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.errors import EverindexError
from everindex.web.http.problems import as_problem
from everindex.web.pages.render import answer_page, wants_fragment
from everindex.web.reports.index_report import IndexReport
from everindex.web.reports.proofs import ProofState
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False)

#: The page waits at most this long; parts that take longer appear at the next refresh.
REPORT_WAIT_SECONDS = 1.0
QUESTIONS = {
    "revision": "Is the database migrated or attached?",
    "index": "Does the index exist, valid and as declared?",
    "planner": "Does PostgreSQL use it?",
    "recall": "Are the search results accurate?",
}


@router.get("/index")
async def index_page(request: Request) -> Response:
    """The complete page."""
    site = site_of(request)
    report = await _report_values(site)
    return await answer_page(site, "index.html", here="/index", **await _proof_values(site, report["report"]), **report)


@router.get("/index/proofs")
async def proofs_fragment(request: Request) -> Response:
    """The checks alone, for htmx."""
    site = site_of(request)
    return await answer_page(site, "_proofs.html", **await _proof_values(site, None))


@router.get("/index/report")
async def report_fragment(request: Request) -> Response:
    """Everything except the checks, for htmx, while a build runs or the report is still being read."""
    site = site_of(request)
    return await answer_page(site, "_report.html", **await _report_values(site))


@router.post("/index/verify")
async def verify_again(request: Request) -> Response:
    """Starts the checks again unless they are running."""
    site = site_of(request)
    site.proofs.start()
    if wants_fragment(request):
        return await answer_page(site, "_proofs.html", **await _proof_values(site, None))
    return RedirectResponse("/index", status_code=303)


def proof_values(state: ProofState) -> dict[str, Any]:
    """The checks for the templates; before the first run ends, one running check for each question."""
    return {
        "proofs": list(state.verification.proofs) if state.verification else [],
        "questions": QUESTIONS, "is_running": state.is_running, "finished_at": state.finished_at,
        "age_seconds": state.age_seconds,
        "holds": state.verification.holds if state.verification else None,
        "proof_error": as_problem(state.error) if state.error else None,
    }  # fmt: skip


async def _proof_values(site: Site, report: IndexReport | None) -> dict[str, Any]:
    """The checks for the catalog state of `report`; without a report, for the current catalog."""
    try:
        state = site.proofs.state(await site.catalog() if report is None else report.catalog)
    except EverindexError as exc:
        state = ProofState(is_running=False, error=exc)
    return proof_values(state)


async def _report_values(site: Site) -> dict[str, Any]:
    try:
        report = await site.report(await site.catalog(), wait_seconds=REPORT_WAIT_SECONDS)
        return {"report": report, "report_error": None}
    except TimeoutError:
        return {"report": None, "report_error": None}
    except EverindexError as exc:
        return {"report": None, "report_error": as_problem(exc)}
