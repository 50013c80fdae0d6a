"""The routes that delete: articles, and rows of a collection. Refused unless the setting allows them (docs/decisions/0027)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from everindex.articles.ingest.writer import CollectionWriter
from everindex.articles.search.filters import AnyFilters
from everindex.errors import DeletionRefused, QueryInapplicable
from everindex.web.api.answer_schemas import ProblemOut
from everindex.web.api.inputs import read_json
from everindex.web.api.parameters import Filter
from everindex.web.api.record_schemas import DeletedOut, ExpiryBody, ExpiryOut
from everindex.web.api.routes import MISSING, PROBLEMS, as_json, body_of
from everindex.web.api.schemas import DAY, VALUE
from everindex.web.http.inputs import read_filters, read_where
from everindex.web.site import Site, site_of

#: Keys in one request.
MOST_KEYS = 1000
REFUSED: dict[int | str, dict[str, Any]] = {
    403: {
        "model": ProblemOut,
        "description": "This server deletes nothing (EVERINDEX_DELETE_OVER_HTTP), the database role lacks a privilege, or the "
        "request came from another site.",
    },
    409: {"model": ProblemOut, "description": "Nothing says which rows, or a filter does not fit the table."},
}

DryRun = Annotated[bool, Query(description="Only count what would be deleted.")]

router = APIRouter(prefix="/api", responses=PROBLEMS | REFUSED)


@router.delete("/articles", summary="Delete articles", response_model=DeletedOut, tags=["articles"])
async def delete_articles(
    request: Request,
    uri: Annotated[list[str] | None, Query(description="URIs of the articles.", max_length=MOST_KEYS)] = None,
    category: Annotated[str | None, Query(description="Only of this category.", json_schema_extra=VALUE)] = None,
    topic: Annotated[str | None, Query(description="Only of this topic.", json_schema_extra=VALUE)] = None,
    source: Annotated[str | None, Query(description="Only of this news_source.", json_schema_extra=VALUE)] = None,
    since: Annotated[str | None, Query(description="From this date on.", json_schema_extra=DAY)] = None,
    until: Annotated[str | None, Query(description="Up to this date, inclusive.", json_schema_extra=DAY)] = None,
    filter: Filter = None,
    dry_run: DryRun = False,
) -> Any:
    """Deletes the articles with these uris that pass the filters, with all that is recorded of them, in one transaction.

    Either uris or filters are needed. Only where EVERINDEX_DELETE_OVER_HTTP is `on`."""
    site = site_of(request)
    _require_allowed(site)
    filters = read_filters(category=category, topic=topic, source=source, since=since, until=until, more=filter)
    return await _deleted(site, site.instance.writer, uri, filters, dry_run=dry_run)


@router.delete(
    "/collections/{name}/rows", summary="Delete rows of a collection", response_model=DeletedOut, responses=MISSING,
    tags=["collections"],
)  # fmt: skip
async def delete_rows(
    request: Request,
    name: Annotated[str, Path(description="Name of the collection.")],
    key: Annotated[list[str] | None, Query(description="Keys of the rows.", max_length=MOST_KEYS)] = None,
    filter: Filter = None,
    dry_run: DryRun = False,
) -> Any:
    """As the deletion of articles."""
    site = site_of(request)
    _require_allowed(site)
    filters = read_where(filter)
    collection = await site.in_database(lambda: site.instance.collection(name))
    return await _deleted(site, collection.writer, key, filters, dry_run=dry_run)


@router.put("/articles/expiry", summary="Set when articles expire", response_model=ExpiryOut, tags=["articles"],
            openapi_extra=body_of(ExpiryBody))  # fmt: skip
async def set_expiry(request: Request) -> Any:
    """From `expires_at` on no search finds these articles; null: they stay. Only where EVERINDEX_DELETE_OVER_HTTP is `on`."""
    site = site_of(request)
    _require_allowed(site)
    body = await read_json(request, ExpiryBody)
    count = await site.in_database(lambda: site.instance.set_expiry(body.uris, expires_at=body.expires_at))
    return as_json({"articles": count})


def _require_allowed(site: Site) -> None:
    """Raises DeletionRefused."""
    if site.instance.settings.delete_over_http == "off":
        raise DeletionRefused(
            "this server deletes nothing over HTTP.",
            why="EVERINDEX_DELETE_OVER_HTTP is off, since one request could delete thousands of articles.",
            next_step="run  everindex delete  where the database is reached; or start the server with "
            "EVERINDEX_DELETE_OVER_HTTP=on: then whoever may write may also delete.",
        )


async def _deleted(
    site: Site, writer: CollectionWriter, keys: Sequence[str] | None, filters: AnyFilters, *, dry_run: bool
) -> Response:
    if keys is None and filters.is_empty:
        raise QueryInapplicable(
            "nothing says which rows to delete.",
            why="the request has neither keys nor filters, so it would delete all of them.",
            next_step="send keys, or filters.",
        )
    chosen = None if filters.is_empty else filters
    count = await site.in_database(lambda: writer.delete(keys, filters=chosen, is_dry_run=dry_run))
    return as_json({"deleted": 0 if dry_run else count, "matching": count, "dry_run": dry_run})
