"""The export of a search over HTTP: its hits as CSV, JSONL or Parquet, sent page by page.

The first page is found before the response begins, so that a search that cannot be answered is a problem document. Between
two pages neither a thread nor a connection to the database is held. If a later page fails, the connection is closed before
the response is complete, which every client notices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from everindex.articles.export import ExportFormat, export_columns, first_page, next_page, writer_for
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.searchable import Searchable
from everindex.web.api.answers import characters_of
from everindex.web.api.search import answer
from everindex.web.site import Site

#: Media type → format, in the order in which an equal wish is granted.
MEDIA_TYPES: dict[str, ExportFormat] = {
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
}
#: The 200 of an export in the OpenAPI document.
EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The hits, one a row, in the order of the search.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def wanted_format(request: Request, format: ExportFormat | None) -> ExportFormat:
    """The format that the address names, else the first known one that the client accepts, else JSONL."""
    if format is not None:
        return format
    for part in request.headers.get("accept", "").split(","):
        known = MEDIA_TYPES.get(part.partition(";")[0].strip().lower())
        if known is not None:
            return known
    return "jsonl"


async def export_response(
    site: Site, asked: SearchRequest, collection: Searchable | None, *, format: ExportFormat, limit: int
) -> Response:
    """The first `limit` hits of a search. Raises what `answer` raises, and ExtraMissing."""
    request = first_page(asked, limit=limit)
    searched = collection or site.instance
    columns = export_columns((await site.in_database(searched.engine.known))[0])
    writer = await site.compute(partial(writer_for, format, columns), characters=0)
    found = await answer(site, request, collection)

    async def parts() -> AsyncIterator[bytes]:
        following: SearchRequest | None = request
        page, left = found, limit
        yield writer.begin()
        while following is not None:
            hits = page.hits
            yield await site.compute(partial(writer.rows, hits), characters=characters_of(hits))
            left -= len(hits)
            following = next_page(following, page, left=left)
            if following is not None:
                page = await answer(site, following, collection)
        yield writer.end()

    return StreamingResponse(
        parts(), media_type=writer.media_type,
        headers={"content-disposition": f'attachment; filename="search.{format}"', "vary": "Accept"},
    )  # fmt: skip
