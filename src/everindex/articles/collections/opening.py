"""Opening, making, laying over a table and dropping of collections, on behalf of an instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Protocol

from everindex.articles.collections.collection import Collection, CutsPassages
from everindex.articles.collections.creation import (
    column_types,
    create_table,
    drop_passages,
    drop_table,
    require_dimensions,
    require_usable,
)
from everindex.articles.collections.registry import (
    as_stored,
    find_collection,
    forget_collection,
    record_collection,
    record_passages,
    require_collection,
)
from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.partial_indexes import forget_partial_indexes
from everindex.articles.shape.spec import CollectionSpec, VectorType, invalid
from everindex.articles.table import read_table
from everindex.errors import CollectionInvalid
from everindex.pg import own_schema
from everindex.pg.address import Addresses
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection, connect
from everindex.pg.locks import advisory_lock
from everindex.settings import Settings

#: How long one waits for another process that makes collections.
LOCK_WAIT_SECONDS = 60.0


class Opener(Protocol):
    """What of an instance is needed."""

    @property
    def addresses(self) -> Addresses: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def opened(self) -> MutableMapping[str, Collection]: ...
    def renew_connections(self) -> None: ...
    @property
    def passages_of(self) -> Callable[[CollectionSpec], CutsPassages]: ...


def open_collection(
    instance: Opener,
    name: str,
    *,
    spec: CollectionSpec | None,
    dim: int | None,
    vector_type: VectorType,
    key_type: str,
    metadata_types: Mapping[str, str] | Sequence[str],
) -> Collection:
    """As `Instance.collection`. `spec`: the declaration to make it by, where it may be made."""
    if name == ARTICLES.name:
        raise invalid(
            name, "the articles are the instance itself", "search them with the instance.", "choose another name."
        )
    if spec is None or dim is None:
        if name not in instance.opened:
            with connect(instance.addresses.main) as connection:
                instance.opened[name] = _collection(instance, require_collection(connection, name))
        return instance.opened[name]
    require_dimensions(spec, dim, vector_type)
    types = column_types(spec, metadata_types)
    own_schema.ensure(instance.addresses.direct)
    with (
        connect(instance.addresses.direct, application_name="everindex collection") as connection,
        advisory_lock(instance.addresses.direct, "own-schema", wait_seconds=LOCK_WAIT_SECONDS),
    ):
        found = find_collection(connection, name)
        had_extension = look(connection).extension_version is not None
        if found is None:
            with connection.transaction():
                schema = create_table(connection, spec, dim=dim, kind=vector_type, key_type=key_type, types=types)
                record_collection(connection, spec, schema=schema)
            found = replace(spec, schema=schema)
        else:
            found = _with_passages(connection, spec, found)
            _require_same(spec, found)
            width = read_table(connection, found).dimensions
            if width != dim:
                raise _differs(found, f"its vectors have {width} dimensions, not {dim}")
    if not had_extension:  # a connection learns the type of vectors once, when it is made
        instance.renew_connections()
    collection = instance.opened[name] = _collection(instance, found)
    collection.deploy()
    return collection


def lay_collection(instance: Opener, spec: CollectionSpec, *, deploys: bool) -> Collection:
    """As `Instance.collection_of`."""
    if spec.name == ARTICLES.name:
        raise invalid(
            spec.name, "the name is that of the articles", "these are a collection already.", "pass another name."
        )
    own_schema.ensure(instance.addresses.direct)
    with (
        connect(instance.addresses.direct, application_name="everindex collection") as connection,
        advisory_lock(instance.addresses.direct, "own-schema", wait_seconds=LOCK_WAIT_SECONDS),
    ):
        table = read_table(connection, spec)
        here = replace(spec, schema=table.schema)
        require_usable(connection, table, deploys=deploys)
        found = find_collection(connection, spec.name)
        if found is None:
            record_collection(connection, here, schema=table.schema)
        else:
            _require_same(here, _with_passages(connection, here, found))
    collection = instance.opened[spec.name] = _collection(instance, here)
    if deploys:
        collection.deploy()
    return collection


def drop_collection(instance: Opener, name: str) -> None:
    """As `Instance.drop_collection`."""
    with connect(instance.addresses.direct, application_name="everindex collection") as connection:
        spec = require_collection(connection, name)
        if spec is ARTICLES:
            raise invalid(name, "migrations made the articles", "they go with them.", "run  everindex migrate --down.")
        with connection.transaction():
            forget_collection(connection, name)
            drop_passages(connection, spec)
            forget_partial_indexes(connection, (str(spec.schema), spec.table))
            if spec.is_owned:
                drop_table(connection, spec)
    for closed in (name, f"{name}.passages"):
        instance.opened.pop(closed, None)


def _collection(instance: Opener, spec: CollectionSpec) -> Collection:
    passages = None if spec.passages is None else instance.passages_of(spec)
    return Collection(spec, instance.addresses, instance.settings, reading=instance.reading, passages=passages)


def _with_passages(connection: Connection, spec: CollectionSpec, found: CollectionSpec) -> CollectionSpec:
    """A recorded collection, of which another text is cut into passages from now on, where that alone is new."""
    if found.passages is not None or spec.passages is None:
        return found
    wanted = replace(found, passages=spec.passages)
    _require_same(spec, wanted)
    record_passages(connection, wanted)
    return wanted


def _require_same(spec: CollectionSpec, found: CollectionSpec) -> None:
    """Raises CollectionInvalid where a recorded collection has another declaration."""
    stored = as_stored(found)
    for name, value in as_stored(spec).items():
        if stored[name] != value:
            raise _differs(found, f"{name} is {stored[name]!r}, not {value!r}")
    if spec.table != found.table or spec.schema not in (None, found.schema):
        raise _differs(found, f"its table is {found.schema}.{found.table}")


def _differs(found: CollectionSpec, why: str) -> CollectionInvalid:
    return CollectionInvalid(
        f"collection {found.name!r} exists with another declaration.",
        why=f"{why}.",
        next_step=f"open it with  instance.collection({found.name!r}) , or choose another name.",
    )
