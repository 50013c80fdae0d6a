"""GET /metrics for Prometheus: what this process counts, and the last observation of its database. Sends no query."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from everindex.metrics.exposition import MEDIA_TYPE
from everindex.web.site import site_of

router = APIRouter(include_in_schema=False)  # its format is that of Prometheus, and not of the API


@router.get("/metrics")
async def metrics(request: Request) -> Any:
    """The text format of Prometheus. The state of the database is that of the last observation, whose age is a metric, and is
    left out where that failed or is too old."""
    text = await site_of(request).metrics()
    return Response(text, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
