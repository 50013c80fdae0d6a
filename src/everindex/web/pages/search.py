"""The pages `/` and `/article`: search with its results, and one article with similar ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.expiry import is_past
from everindex.articles.export import ExportFormat
from everindex.articles.incidents import Incident
from everindex.articles.model import DEFAULT_MODE, SORTS, Answer, Article
from everindex.articles.search.request.search_request import SearchRequest, choose_mode
from everindex.articles.shape.cut import TextCut
from everindex.errors import EverindexError, NotMigrated, PermissionDenied, UsageError
from everindex.web.api.answers import characters_of
from everindex.web.api.search import answer
from everindex.web.http.inputs import read_filters, read_number, shown_date
from everindex.web.http.problems import as_problem, problem_headers
from everindex.web.pages.render import address, answer_page, export_formats, wants_fragment
from everindex.web.reports.facets import FACET_COLUMNS, Facet, Start, read_start
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False)

#: The values of the selects are a convenience: the page waits no longer than this for them.
FACETS_WAIT_SECONDS = 1.0
SIMILAR = 6
#: The same of a page of similar articles alone.
SIMILAR_PAGE = 20
#: Queries to try on the bundled sample; for other tables their own topics are shown.
SAMPLE_SOURCE = "CPython NEWS"
SAMPLE_QUERIES = (
    "memory leak in the parser",
    "faster regular expressions",
    "TLS certificate check",
    "crash on Windows",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveFilter:
    """A filter of the search that is shown."""

    name: str
    value: str
    without: str
    """The address of the same search without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchForm:
    """The fields of the form as they were filled in."""

    q: str
    category: str
    topic: str
    source: str
    since: str
    until: str
    k: str
    mode: str
    sort: str
    """The order: `newest`, else by relevance."""

    group: str
    """`false` shows near-duplicates apart; else they are grouped under the first of them."""

    filter: str
    """A condition of the filter language as JSON, from a link; no visible field."""

    after: str
    """Not a form field: the next_cursor of the previous page, in the address of a later page."""

    @property
    def title(self) -> str:
        """The title of the page."""
        text = self.q.strip() or ", ".join(filter(None, (self.category, self.topic, self.source)))
        return f"{text[:80]} · everindex" if text else "everindex"

    @property
    def is_narrowed(self) -> bool:
        return self.has_filters or self.k not in ("", "10") or not self.groups or bool(self.sort_in_addresses)

    @property
    def has_filters(self) -> bool:
        return any((self.category, self.topic, self.source, self.since, self.until, self.filter.strip()))

    @property
    def groups(self) -> bool:
        return self.group != "false"

    @property
    def is_only_filters(self) -> bool:
        """Whether only filters are set, so that the newest matching articles are shown."""
        return self.has_filters and not self.q.strip()

    def narrowed(self, **filters: str) -> str:
        """The address of this search with one more filter, first page."""
        return replace(self, **filters).address

    @property
    def active(self) -> list[ActiveFilter]:
        """What narrows this search, each with the address of the search without it."""
        one_date = self.since and self.since == self.until
        named = [
            ("Category", self.category, {"category": ""}),
            ("Topic", self.topic, {"topic": ""}),
            ("Source", self.source, {"source": ""}),
            ("Date", self.since if one_date else "", {"since": "", "until": ""}),
            ("Since", "" if one_date else self.since, {"since": ""}),
            ("Until", "" if one_date else self.until, {"until": ""}),
            ("Condition", self.filter.strip(), {"filter": ""}),
        ]
        return [
            ActiveFilter(name=name, value=value, without=self.narrowed(**change))
            for name, value, change in named
            if value
        ]

    def without_filters(self) -> str:
        return replace(
            self, category="", topic="", source="", since="", until="", filter="", group="", sort="", k="10"
        ).address

    def without_condition(self) -> str:
        """The address of this search without its condition of the filter language."""
        return replace(self, filter="").address

    @property
    def address(self) -> str:
        """The shortest address of this search, first page."""
        return self.address_of(after=None)

    def address_of(self, *, after: str | None) -> str:
        """The shortest address of the page after this cursor."""
        return address(
            "/", q=self.q.strip(), category=self.category, topic=self.topic, source=self.source, since=self.since,
            until=self.until, filter=self.filter.strip(), k="" if self.k == "10" else self.k, mode=self.mode_in_addresses,
            sort=self.sort_in_addresses, group="" if self.groups else "false", after=after,
        )  # fmt: skip

    def export_address(self, format: ExportFormat) -> str:
        """The address of this result as a file."""
        return address(
            "/api/export", format=format, q=self.q.strip(), category=self.category, topic=self.topic, source=self.source,
            since=self.since, until=self.until, filter=self.filter.strip(), mode=self.mode_in_addresses,
            sort=self.sort_in_addresses,
        )  # fmt: skip

    @property
    def sort_in_addresses(self) -> str:
        """The order for links; empty for the default order, and where there is only one."""
        return "" if self.sort == SORTS[0] or not self.q.strip() else self.sort

    @property
    def mode_in_addresses(self) -> str:
        """The mode for links; empty for the default mode."""
        return "" if self.mode == DEFAULT_MODE else self.mode

    @property
    def facets(self) -> tuple[str, ...]:
        """The columns whose values are counted beside the first page: those that can still narrow it."""
        if self.after:
            return ()
        open_filters = [
            name
            for name, value in zip(FACET_COLUMNS, (self.category, self.topic, self.source), strict=True)
            if not value
        ]
        return (*open_filters, "publication_date")

    def narrowed_by(self, column: str, value: str) -> str:
        """The address of this search for one value of a facet."""
        return self.narrowed(**{"source" if column == "news_source" else column: value})

    def request(self) -> SearchRequest:
        """Raises QueryInvalid."""
        filters = read_filters(
            category=self.category, topic=self.topic, source=self.source, since=self.since, until=self.until,
            more=self.filter,
        )  # fmt: skip
        k, text = read_number(self.k, name="k", default=10), self.q if self.q.strip() else None
        mode = choose_mode(self.mode, text=text, vector=None, filters=filters)
        return SearchRequest(
            mode=mode, text=text, k=k, filters=filters, after=self.after or None, facets=self.facets,
            group_duplicates=self.groups, sort=self.sort or SORTS[0],  # type: ignore[arg-type]  # which the request checks
        )  # fmt: skip


