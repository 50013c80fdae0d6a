"""The probes: whether the process is alive, whether it is ready, and which versions run."""

from __future__ import annotations

import asyncio
import platform
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import everindex
from everindex.errors import EverindexError
from everindex.pg.capabilities import Capabilities, version_text
from everindex.web.api.routes import as_json
from everindex.web.reports.readiness import ANSWER_SECONDS, unreachable
from everindex.web.site import site_of

router = APIRouter(tags=["operations"])


@router.get("/livez", summary="Whether the process is alive")
async def livez(request: Request) -> Any:
    """Always 200; does not query the database."""
    return as_json({"alive": True})


@router.get("/readyz", summary="Whether searches are answered", responses={503: {"description": "Not ready."}})
async def readyz(request: Request) -> Any:
    """200 when searches are answered, with `degraded` when they are slower than they should be; 503 when they are not.
    Responds within two seconds even when the database does not."""
    look_running = asyncio.wrap_future(site_of(request).ready.look())
    done, _ = await asyncio.wait({look_running}, timeout=ANSWER_SECONDS)
    found = look_running.result() if done else unreachable(f"the database did not answer within {ANSWER_SECONDS:g} s")
    response: Response = as_json(found.as_dict(), status_code=200 if found.is_ready else 503)
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/-/versions", summary="Versions in use")
async def versions(request: Request) -> Any:
    """everindex, Python, PostgreSQL and pgvector; the last two are null when the database does not respond at once."""
    try:
        server: Capabilities | None = await site_of(request).versions.get(wait_seconds=ANSWER_SECONDS)
    except (EverindexError, TimeoutError):
        server = None
    return as_json({
        "everindex": everindex.__version__, "python": platform.python_version(),
        "postgresql": server.server_version if server else None,
        "pgvector": version_text(server.extension_version) if server else None,
    })  # fmt: skip
