"""What does a change of the embedding model cost? Where new vectors are written, how fast, and what searches pay for it.

Three questions on the sample of the package, with the static model at another width as the new one:

1. Vectors into a second column of the articles, or into a table of their own: rows a second, while the index of the old
   ones is there.
2. The rate of a whole filling against the embedder's own rate, in turns.
3. A search of vectors in a table of their own against one of the same vectors in the column, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import sql
from turns import summary, timed, turns

from everindex.articles.connect import connect_instance
from everindex.articles.embedding import StaticEmbedder
from everindex.articles.importers import read_source, sample_source
from everindex.articles.ingest.generation_vectors import read_due, store_made
from everindex.articles.ingest.other_generations import BATCH
from everindex.articles.ingest.rows import text_to_embed
from everindex.articles.instance import Instance
from everindex.articles.model_switch.cutting import drop_generation
from everindex.articles.model_switch.filling import NO_LIMITS, analyze, fill
from everindex.articles.model_switch.state import begin
from everindex.articles.search.request.search_request import SearchRequest
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.pg.connections import Connection, connect
from everindex.pg.embedded import running as embedded
from everindex.pg.vector_type import register_all_types
from everindex.settings import Settings

WIDTH, NEARLY_AS_WIDE = 256, 1535
FILTER = {"category": "Library"}


def open_connection(instance: Instance) -> Connection:
    connection = connect(instance.direct_conninfo)
    register_all_types(connection)
    return connection


def written(instance: Instance, rows: int) -> dict[str, Any]:
    """Rows a second of one batch, into a second column and into a table of their own; and what the articles grew by."""
    embedder = StaticEmbedder(width=WIDTH)
    with open_connection(instance) as connection:
        table = begin(instance.direct_conninfo, connection, embedder, name="static")
        due = read_due(connection, table, limit=rows)
        vectors = embedder.embed([each.text for each in due]).vectors
        beside, _ = timed(
            lambda: store_made(connection, table, [(each.key, each.digest, vectors[n]) for n, each in enumerate(due)])
        )
        size = "SELECT pg_total_relation_size('articles')"
        before = connection.execute(size).fetchone()
        connection.execute(sql.SQL("ALTER TABLE articles ADD COLUMN second {}(256)").format(table.vector_type_name))
        connection.execute("CREATE TEMP TABLE made AS SELECT uri, vector_2 FROM everindex_meta.article_vector_2")
        in_column, _ = timed(
            lambda: connection.execute("UPDATE articles a SET second = m.vector_2 FROM made m WHERE m.uri = a.uri")
        )
        after = connection.execute(size).fetchone()
        connection.execute("ALTER TABLE articles DROP COLUMN second")
        connection.execute("DROP TABLE made")
        drop_generation(connection, table.number)
        connection.execute("VACUUM articles")
    assert before is not None
    assert after is not None
    return {
        "rows": len(due),
        "own_table_rows_per_second": round(len(due) / beside),
        "second_column_rows_per_second": round(len(due) / in_column),
        "ratio": round(in_column / beside, 1),
        "articles_grew_by_bytes": after[0] - before[0],
    }


def filled(instance: Instance, count: int) -> dict[str, Any]:
    """Texts a second of the embedder alone and of a filling, in turns."""
    embedder = StaticEmbedder(width=WIDTH)
    with open_connection(instance) as connection:
        texts = [
            text_to_embed(row)
            for row in connection.execute("SELECT title, summary FROM articles ORDER BY uri").fetchall()
        ]
        embedder.embed(texts[:1])

        def alone() -> None:
            for start in range(0, len(texts), BATCH):
                embedder.embed(texts[start : start + BATCH])

        seconds: dict[str, list[float]] = {"alone": [], "switch": []}
        for _, name in turns(("alone", "switch"), count):
            if name == "alone":
                seconds[name].append(timed(alone)[0])
            else:
                table = begin(instance.direct_conninfo, connection, embedder, name="static")
                seconds[name].append(timed(lambda table=table: fill(connection, table, embedder, limits=NO_LIMITS))[0])
                drop_generation(connection, table.number)
    rates = {name: len(texts) / statistics.median(each) for name, each in seconds.items()}
    return {
        "texts": len(texts),
        "embedder_alone": round(rates["alone"]),
        "switch": round(rates["switch"]),
        "ratio": round(rates["switch"] / rates["alone"], 3),
        "seconds": {name: [round(each, 2) for each in found] for name, found in seconds.items()},
    }


def searched(instance: Instance, count: int) -> dict[str, Any]:
    """Searches by vector, pinned to the column and to a table of nearly as wide vectors of the same model, in turns."""
    with open_connection(instance) as connection:
        embedder = StaticEmbedder(width=NEARLY_AS_WIDE)
        table = begin(instance.direct_conninfo, connection, embedder, name="static")
        fill(connection, table, embedder, limits=NO_LIMITS)
        analyze(connection, table)
        deploy(instance.direct_conninfo, table.index)
        titles = [row[0] for row in connection.execute("SELECT title FROM articles ORDER BY md5(uri) LIMIT 50")]
        connection.execute("VACUUM ANALYZE articles")
        connection.execute(
            sql.SQL("VACUUM ANALYZE everindex_meta.{}").format(sql.Identifier(f"article_vector_{table.number}"))
        )
    instance.invalidate()
    models = {"column": (1, StaticEmbedder(width=1536)), "own table": (table.number, embedder)}
    vectors = {name: model.embed(titles).vectors for name, (_, model) in models.items()}
    result: dict[str, Any] = {}
    for kind, options in (("unfiltered", {}), ("filtered", {"filters": FILTER})):
        seconds: dict[str, list[float]] = {name: [] for name in models}
        strategies: dict[str, set[str]] = {name: set() for name in models}
        same: list[float] = []
        for turn, name in turns(tuple(models), count):
            at = turn % len(titles)
            request = SearchRequest(
                mode="semantic",
                vector=np.asarray(vectors[name][at]),
                generation=models[name][0],
                **_as_filters(options),
            )
            took, answer = timed(lambda request=request: instance.searches.answer(request))
            strategies[name].add(answer.strategy)
            if turn >= len(titles):  # the first round warms
                seconds[name].append(took)
        for at in range(len(titles)):
            keys = [
                {
                    hit.uri
                    for hit in instance.searches.answer(
                        SearchRequest(
                            mode="semantic",
                            vector=np.asarray(vectors[name][at]),
                            generation=number,
                            **_as_filters(options),
                        )
                    ).hits
                }
                for name, (number, _) in models.items()
            ]
            same.append(len(keys[0] & keys[1]) / max(1, len(keys[0])))
        result[kind] = {
            name: summary(each) | {"strategies": sorted(strategies[name])} for name, each in seconds.items()
        }
        result[kind]["ratio"] = round(result[kind]["own table"]["median_ms"] / result[kind]["column"]["median_ms"], 3)
        result[kind]["same_answers"] = round(statistics.fmean(same), 3)
    with open_connection(instance) as connection:
        drop_generation(connection, table.number)
    instance.invalidate()
    return result


def _as_filters(options: dict[str, Any]) -> dict[str, Any]:
    from everindex.articles.declared import ARTICLES
    from everindex.articles.search.request.search_request import as_filters

    return {"filters": as_filters(options["filters"], ARTICLES)} if options else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="directory of the server, filled at the first run")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--only", help="one of written, filled, searched")
    options = parser.parse_args()
    with embedded.running(options.home / "server", settings={}) as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        with connect_instance(conninfo, settings=Settings()) as instance:
            with instance.connection() as connection:
                row = connection.execute("SELECT count(*) FROM articles").fetchone()
            if row is not None and row[0] == 0:
                instance.import_rows(read_source(str(sample_source())))
            found: dict[str, Any] = {"at": time.strftime("%Y-%m-%d")}
            for name, work in (
                ("written", lambda: written(instance, 1_000)),
                ("filled", lambda: filled(instance, 5)),
                ("searched", lambda: searched(instance, options.turns)),
            ):
                if options.only not in (None, name):
                    continue
                print(f"measuring: {name}", file=sys.stderr)
                found[name] = work()
                print(json.dumps(found[name]), file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
