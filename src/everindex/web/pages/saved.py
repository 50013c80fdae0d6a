"""The page `/saved` with the saved searches, the forms that save and remove one, and the feed of each."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.declared import ARTICLES
from everindex.articles.model import DEFAULT_MODE, Filters
from everindex.articles.saved_searches import (
    MAX_NAME_CHARS,
    NEWEST,
    SavedSearch,
    filter_of,
    newest_first,
    newest_request,
)
from everindex.articles.search.filters.conditions import parse_json
from everindex.errors import EverindexError, QueryInvalid, UsageError
from everindex.web.api.search import answer
from everindex.web.http.inputs import read_form
from everindex.web.http.problems import as_problem, problem_headers
from everindex.web.pages.render import address, answer_page
from everindex.web.pages.saved_feed import MEDIA_TYPE, feed_path, rss_of
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False)

#: A change within the last seconds may be followed by another one in the same second, which Last-Modified could not tell.
SETTLED_SECONDS = 2


@router.get("/saved")
async def saved_page(request: Request) -> Response:
    """The saved searches, by name."""
    return await _listed(site_of(request))


@router.post("/saved")
async def save(request: Request) -> Response:
    """Saves a search and redirects to the list; an error is shown above the form, which keeps its input."""
    form = await read_form(request)
    site = site_of(request)
    try:
        await site.in_database(lambda: _save(site, form))
    except UsageError as exc:
        return await _listed(site, error=exc, draft=form)
    return RedirectResponse("/saved", status_code=303)


@router.post("/saved/remove")
async def remove(request: Request) -> Response:
    """Removes a saved search and redirects to the list."""
    form = await read_form(request)
    site = site_of(request)
    try:
        await site.in_database(lambda: site.instance.saved_searches.remove(form.get("name", "")))
    except EverindexError as exc:
        if exc.http_status != 404:
            raise
        return await _listed(site, error=exc)
    return RedirectResponse("/saved", status_code=303)


@router.get("/saved/{name}.rss")
async def feed(request: Request, name: str) -> Response:
    """The feed of a saved search; 304 where it is as it was when the reader asked last."""
    site = site_of(request)
    saved = site.instance.saved_searches
    search = await site.in_database(lambda: saved.find(name))
    collection = None if search.collection is None else await site.collection(search.collection)
    spec = ARTICLES if collection is None else collection.spec
    found = newest_first(await answer(site, newest_request(search, spec), collection), search, spec)
    changed = await site.in_database(lambda: saved.changed_at(search, found.hits))
    host = f"{request.url.scheme}://{request.headers['host']}"
    document = await site.compute(
        lambda: rss_of(search, found, site=host, page=page_of(search), date=spec.date), characters=500 * len(found.hits)
    )
    headers = {
        "etag": f'"{hashlib.sha256(document).hexdigest()[:32]}"', "cache-control": "private, no-cache", "vary": "Host",
    }  # fmt: skip
    if changed is not None and (dt.datetime.now(dt.UTC) - changed).total_seconds() > SETTLED_SECONDS:
        headers["last-modified"] = format_datetime(changed.astimezone(dt.UTC), usegmt=True)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    return Response(document, media_type=f"{MEDIA_TYPE}; charset=utf-8", headers=headers)


def _is_known(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the reader has this document (RFC 9110, 13.2.2): If-None-Match decides where it is present."""
    known = request.headers.get("if-none-match")
    if known is not None:
        return any(tag.strip().removeprefix("W/") in (headers["etag"], "*") for tag in known.split(","))
    since, changed = request.headers.get("if-modified-since"), headers.get("last-modified")
    if since is None or changed is None:
        return False
    try:
        return parsedate_to_datetime(changed) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):  # no date, or one without a zone
        return False


def page_of(search: SavedSearch) -> str:
    """The path of the search page with this search."""
    if search.collection is not None:
        return address(
            f"/collections/{quote(search.collection, safe='')}", q=search.text,
            filter=json.dumps(search.filter, ensure_ascii=False) if search.filter else "",
            mode="" if search.mode == DEFAULT_MODE else search.mode,
        )  # fmt: skip
    named = search.named_filters or Filters()
    more = "" if search.named_filters is not None else json.dumps(search.filter, ensure_ascii=False)
    return address(
        "/", q=search.text, category=named.category, topic=named.topic, source=named.news_source, since=named.since,
        until=named.until, filter=more, mode="" if search.mode == DEFAULT_MODE else search.mode,
    )  # fmt: skip


def _save(site: Site, form: Mapping[str, str]) -> None:
    """Raises what saving raises."""
    named = Filters(
        category=form.get("category") or None, topic=form.get("topic") or None,
        news_source=form.get("source") or None, since=form.get("since") or None, until=form.get("until") or None,
    )  # fmt: skip
    more = form.get("filter", "").strip()
    site.instance.saved_searches.add(
        form.get("name", "").strip(), form.get("q", "").strip() or None, mode=form.get("mode") or DEFAULT_MODE,  # type: ignore[arg-type]
        filters=filter_of(named, parse_json(more) if more else None),
        min_similarity=_similarity(form.get("min_similarity", "")), collection=form.get("collection") or None,
    )  # fmt: skip


def _similarity(text: str) -> float | None:
    """Raises QueryInvalid."""
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise QueryInvalid(
            f"the minimum similarity is not a number: {text[:40]!r}.",
            why="it is a cosine similarity, −1 to 1.",
            next_step="write it as 0.5, or leave it empty.",
        ) from None


async def _listed(
    site: Site, *, error: EverindexError | None = None, draft: Mapping[str, str] | None = None
) -> Response:
    found = await site.in_database(site.instance.saved_searches.all)
    shown = [(search, page_of(search), feed_path(search.name)) for search in found]
    return await answer_page(
        site, "saved.html", characters=400 * len(found), status_code=error.http_status if error else 200,
        headers=problem_headers(error) if error else {}, searches=shown, error=as_problem(error) if error else None,
        draft=dict(draft or {}), longest_name=MAX_NAME_CHARS, entries=NEWEST, here="/saved",
    )  # fmt: skip
