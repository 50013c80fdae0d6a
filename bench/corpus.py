"""Vectors with the structure of real ones, as many as asked for: the sample's, and others between neighbours of them.

Each further vector lies between an article and one of its ten nearest, a little off the line: topics stay as dense, and
as far from each other, as they are in the sample. The same seed gives the same vectors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import psycopg

from everindex.articles.embedding.static import StaticEmbedder
from everindex.articles.importers import read_source, sample_source
from everindex.pg.connections import connect
from everindex.pg.vector_type import register_vector

Vectors = npt.NDArray[np.float32]
NEIGHBOURS = 10


def sample_vectors(dimensions: int) -> Vectors:
    """(9940, dimensions) float32: the sample, embedded with the static model and normalised."""
    embedder = StaticEmbedder(width=dimensions)
    texts = [article.text_to_embed for article in read_source(str(sample_source()))]
    return np.asarray(embedder.embed(texts).vectors, dtype=np.float32)


def corpus(rows: int, dimensions: int = 1536, *, seed: int = 1) -> Vectors:
    """(rows, dimensions) float32 of unit length."""
    return corpus_with_origins(rows, dimensions, seed=seed)[0]


def corpus_with_origins(rows: int, dimensions: int = 1536, *, seed: int = 1) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """The same, with the number of the sample's article that each row comes from, (rows,)."""
    real = sample_vectors(dimensions)
    known = np.flatnonzero(np.linalg.norm(real, axis=1) > 0)
    real = real[known]
    if rows <= len(real):
        return real[:rows], known[:rows]
    random = np.random.default_rng(seed)
    made, origin = made_between(real, neighbours_of(real), rows - len(real), random)
    return np.concatenate([real, made]).astype(np.float32), np.concatenate([known, known[origin]])


def made_between(
    real: Vectors, neighbours: npt.NDArray[np.int64], count: int, random: np.random.Generator
) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """(count, dim) further vectors of unit length, and which row of `real` each comes from."""
    origin = random.integers(len(real), size=count)
    towards = neighbours[origin, random.integers(NEIGHBOURS, size=count)]
    share = random.uniform(0.2, 0.8, size=(count, 1)).astype(np.float32)
    between = real[origin] * (1 - share) + real[towards] * share
    length = np.linalg.norm(real[origin] - real[towards], axis=1, keepdims=True)
    noise = random.standard_normal((count, real.shape[1]), dtype=np.float32) / np.sqrt(real.shape[1])
    made = between + 0.3 * length * noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32), origin


def neighbours_of(vectors: Vectors) -> npt.NDArray[np.int64]:
    """(n, NEIGHBOURS): the rows nearest to each, without itself."""
    found = np.empty((len(vectors), NEIGHBOURS), dtype=np.int64)
    for start in range(0, len(vectors), 1000):
        likeness = vectors[start : start + 1000] @ vectors.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        found[start : start + 1000] = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return found


def fill(conninfo: str, vectors: Vectors, *, table: str = "items") -> None:
    """Table `items` (id, n, embedding) with the vectors and its statistics, without an index."""
    with connect(conninfo) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
        name = psycopg.sql.Identifier(table)
        width = psycopg.sql.Literal(vectors.shape[1])
        connection.execute(
            psycopg.sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, n int DEFAULT 0, embedding vector({}))").format(
                name, width
            )
        )
        copy_in = psycopg.sql.SQL("COPY {} (id, embedding) FROM STDIN WITH (FORMAT BINARY)").format(name)
        with connection.cursor().copy(copy_in) as copy:
            copy.set_types(["int4", "vector"])
            for number, vector in enumerate(vectors):
                copy.write_row([number, vector])
        connection.execute(psycopg.sql.SQL("VACUUM ANALYZE {}").format(name))