@router.get("/")
async def search_page(request: Request) -> Response:
    """The search page; htmx requests only the results."""
    site = site_of(request)
    given = request.query_params
    form = SearchForm(
        q=given.get("q", ""), category=given.get("category", ""), topic=given.get("topic", ""),
        source=given.get("source", ""), since=given.get("since", ""), until=given.get("until", ""), k=given.get("k") or "10",
        after=given.get("after", ""), filter=given.get("filter", ""),
        mode=given.get("mode") or DEFAULT_MODE, group=given.get("group", ""), sort=given.get("sort", ""),
    )  # fmt: skip
    facets = await known_facets(site)
    found: Answer | None = None
    start: Start | None = None
    error: EverindexError | None = None
    if form.q.strip() or form.has_filters:
        try:
            found = await answer(site, form.request())
        except EverindexError as exc:
            error = exc
    else:
        try:
            start = await site.in_database(lambda: read_start(site.instance))
        except NotMigrated:
            if not await site.in_database(site.instance.collections):
                raise
            return RedirectResponse("/collections", status_code=303)  # a database of collections alone
    values: dict[str, Any] = {
        "form": form, "found": found, "start": start, "error": as_problem(error) if error else None,
        "examples": examples(facets), "exports": export_formats(), "here": "/", "is_fragment": wants_fragment(request),
    }  # fmt: skip
    headers = problem_headers(error) if error else {}
    characters = characters_of(found.hits) if found else 0
    status = error.http_status if error else 200
    if values["is_fragment"]:
        headers |= history_header(request.headers.get("hx-current-url", ""), form)
        return await answer_page(
            site, "_results.html", characters=characters, status_code=status, headers=headers, **values
        )
    return await answer_page(
        site,
        "search.html", characters=characters, status_code=status, headers=headers, facets=facets,
        since=shown_date(form.since, is_last=False), until=shown_date(form.until, is_last=True), **values,
    )  # fmt: skip


