"""An open instance and its collections for asyncio: the methods of `Instance` and `Collection` as coroutines.

Each coroutine runs the method of the same name, so that there is one engine: what searches and reads runs in a greenlet on
the loop's thread, what writes, verifies or builds runs in a thread beside it. A cancelled coroutine ends its statement on
the server. Callbacks and iterators that are passed to writing methods are called in that thread.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import psycopg
from psycopg.rows import TupleRow

from everindex.articles.collections.collection import Collection
from everindex.articles.incident_records import Incidents
from everindex.articles.instance import Instance
from everindex.articles.saved_searches import SavedSearches
from everindex.articles.searchable import Searchable
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import EverindexError
from everindex.pg.loop_pool import Face
from everindex.pg.on_loop import Threads, Turns, in_greenlet
from everindex.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")
S = TypeVar("S", bound=Searchable)

#: A method of an asynchronous class, made of one of the class that it stands for.
_Coroutine = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]


def _on_loop(method: Callable[Concatenate[Any, P], T]) -> _Coroutine[P, T]:
    """The method as a coroutine that runs it on the event loop."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_greenlet(functools.partial(method, self._engine, *args, **kwargs), self._threads, self._turns)

    return call


def _in_thread(method: Callable[Concatenate[Any, P], T]) -> _Coroutine[P, T]:
    """The method as a coroutine that runs it in a thread."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        done: T = await self._threads.long(functools.partial(method, self._engine, *args, **kwargs))
        return done

    return call


def _opening(method: Callable[Concatenate[Any, P], Collection]) -> _Coroutine[P, AsyncCollection]:
    """The method as a coroutine that runs it in a thread and returns the collection for asyncio."""

    @functools.wraps(method)
    async def call(self: _AsyncSearchable[Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncCollection:
        opened = await self._threads.long(functools.partial(method, self._engine, *args, **kwargs))
        return AsyncCollection(opened, self._threads, self._turns)

    signature = inspect.signature(method).replace(return_annotation="AsyncCollection")
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


class _OnThreadsAndLoop(Generic[E]):
    """What an asynchronous class runs, and where."""

    def __init__(self, engine: E, threads: Threads, turns: Turns) -> None:
        self._engine = engine
        self._threads = threads
        self._turns = turns


class _AsyncSearchable(_OnThreadsAndLoop[S]):
    """What an instance and a collection have in common."""

    @property
    def spec(self) -> CollectionSpec:
        """The declaration of the table, its columns and its index."""
        return self._engine.spec

    @property
    def settings(self) -> Settings:
        return self._engine.settings

    search = _on_loop(Searchable.search)
    browse = _on_loop(Searchable.browse)
    embed_query = _on_loop(Searchable.embed_query)
    search_vector = _on_loop(Searchable.search_vector)
    search_many = _in_thread(Searchable.search_many)  # many answers are built in one go, which takes long
    explain = _on_loop(Searchable.explain)
    similar = _on_loop(Searchable.similar)
    export = _in_thread(Searchable.export)
    verify = _in_thread(Searchable.verify)
    add_partial_index = _in_thread(Searchable.add_partial_index)
    drop_partial_index = _in_thread(Searchable.drop_partial_index)
    partial_indexes = _on_loop(Searchable.partial_indexes)

    def invalidate(self) -> None:
        """Discards the caches of table, index and models: for use after this process has changed them."""
        self._engine.invalidate()


class AsyncCollection(_AsyncSearchable[Collection]):
    """An open collection for asyncio; safe to use from many tasks of one event loop. Made by `AsyncInstance.collection` and
    `AsyncInstance.collection_of`; its connections are the instance's and end with it."""

    @property
    def name(self) -> str:
        return self.spec.name

    async def dimensions(self) -> int | None:
        """The width of its vectors."""
        return await in_greenlet(lambda: self._engine.dimensions, self._threads, self._turns)

    upsert = _in_thread(Collection.upsert)
    import_objects = _in_thread(Collection.import_objects)
    delete = _in_thread(Collection.delete)
    delete_expired = _in_thread(Collection.delete_expired)
    embed_missing = _in_thread(Collection.embed_missing)
    declare_model = _in_thread(Collection.declare_model)
    rows_to_embed = _in_thread(Collection.rows_to_embed)
    get = _on_loop(Collection.get)
    row = _on_loop(Collection.row)
    models = _in_thread(Collection.models)
    index = _in_thread(Collection.index)
    deploy = _in_thread(Collection.deploy)


