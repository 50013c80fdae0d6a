"""An article instance of any size to measure on: corpus.py's vectors, or given ones, with filters of known shares.

`--vectors FILE.npy --rows FILE.jsonl` measure your own: (n, dim) float32, and one article as JSON a line in the same order.
Made articles keep the category of the sample's article that they come from, so that a category is a cluster of the vector
space, as it is in life; their topic is drawn without regard to the vector, in the SHARES.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from corpus import corpus_with_origins
from psycopg import sql

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.index.deploy.executor import deploy
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.connections import Connection, connect
from everindex.pg.embedded import running as embedded
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings

Vectors = npt.NDArray[np.float32]
#: topic → the share of all rows that have it.
SHARES = {"half": 0.5, "tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}
COLUMNS = ("uri", "title", "summary", "news_source", "category", "topic", "publication_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Rows in the order of their vectors."""

    vectors: Vectors
    rows: list[dict[str, Any]]

    def values(self, column: str) -> npt.NDArray[np.str_]:
        return np.array([str(row.get(column)) for row in self.rows])


def made_corpus(rows: int, dimensions: int = 1536, *, seed: int = 1) -> Corpus:
    """`rows` articles, the sample's first."""
    vectors, origins = corpus_with_origins(rows, dimensions, seed=seed)
    articles = list(read_source(str(sample_source())))
    random = np.random.default_rng(seed)
    names = [*SHARES, "rest"]
    topics = random.choice(names, size=rows, p=[*SHARES.values(), 1 - sum(SHARES.values())])
    made = []
    for number, (origin, topic) in enumerate(zip(origins, topics, strict=True)):
        article = articles[origin]
        values = {column: getattr(article, column) for column in COLUMNS}
        made.append({**values, "uri": f"bench:{number}", "topic": str(topic)})
    return Corpus(vectors=vectors, rows=made)


def given_corpus(vectors: Path, rows: Path) -> Corpus:
    with rows.open(encoding="utf-8") as lines:
        return Corpus(vectors=np.load(vectors).astype(np.float32), rows=[json.loads(line) for line in lines])


def corpus_arguments(parser: argparse.ArgumentParser, *, rows: int = 60_000) -> None:
    """The options that every measurement on articles has."""
    parser.add_argument("--count", type=int, default=rows, help="rows to make")
    parser.add_argument("--vectors", type=Path, help="your own vectors, (n, dim) float32 .npy")
    parser.add_argument("--rows", type=Path, help="your own articles, JSON lines in the order of the vectors")
    parser.add_argument("--home", type=Path, required=True, help="where the server lies; filled once, then used again")


def corpus_of(options: argparse.Namespace) -> Corpus:
    if options.vectors and options.rows:
        return given_corpus(options.vectors, options.rows)
    return made_corpus(options.count)


@contextmanager
def instance_with(
    corpus: Corpus, home: Path, *, spec: IndexSpec | None = None, settings: dict[str, str] | None = None
) -> Iterator[Instance]:
    """An open instance on an embedded server at `home`, with the corpus and its index; only opened where it is there."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    with embedded.running(home / "server", settings=settings or {}) as conninfo:
        runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
        with connect(conninfo) as connection:
            count = connection.execute("SELECT count(*) FROM articles").fetchone()
            if count is not None and count[0] == 0:
                fill(connection, corpus)
        if spec is None:
            runner.upgrade(conninfo, wait_seconds=0)
        else:
            deploy(conninfo, spec, reporter=Reporter())
        with connect_instance(conninfo, settings=Settings()) as instance:
            with connect(conninfo) as connection:
                declare_static(connection, instance.embedder.model)
            yield instance


def declare_static(connection: Connection, model: str) -> None:
    """Declares the static model for the made vectors, which are its vectors moved a little: without a declaration a text is
    searched for by its words alone, and `everindex model declare` refuses vectors that its model did not make."""
    connection.execute(
        "INSERT INTO everindex_meta.declared_model "
        "(table_schema, table_name, model, text_form, compared, agreed, median_cosine, worst_cosine) "
        "VALUES ('public', 'articles', %s, 'title and summary', 0, 0, 0, 0) ON CONFLICT DO NOTHING",
        (model,),
    )


def fill(connection: Connection, corpus: Corpus) -> None:
    """All rows with their vectors, in their order, and VACUUM ANALYZE."""
    register_vector(connection)
    write_rows(connection, corpus)
    connection.execute("VACUUM ANALYZE articles")


def write_rows(connection: Connection, corpus: Corpus) -> None:
    """COPY in binary, one transaction. The connection knows pgvector's type."""
    columns = sql.SQL(", ").join(map(sql.Identifier, (*COLUMNS, "embedding")))
    with connection.cursor().copy(
        sql.SQL("COPY articles ({}) FROM STDIN WITH (FORMAT BINARY)").format(columns)
    ) as copy:
        copy.set_types([*("text" for _ in COLUMNS), "vector"])
        for row, vector in zip(corpus.rows, corpus.vectors, strict=True):
            copy.write_row([*(row.get(column) for column in COLUMNS), vector])


def near(vectors: Vectors, count: int, *, seed: int = 7) -> Vectors:
    """Query vectors: those of random rows, each moved by a tenth of its length, so that none is equal to a row."""
    random = np.random.default_rng(seed)
    chosen = vectors[random.choice(len(vectors), size=count, replace=False)]
    noise = random.standard_normal(chosen.shape).astype(np.float32) / np.sqrt(chosen.shape[1])
    return np.asarray(chosen + 0.1 * np.linalg.norm(chosen, axis=1, keepdims=True) * noise, dtype=np.float32)
