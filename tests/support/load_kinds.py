"""The kinds of orders that set an index aside for a load and bring it back, as data for the attacks on every other plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

import scene
from by_hand import rows, run
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.ingest import bulk_load
from everindex.index.catalog.observe import observe
from everindex.index.catalog.set_aside import find_note
from everindex.index.deploy.comments import note
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from plan_kinds import Kind, both

TABLE = "articles"
ON_INDEX, ON_KEY = "theirs, on the index", "theirs, on\nthe key"


def articles(conninfo: str) -> None:
    """A table of articles with as many rows as `items`, and the declared index, with comments of others on both indexes."""
    run(
        conninfo,
        f"CREATE TABLE {TABLE} (uri text PRIMARY KEY, title text, embedding vector({scene.DIMENSIONS}))",
        f"INSERT INTO {TABLE} SELECT id::text, 'title ' || id, embedding FROM items",
        f"ANALYZE {TABLE}",
        f"COMMENT ON INDEX {TABLE}_pkey IS '{ON_KEY}'",
    )
    deploy(conninfo, EMBEDDING_INDEX)
    run(conninfo, f"COMMENT ON INDEX {EMBEDDING_INDEX.name} IS '{ON_INDEX}'")


def set_aside(conninfo: str) -> None:
    """What a load leaves that was killed before it brought the index back."""
    with connect(conninfo) as connection:
        (index,) = observe(connection, EMBEDDING_INDEX).indexes
        note(Deployment(conninfo=conninfo, spec=EMBEDDING_INDEX, reporter=Reporter()), connection, index)
    drop(conninfo, EMBEDDING_INDEX, comes_back=True)


def load(conninfo: str, _: IndexSpec, *, reporter: Reporter | None = None) -> None:
    """A load for which the index is set aside, as a process of its own runs it.

    A server that is stopped here starts again at another socket: whoever waits for it at this one waits in vain.
    """
    bulk_load.RECOVERY_WAIT_SECONDS = 0.5
    with (
        bulk_load.without_index(conninfo, vectors_coming=bulk_load.LARGE_LOAD_ROWS, reporter=reporter),
        psycopg.connect(conninfo) as connection,
    ):
        register_vector(connection)
        vectors: Any = np.random.default_rng(7).standard_normal((50, scene.DIMENSIONS)).astype(np.float32)
        connection.cursor().executemany(
            f"INSERT INTO {TABLE} (uri, embedding) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [(f"loaded {number}", vector) for number, vector in enumerate(vectors)],
        )


def heal(conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None) -> None:
    """By whoever deploys next."""
    deploy(conninfo, spec, reporter=reporter)


def assert_back(conninfo: str, _: Kind) -> None:
    """One valid index as declared, the comments of others as they were, no note, and no row lost."""
    found = rows(
        conninfo,
        "SELECT c.relname::text, i.indisvalid AND i.indisready AND i.indislive, obj_description(c.oid, 'pg_class') "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s::regclass ORDER BY 1",
        TABLE,
    )
    assert found == [(EMBEDDING_INDEX.name, True, ON_INDEX), (f"{TABLE}_pkey", True, ON_KEY)], found
    with connect(conninfo) as connection:
        assert find_note(connection, EMBEDDING_INDEX) is None
    assert rows(conninfo, f"SELECT count(*) FROM {TABLE} WHERE uri NOT LIKE 'loaded%'") == rows(
        conninfo, "SELECT count(*) FROM items WHERE id < 50000"
    )


LOAD_KINDS = (
    Kind(
        name="load-without-index",
        prepare=articles,
        spec=EMBEDDING_INDEX,
        act=load,
        heal=heal,
        table=TABLE,
        check=assert_back,
    ),
    Kind(
        name="set-aside-by-a-killed-load",
        prepare=both(articles, set_aside),
        spec=EMBEDDING_INDEX,
        act=heal,
        heal=heal,
        table=TABLE,
        check=assert_back,
    ),
)
