"""The pages of the collections beside the articles: the list of them, the search of one, and one of its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.articles.collections.collection import Collection
from everindex.articles.collections.description import describe, rows_of
from everindex.articles.declared import ARTICLES
from everindex.articles.export import ExportFormat
from everindex.articles.model import DEFAULT_MODE, SORTS, Answer
from everindex.articles.search.filters.condition_sql import TEXTS, TIMES
from everindex.articles.search.keyword.snippet import title_and_body
from everindex.articles.search.request.search_request import SearchRequest, choose_mode
from everindex.articles.shape.hit import Hit
from everindex.articles.table import CollectionTable
from everindex.errors import EverindexError, UsageError
from everindex.web.api.answers import characters_of
from everindex.web.api.search import answer
from everindex.web.http.inputs import read_number, read_where
from everindex.web.http.problems import as_problem, problem_headers
from everindex.web.pages.render import address, answer_page, export_formats
from everindex.web.pages.search import passage_of
from everindex.web.site import Site, site_of

router = APIRouter(include_in_schema=False, prefix="/collections")

SIMILAR = 6
#: Columns whose values are counted beside a result, and how many of them.
MOST_FACETS = 4
#: Members of a JSON column that a hit shows.
MOST_MEMBERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionForm:
    """The fields of the form as they were filled in."""

    name: str
    q: str
    k: str
    mode: str
    filter: str
    """A condition of the filter language, as JSON."""

    sort: str
    """The order: `newest`, else by relevance."""

    group: str
    """`false` shows near-duplicates apart; else they are grouped under the first of them."""

    after: str
    """The next_cursor of the previous page, in the address of a later page."""

    @property
    def path(self) -> str:
        return f"/collections/{quote(self.name, safe='')}"

    @property
    def title(self) -> str:
        text = self.q.strip()[:80]
        return f"{text} · {self.name}" if text else self.name

    @property
    def groups(self) -> bool:
        return self.group != "false"

    def export_address(self, format: ExportFormat) -> str:
        """The address of this result as a file."""
        return address(
            f"/api{self.path}/export", format=format, q=self.q.strip(), filter=self.filter.strip(),
            mode="" if self.mode == DEFAULT_MODE else self.mode, sort=self.sort if self.q.strip() else "",
        )  # fmt: skip

    @property
    def is_asked(self) -> bool:
        """Whether there is something to search for."""
        return bool(self.q.strip() or self.filter.strip())

    @property
    def address(self) -> str:
        """The shortest address of this search, first page."""
        return self.address_of(after=None)

    def address_of(self, *, after: str | None) -> str:
        return address(
            self.path, q=self.q.strip(), filter=self.filter.strip(), k="" if self.k == "10" else self.k,
            mode="" if self.mode == DEFAULT_MODE else self.mode, sort=self.sort if self.q.strip() else "",
            group="" if self.groups else "false", after=after,
        )  # fmt: skip

    def without_filter(self) -> str:
        return replace(self, filter="").address

    def narrowed_by(self, column: str, value: Any) -> str:
        """The address of this search for the rows with one value of a column, too."""
        return self._narrowed({column: value})

    def narrowed_to(self, begins: str) -> str:
        """The same for the rows of one month or year."""
        return self._narrowed({"since": begins, "until": begins})

    def _narrowed(self, more: dict[str, Any]) -> str:
        condition = {"$and": [json.loads(self.filter), more]} if self.filter.strip() else more
        return replace(self, filter=json.dumps(condition, ensure_ascii=False)).address

    def request(self, table: CollectionTable) -> SearchRequest:
        """Raises QueryInvalid, FilterInvalid."""
        filters = read_where(self.filter)
        text = self.q if self.q.strip() else None
        mode = "browse" if text is None else choose_mode(self.mode, text=text, vector=None, filters=filters)
        return SearchRequest(
            mode=mode, text=text, filters=filters,
            k=read_number(self.k, name="k", default=10), after=self.after or None,
            facets=() if self.after else facets_of(table), group_duplicates=self.groups,
            sort=self.sort or SORTS[0],  # type: ignore[arg-type]  # which the request checks
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownHit:
    """A hit as the templates show it: a headline, a text, and the other columns."""

    hit: Hit
    title: str
    body: str | None
    facts: list[tuple[str, str]]
    others: list[ShownHit]
    """Its near-duplicates, where they are grouped under it."""


@router.get("")
async def list_page(request: Request) -> Response:
    """The collections of this database."""
    site = site_of(request)
    instance = site.instance
    found = await site.in_database(
        lambda: [
            describe(spec, instance.collection(spec.name).engine.known, instance.reading.read)
            for spec in instance.collections()
        ]
    )
    return await answer_page(
        site, "collections.html", collections=found, here="/collections", quote=_quoted, rows_of=rows_of
    )


@router.get("/{name:path}/row")
async def row_page(request: Request, name: str) -> Response:
    """One row with all its columns, and the rows most like it."""
    site = site_of(request)
    collection = await site.collection(name)
    key = request.query_params.get("key", "")
    if not key:
        raise UsageError(
            "no row was requested.",
            why="the address has no  ?key= .",
            next_step="choose a row on the page of the collection.",
        )
    row, similar = await site.in_database(
        lambda: (collection.row(key), collection.similar(key, k=SIMILAR, group_duplicates=True))
    )
    long = sum(len(str(value)) for value in row.values())
    title = next((row[column] for column in collection.spec.text if row[column]), None)
    whole = collection.spec.passages
    passage = None if whole is None or row[whole] is None else passage_of(request.query_params, str(row[whole]))
    return await answer_page(
        site, "collection_row.html", characters=long, here="/collections", collection=collection.spec, row=row, key=key,
        title=title or key, shown=[(column, fact_of(value)) for column, value in row.items() if value not in (None, "", {})],
        similar=similar, hits=[shown_hit(hit) for hit in similar.hits], path=_path(name), passage=passage,
    )  # fmt: skip


@router.get("/{name:path}")
async def search_page(request: Request, name: str) -> Response:
    """The search of one collection; without a text or a filter, its newest rows. That of the articles is the start page."""
    if name == ARTICLES.name:
        return RedirectResponse("/", status_code=303)
    site = site_of(request)
    collection = await site.collection(name)
    given = request.query_params
    form = CollectionForm(
        name=name, q=given.get("q", ""), k=given.get("k") or "10", mode=given.get("mode") or DEFAULT_MODE,
        filter=given.get("filter", ""), after=given.get("after", ""), sort=given.get("sort", ""),
        group=given.get("group", ""),
    )  # fmt: skip
    found: Answer | None = None
    error: EverindexError | None = None
    try:
        found = await _found(site, collection, form)
    except EverindexError as exc:
        error = exc
    return await answer_page(
        site, "collection.html", characters=characters_of(found.hits) if found else 0,
        status_code=error.http_status if error else 200, headers=problem_headers(error) if error else {},
        here="/collections", collection=collection.spec, form=form, found=found, exports=export_formats(),
        hits=[shown_hit(hit) for hit in found.hits] if found else [], error=as_problem(error) if error else None,
    )  # fmt: skip


async def _found(site: Site, collection: Collection, form: CollectionForm) -> Answer:
    table, _ = await site.in_database(collection.engine.known)
    return await answer(site, form.request(table), collection)


def facets_of(table: CollectionTable) -> tuple[str, ...]:
    """The columns whose values are counted beside a result: short texts and truth values, and the date."""
    spec, kinds = table.spec, table.columns
    counted = [
        name
        for name in spec.metadata
        if name != spec.date
        and (kinds[name] in (*TEXTS, "boolean") or kinds[name] in ("text[]", "character varying[]"))
    ]
    is_dated = spec.date is not None and kinds[spec.date] in ("date", *TIMES)
    return (*counted[:MOST_FACETS], *((spec.date,) if is_dated and spec.date else ()))


def shown_hit(hit: Hit) -> ShownHit:
    """A hit for the templates. Without a title, the beginning of the text is one."""
    title, body = title_and_body(hit)
    columns = hit.metadata
    if not title:
        title, body = _headline(body) or str(hit.key), body if body and len(body) > HEADLINE else None
    return ShownHit(hit=hit, title=title, body=body, facts=[*_facts(columns)], others=[*map(shown_hit, hit.duplicates)])


#: Characters of a text that stand for a missing title.
HEADLINE = 120


def _headline(body: str | None) -> str:
    line = " ".join((body or "").split())
    return line if len(line) <= HEADLINE else f"{line[:HEADLINE].rstrip()} …"


def _facts(columns: Any) -> list[tuple[str, str]]:
    """Name and value of each column that has one, of a JSON object those of its members."""
    found: list[tuple[str, str]] = []
    for name, value in columns.items():
        if isinstance(value, dict):
            found += [(f"{name}.{member}", fact_of(each)) for member, each in [*value.items()][:MOST_MEMBERS]]
        elif value not in (None, "", []):
            found.append((name, fact_of(value)))
    return found


def fact_of(value: Any) -> str:
    """A value as text: JSON where it is nested."""
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _path(name: str) -> str:
    return f"/collections/{_quoted(name)}"
