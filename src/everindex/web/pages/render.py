"""Pages from templates: Jinja2 with everything escaped, and the few filters that templates need."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode, urlsplit

import jinja2
import markupsafe
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import everindex
from everindex.articles.export import FORMATS, ExportFormat
from everindex.articles.model import Mode
from everindex.errors import EverindexError
from everindex.message_text import with_backticks
from everindex.units import duration_text, size_text
from everindex.web.http.problems import as_problem, prefers_html, problem_headers, problem_response
from everindex.web.http.viewer import VIEWER
from everindex.web.pages.assets import asset_url
from everindex.web.site import Site

STRATEGIES = {
    "newest": "newest first",
    "index": "vector index",
    "index-filtered": "vector index, until enough articles match the filters",
    "reranked": "vector index of codes, re-ranked",
    "reranked-filtered": "vector index of codes, until enough articles match the filters, re-ranked",
    "partial-index": "vector index of the articles that match the filters",
    "filtered-exact": "exact, over the articles that match the filters",
    "exact": "exact search",
    "none-match": "no article matches the filters",
    "keyword": "words only",
}


#: In the order of the search page.
MODES_IN_WORDS: dict[Mode, str] = {
    "hybrid": "meaning and words",
    "semantic": "meaning",
    "keyword": "words",
}


@cache
def environment() -> jinja2.Environment:
    """The templates of the package. Everything is escaped; an unknown name is an error and not an empty string."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("everindex.web"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals.update(asset=asset_url, version=everindex.__version__, strategies=STRATEGIES, modes=MODES_IN_WORDS)
    made.filters.update(
        size=size_text, number=lambda value: f"{value:,}", link=safe_link, address=address, moment=moment, duration=duration_text,
        code=code_spans, message_html=message_html, sentence=sentence, highlighted=highlighted,
        tojson_text=lambda value: json.dumps(value, ensure_ascii=False),
    )  # fmt: skip
    return made


@cache
def export_formats() -> tuple[ExportFormat, ...]:
    """The formats of exports that this server can write: Parquet with its extra alone."""
    return tuple(format for format in FORMATS if format != "parquet" or find_spec("pyarrow") is not None)


def page(
    template: str, *, status_code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """A rendered template. A browser may cache a page but must revalidate it; a fragment is never cached."""
    cache_control = "no-store" if template.startswith("_") else "private, no-cache"
    return HTMLResponse(
        environment().get_template(template).render(values | {"viewer": VIEWER.get()}), status_code=status_code,
        headers={"cache-control": cache_control, "vary": "HX-Request, Accept"} | dict(headers or {}),
    )  # fmt: skip


async def answer_page(site: Site, template: str, *, characters: int = 0, **values: Any) -> Response:
    """Like `page`, but rendered outside the event loop; `characters` is its approximate length."""
    return await site.compute(lambda: page(template, **values), characters=characters)


def wants_fragment(request: Request) -> bool:
    """Whether htmx requests a part of the page; going back in history requests the whole page."""
    headers = request.headers
    return headers.get("hx-request") == "true" and headers.get("hx-history-restore-request") != "true"


def prefers_json(request: Request) -> bool:
    """Whether a client asks for the data of a page: it accepts JSON, and no HTML."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def error_response(request: Request, error: EverindexError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as a page for browsers, as problem+json for other clients."""
    if not prefers_html(request):
        return problem_response(error, headers)
    return page(
        "_error.html" if wants_fragment(request) else "error.html", status_code=error.http_status,
        headers=problem_headers(error) | dict(headers or {}), error=as_problem(error),
        request_id=request.scope.get("everindex.request_id", ""), here="",
        wanted=request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method == "GET" else "/",
    )  # fmt: skip


def code_spans(text: str) -> markupsafe.Markup:
    """A docstring as HTML with its `code` marked up; everything is escaped."""
    parts = [markupsafe.escape(part) for part in text.split("`")]
    return markupsafe.Markup("").join(
        markupsafe.Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def message_html(message: str) -> markupsafe.Markup:
    """A message as HTML with its commands as code, in the notation of the terminal or of JSON; everything is escaped."""
    return code_spans(with_backticks(message))


def highlighted(snippet: str) -> markupsafe.Markup:
    """A snippet as HTML. It is already escaped; any markup other than <mark> is escaped again for safety."""
    parts = re.split("(</?mark>)", snippet)
    return markupsafe.Markup("").join(
        markupsafe.Markup(part) if number % 2 or not set(part) & set("<>\"'") else markupsafe.escape(part)
        for number, part in enumerate(parts)
    )


def sentence(text: str) -> str:
    """The text with a capital letter; error texts are written to follow a colon."""
    return text[:1].upper() + text[1:]


def safe_link(uri: str | None) -> str | None:
    """The uri if a browser may follow it: http and https only, never a script."""
    try:
        parts = urlsplit(uri or "")
    except ValueError:
        return None
    return uri if parts.scheme in ("http", "https") and parts.netloc else None


def address(path: str, **parameters: Any) -> str:
    """A path of this application with its parameters; empty ones are omitted."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def moment(value: dt.datetime | None) -> str:
    """A time for people, in UTC to the minute, since servers and readers rarely share a time zone."""
    if value is None:
        return "never"
    return (value.astimezone(dt.UTC) if value.tzinfo else value).strftime("%Y-%m-%d %H:%M UTC")