class AsyncSavedSearches(_OnThreadsAndLoop[SavedSearches]):
    """The saved searches of an instance for asyncio: the methods of `SavedSearches` as coroutines."""

    all = _on_loop(SavedSearches.all)
    find = _on_loop(SavedSearches.find)
    add = _in_thread(SavedSearches.add)
    remove = _in_thread(SavedSearches.remove)
    newest = _in_thread(SavedSearches.newest)  # sorts up to 1,000 articles
    changed_at = _on_loop(SavedSearches.changed_at)


class AsyncIncidents(_OnThreadsAndLoop[Incidents]):
    """The incidents of an instance for asyncio: the methods of `Incidents` as coroutines."""

    all = _on_loop(Incidents.all)
    create = _in_thread(Incidents.create)
    change_status = _in_thread(Incidents.change_status)
    find = _in_thread(Incidents.find)
    of_article = _on_loop(Incidents.of_article)
    link = _in_thread(Incidents.link)
    unlink = _in_thread(Incidents.unlink)
    add_note = _in_thread(Incidents.add_note)


class AsyncInstance(_AsyncSearchable[Instance]):
    """An open instance for asyncio; safe to use from many tasks of one event loop. Made by `everindex.connect_async()`;
    `await close()` when done, or use it as an asynchronous context manager."""

    def __init__(self, instance: Instance, threads: Threads, *, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(instance, threads, Turns(instance.settings.pool_size))
        self.saved_searches = AsyncSavedSearches(instance.saved_searches, threads, self._turns)
        """The searches that people have saved under a name."""

        self.incidents = AsyncIncidents(instance.incidents, threads, self._turns)
        """The incidents, with what they are linked to and their notes."""

        self._close = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections, to the database and to the endpoint of the embedding model. Searches that run end by
        themselves; writing is stopped."""
        await self._close()

    async def renew_connections(self) -> None:
        """Replaces the pooled connections as they become free: for use after the extension was created."""
        await in_greenlet(self._engine.renew_connections, self._threads)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
        """A connection to the primary, with the statement timeout of the settings; behind a pooler the block is one
        transaction. Raises ServerUnreachable."""
        borrowed = self._engine.connection()
        face = await in_greenlet(borrowed.__enter__, self._threads)
        assert isinstance(face, Face)
        try:
            yield face.owner
        except BaseException as exc:
            error = exc
            if not await in_greenlet(lambda: borrowed.__exit__(type(error), error, error.__traceback__), self._threads):
                raise
        else:
            await in_greenlet(lambda: borrowed.__exit__(None, None, None), self._threads)

    def why_unreachable(self) -> EverindexError | None:
        """The last known reason why the primary is unreachable, or None; does not connect."""
        return self._engine.why_unreachable()

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """What psycopg counts of each pool, `primary` and, while it is used, `replica`."""
        return self._engine.pool_stats()

    collections = _on_loop(Instance.collections)
    collection = _opening(Instance.collection)
    collection_of = _opening(Instance.collection_of)
    drop_collection = _in_thread(Instance.drop_collection)

    upsert = _in_thread(Instance.upsert)
    import_rows = _in_thread(Instance.import_rows)
    delete = _in_thread(Instance.delete)
    set_expiry = _in_thread(Instance.set_expiry)
    expiry_of = _on_loop(Instance.expiry_of)
    delete_expired = _in_thread(Instance.delete_expired)
    delete_orphans = _in_thread(Instance.delete_orphans)
    sync = _in_thread(Instance.sync)
    embed_missing = _in_thread(Instance.embed_missing)
    embedding_queue = _in_thread(Instance.embedding_queue)
    articles_to_embed = _in_thread(Instance.articles_to_embed)
    check_vectors = _in_thread(Instance.check_vectors)
    models = _in_thread(Instance.models)
    declare_model = _in_thread(Instance.declare_model)

    article = _on_loop(Instance.article)
    similar = _on_loop(Instance.similar)
