"""The MCP server over an open instance: search, similar, article, explain, status, verify and check.

Every tool only reads. An error of everindex reaches the model in its three lines, any other one as a sentence without details;
no address or secret is part of an answer. Calls run in threads, as many as the instance has connections.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

from pydantic import Field

from everindex import __version__
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.instance import Instance
from everindex.articles.model import DEFAULT_MODE, Mode
from everindex.articles.search.request.search_request import SearchRequest, as_filters
from everindex.articles.searchable import Searchable
from everindex.errors import EverindexError, ExtraMissing
from everindex.index.recall.verify import prove_index
from everindex.migrate.standing import has_article_schema, prove_revision
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import connect
from everindex.statement_check.check import check_statement

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as exc:
    raise ExtraMissing("mcp", package="mcp", exc=exc) from exc

#: Hits of one answer: more would fill the context of a model without helping it.
MAX_HITS = 50
#: Characters of a text column in an answer.
MAX_TEXT_CHARS = 20_000
INSTRUCTIONS = (
    "Searches articles and documents in PostgreSQL, by meaning and by words. Begin with `search`; `article` gives the whole "
    "text of a hit, `similar` its neighbours. `collections` says what can be searched. `status`, `verify`, `explain` and "
    "`check` are about the vector index: whether it exists, is used and is accurate."
)

Text = Annotated[str, Field(description="What to search for, in natural language.")]
Hits = Annotated[int, Field(ge=1, le=MAX_HITS, description="How many hits.")]
Key = Annotated[str, Field(description="What identifies it: the uri of an article, the key of a row.")]
Name = Annotated[str | None, Field(description="A collection; omit it for the articles.")]
Filter = Annotated[
    dict[str, Any] | None,
    Field(description='Only rows for which this holds, e.g. {"year": {"$gte": 2024}, "topic": {"$in": ["a", "b"]}}.'),
]


class Tools:
    """The tools, as methods over an open instance. Each gives JSON and raises ToolError."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def search(
        self, text: Text, k: Hits = 10, mode: Mode = DEFAULT_MODE, filters: Filter = None, collection: Name = None
    ) -> dict[str, Any]:
        """Searches by meaning and by words (hybrid), by meaning (semantic) or by words (keyword); the best hits first."""
        found = self._of(collection)
        request = SearchRequest(text=text, mode=mode, k=k, filters=as_filters(filters, found.spec))
        return found.searches.answer(request).as_dict()

    def similar(self, key: Key, k: Hits = 10, filters: Filter = None, collection: Name = None) -> dict[str, Any]:
        """The articles nearest in meaning to one that is stored."""
        return self._of(collection).similar(key, k=k, filters=filters, without_near_duplicates=True).as_dict()

    def article(self, key: Key, collection: Name = None) -> dict[str, Any]:
        """One article, or row of a collection, with all its columns; long texts are cut, and say so."""
        if collection is None:
            return _cut(
                {
                    name: value
                    for name, value in dataclasses.asdict(self._instance.article(key)).items()
                    if value is not None
                }
            )
        return _cut(self._instance.collection(collection).row(key))

    def collections(self) -> dict[str, Any]:
        """The collections beside the articles, with the columns that filters can name."""
        specs = self._instance.collections()
        return {
            "collections": [
                {
                    "name": spec.name,
                    "key": spec.key,
                    "text": [*spec.text],
                    "metadata": [*spec.metadata],
                    "metric": spec.metric,
                }
                for spec in specs
            ]
        }

    def explain(self, text: Text, k: Hits = 10, filters: Filter = None, collection: Name = None) -> dict[str, Any]:
        """How a search by meaning is answered: strategy and reason, settings, SQL and the query plan as it ran."""
        found = self._of(collection)
        vector = found.embed_query(text)
        return found.explain(vector, k=k, filters=filters).as_dict()

    def status(self) -> dict[str, Any]:
        """The state of every declared vector index (exists, valid, as declared), the migration revision and the versions."""
        with connect(self._instance.direct_conninfo, application_name="everindex mcp") as connection:
            server = look(connection)
            proofs = [prove_revision(connection)] if has_article_schema(connection) else []
            proofs += [prove_index(connection, spec)[0] for spec in declared_indexes(connection)]
        return {
            "server": f"PostgreSQL {server.server_version}, pgvector {version_text(server.extension_version)}",
            "holds": all(proof.holds for proof in proofs),
            "proofs": [proof.as_dict() for proof in proofs],
        }

    def verify(self, collection: Name = None) -> dict[str, Any]:
        """Proves the vector index: it exists, the planner uses it, and it finds the true neighbours (recall). Takes seconds."""
        return self._of(collection).verify().as_dict()

    def check(
        self, statement: Annotated[str, Field(description="One SELECT; placeholders like %(query)s or $1 are allowed.")]
    ) -> dict[str, Any]:
        """Whether a SQL statement uses a vector index, and if not, why. The statement is planned and never run."""
        with connect(self._instance.direct_conninfo, application_name="everindex mcp") as connection:
            return check_statement(connection, statement).as_dict()

    def _of(self, collection: str | None) -> Searchable:
        return self._instance if collection is None else self._instance.collection(collection)


def make_server(instance: Instance) -> MCPServer[Any]:
    """The server with all tools, over an instance that stays open as long as it runs."""
    server: MCPServer[Any] = MCPServer("everindex", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    tools = Tools(instance)
    reads_only = ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    for tool in (
        tools.search, tools.similar, tools.article, tools.collections, tools.explain, tools.status, tools.verify,
        tools.check,
    ):  # fmt: skip
        server.tool(annotations=reads_only)(_in_thread(tool))
    return server


def _in_thread(tool: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """The tool as a coroutine function; an error of everindex becomes the text that the model reads."""

    @wraps(tool)
    async def called(**arguments: Any) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(tool, **arguments)
        except EverindexError as exc:
            raise ToolError(str(exc)) from exc

    return called


def _cut(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value[:MAX_TEXT_CHARS]} … ({len(value):,} characters in all)"
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARS
        else value
        for name, value in values.items()
    }
