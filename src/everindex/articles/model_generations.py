"""The generations of the articles' vectors: which model made each, where they are stored, and which of them serves searches.

Generation 1 is the articles' own column. Each later one is a table of its own in schema everindex_meta, so that writing it
changes no row and no index of the articles (docs/decisions/0034). Names contain the number and are never used again: a
statement that was composed for one generation can never read another. Reads only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg import sql

from everindex.articles.shape.spec import VectorType
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection

#: The generation that is the articles' own column.
COLUMN = 1

#: The table of everindex_meta that records the generations.
GENERATION_TABLE = "model_generation"

#: filling: a switch writes it; serving: searches read it; kept: for a rollback; dropped: its vectors are gone.
State = Literal["filling", "serving", "kept", "dropped"]

#: Bytes of the digest of a text.
DIGEST_BYTES = 8

#: Of the widest halfvec that an HNSW index takes; a wider one could only be searched exactly. Source: pgvector, hnsw.h.
WIDEST_VECTOR, WIDEST_HALFVEC = 2_000, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGeneration:
    """One generation of vectors."""

    number: int
    model: str | None
    """The model as it is recorded (`Embedder.model`); None where it is not known (of vectors that others wrote)."""

    name: str | None
    """The name by which a process loads the model (`embedder_named`); None: that of its settings."""

    dimensions: int
    vector_type: VectorType = "vector"
    state: State
    kept_until: datetime | None = None
    """From this moment on the vectors may be dropped; None where they serve, or are kept until somebody drops them."""

    @property
    def is_column(self) -> bool:
        return self.number == COLUMN

    @property
    def table(self) -> str:
        """Its table in everindex_meta; of generation 1 there is none."""
        return f"article_vector_{self.number}"

    @property
    def column(self) -> str:
        return f"vector_{self.number}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("everindex_meta", self.table)

    @property
    def index(self) -> IndexSpec:
        """The declared vector index of its table."""
        return IndexSpec(
            name=f"{self.table}_hnsw_idx",
            table=self.table,
            schema="everindex_meta",
            column=self.column,
            opclass=f"{self.vector_type}_cosine_ops",
            is_located=True,
        )


def vector_type_of(dimensions: int) -> VectorType:
    """The narrowest type whose HNSW index takes vectors so wide without loss where possible: halfvec above 2,000."""
    return "vector" if dimensions <= WIDEST_VECTOR else "halfvec"


_READ = """
    SELECT number, model, name, dimensions, vector_type, state, kept_until
    FROM everindex_meta.model_generation WHERE state <> 'dropped' ORDER BY number
"""


def read_generations(connection: Connection) -> tuple[ModelGeneration, ...]:
    """The generations that have vectors, in the order of their numbers; empty where no switch was ever begun. The table has to
    exist and be readable."""
    return tuple(
        ModelGeneration(
            number=row[0],
            model=row[1],
            name=row[2],
            dimensions=row[3],
            vector_type=row[4],
            state=row[5],
            kept_until=row[6],
        )
        for row in connection.execute(_READ).fetchall()
    )


def serving_of(generations: tuple[ModelGeneration, ...]) -> ModelGeneration | None:
    """The generation that searches read; None where that is the column and nothing says otherwise."""
    return next((each for each in generations if each.state == "serving"), None)


def digest_of(title: str | None, summary: str | None) -> bytes:
    """The digest of an article's texts from which a vector is made, as `digest_sql` computes it on the server."""
    return hashlib.sha256(f"{title or ''}\x01{summary or ''}".encode()).digest()[:DIGEST_BYTES]


def digest_sql(alias: str) -> sql.Composed:
    """The same of the row `alias` of the articles, bytea."""
    return sql.SQL(
        "pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(coalesce({0}.title::pg_catalog.text, '') "
        "OPERATOR(pg_catalog.||) E'\\x01' OPERATOR(pg_catalog.||) coalesce({0}.summary::pg_catalog.text, ''), 'UTF8')), "
        "1, {1})"
    ).format(sql.Identifier(alias), sql.Literal(DIGEST_BYTES))