@router.get("/article")
async def article_page(request: Request) -> Response:
    """One article with all its fields, and similar articles."""
    site = site_of(request)
    uri = request.query_params.get("uri", "")
    if not uri:
        raise no_uri()

    def read() -> tuple[Article, Answer, ArticleIncidents, TextCut | None, bool]:
        article = site.instance.article(uri)
        expires = article.expires_at
        is_expired = expires is not None and site.instance.reading.read(lambda connection: is_past(connection, expires))
        cut = site.instance.passages.of(uri) if article.raw_text else None
        similar = site.instance.similar(uri, k=SIMILAR, group_duplicates=True)
        return article, similar, _incidents_of(site, uri), cut, is_expired

    article, similar, incidents, cut, is_expired = await site.in_database(read)
    long = len(article.raw_text or "") + len(article.summary or "")
    return await answer_page(
        site, "article.html", characters=long, article=article, similar=similar, incidents=incidents, cut=cut, here="",
        passage=passage_of(request.query_params, article.raw_text), is_expired=is_expired,
    )  # fmt: skip


def passage_of(given: Mapping[str, str], text: str | None) -> tuple[int, int] | None:
    """The part of the full text that a link points to, if that text has it."""
    start, end = given.get("start", ""), given.get("end", "")
    if not (start.isascii() and start.isdigit() and end.isascii() and end.isdigit() and len(start + end) < 20):
        return None
    return (int(start), int(end)) if int(start) < int(end) <= len(text or "") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleIncidents:
    """The incidents on the page of an article."""

    every: list[Incident]
    linked: list[Incident]
    problem: str | None = None
    """Why they cannot be shown, where they cannot."""

    @property
    def others(self) -> list[Incident]:
        """Those that the article can be added to."""
        return [incident for incident in self.every if incident not in self.linked]


def _incidents_of(site: Site, uri: str) -> ArticleIncidents:
    """The article is shown even where the incidents cannot be, as in an attached database without their table."""
    incidents = site.instance.incidents
    try:
        return ArticleIncidents(every=incidents.all(), linked=incidents.of_article(uri))
    except (NotMigrated, PermissionDenied) as exc:
        return ArticleIncidents(every=[], linked=[], problem=exc.what)


@router.get("/similar")
async def similar_page(request: Request) -> Response:
    """The articles most similar to one, page by page."""
    site = site_of(request)
    given = request.query_params
    uri, after, groups = given.get("uri", ""), given.get("after") or None, given.get("group") != "false"
    if not uri:
        raise no_uri()

    def read() -> tuple[Article, Answer]:
        article = site.instance.article(uri)
        return article, site.instance.similar(uri, k=SIMILAR_PAGE, after=after, group_duplicates=groups)

    article, found = await site.in_database(read)
    return await answer_page(
        site, "similar.html", characters=characters_of(found.hits), article=article, found=found, after=after,
        group="" if groups else "false", here="",
    )  # fmt: skip


def no_uri() -> UsageError:
    return UsageError(
        "no article was requested.",
        why="the address has no  ?uri= .",
        next_step="choose an article on the search page.",
    )


async def known_facets(site: Site) -> dict[str, list[Facet]]:
    """The values of the selects; empty where they are not available at once."""
    try:
        return await site.facets.get(wait_seconds=FACETS_WAIT_SECONDS)
    except (EverindexError, TimeoutError):
        return {"category": [], "topic": [], "news_source": []}


def examples(facets: dict[str, list[Facet]]) -> list[str]:
    """A few example searches."""
    if any(facet.value == SAMPLE_SOURCE for facet in facets["news_source"]):
        return list(SAMPLE_QUERIES)
    return [facet.value for facet in (facets["topic"] or facets["category"])[:5]]


def history_header(current: str, form: SearchForm) -> dict[str, str]:
    """The htmx history header: a new search gets a new history entry, while typing updates the current one."""
    try:
        before = parse_qs(urlsplit(current).query).get("q", [""])[0].strip()
    except ValueError:
        before = ""
    now = form.q.strip()
    is_typing = bool(before) and before != now and (now.startswith(before) or before.startswith(now))
    return {"HX-Replace-Url" if is_typing else "HX-Push-Url": form.address}
