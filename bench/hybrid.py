"""The quality and speed of search by keyword, by meaning, and by both. Writes docs/measurements/hybrid.json."""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.search.hybrid import fuse
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.request.parsed_query import parse
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

RAW = Path(__file__).parents[1] / "docs" / "measurements" / "hybrid.json"
K = 10
ASKED = 250
#: Copies of the sample, without vectors, for the speed of words that many articles have.
COPIES = 6
ROUNDS = 5
STOP_WORDS = frozenset(
    """the of a an in to and is for with on now that by when was it be from as are not if at this can or which no has have been
    its will their using use used only also all any after into more than other does""".split()  # noqa: SIM905
)
TEXTS = (
    "memory leak in the parser", "faster regular expressions", "TLS certificate check", "crash on Windows", "asyncio.Queue",
    "deadlock when a thread is forked", "zipfile", "unicode decode error", '"memory leak" -parser', "_PyEval_EvalFrame",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The distinct texts of the sample."""

    articles: dict[str, Article]
    frequency: collections.Counter[str]
    """Of each lower-case word, how many articles have it."""

    def known_words(self, uri: str) -> list[str]:
        """The words of the article's title that are no stop words, once each, in their order."""
        found = re.findall(r"[A-Za-z_][A-Za-z_]+", self.articles[uri].title or "")
        return [word for word in dict.fromkeys(found) if word.lower() not in STOP_WORDS]

    def rarest(self, uri: str, count: int, *, least: int = 1) -> str:
        """The rarest words of its title that at least `least` articles have."""
        known = [word for word in self.known_words(uri) if self.frequency[word.lower()] >= least]
        rare = sorted(known, key=lambda word: (self.frequency[word.lower()], word))[:count]
        return " ".join(word for word in known if word in rare)


def distinct_articles() -> list[Article]:
    seen: dict[str, Article] = {}
    for article in read_source(str(sample_source())):
        if isinstance(article, Article):
            seen.setdefault(article.text_to_embed, article)
    return list(seen.values())


# --- quality -------------------------------------------------------------------------------------------------------


def plain_index(instance: Instance) -> Callable[[str, int], list[str]]:
    """Keyword search as PostgreSQL's manual has it: its own parser reads names like `asyncio.Queue` as one word."""
    document = sql.SQL(
        "(setweight(to_tsvector('english', coalesce(title, '')), 'A') || "
        "setweight(to_tsvector('english', coalesce(summary, '')), 'B'))"
    )
    with instance.connection() as connection:
        connection.execute(sql.SQL("CREATE INDEX plain_idx ON articles USING gin ({})").format(document))
    statement = sql.SQL(
        "SELECT uri FROM articles, websearch_to_tsquery('english', %s) AS q (query) "
        "WHERE {document} @@ q.query ORDER BY ts_rank_cd({document}, q.query) DESC, uri LIMIT %s"
    ).format(document=document)

    def search(text: str, k: int) -> list[str]:
        with instance.connection() as connection:
            return [row[0] for row in connection.execute(statement, (text, k))]

    return search


def quality(instance: Instance, texts: Texts) -> dict[str, Any]:
    """For each kind of query and each way: is the article found among the first ten, and in which place; and how many of the
    first ten others are of its category."""
    asked = random.Random(7).sample(sorted(texts.articles), ASKED)
    plain = plain_index(instance)
    kinds: dict[str, Callable[[str], str]] = {
        "the title": lambda uri: (texts.articles[uri].title or "").rstrip("…")[:200],
        "its rarest word": lambda uri: texts.rarest(uri, 1),
        "its two rarest words": lambda uri: texts.rarest(uri, 2),
        "its three rarest words": lambda uri: texts.rarest(uri, 3),
        "one word that five or more have": lambda uri: texts.rarest(uri, 1, least=5),
        "two words that five or more have": lambda uri: texts.rarest(uri, 2, least=5),
        "three words that five or more have": lambda uri: texts.rarest(uri, 3, least=5),
    }
    return {name: _of_kind(instance, texts, plain, [(uri, ask(uri)) for uri in asked]) for name, ask in kinds.items()}


def _of_kind(
    instance: Instance, texts: Texts, plain: Callable[[str, int], list[str]], queries: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    sums: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    known = instance.words.known()
    count = 0
    for uri, query in queries:
        if not query:
            continue
        count += 1
        near = [hit.uri for hit in instance.search(query, mode="semantic", k=100, ef_search=400).hits]
        with instance.connection() as connection:
            words = [hit.uri for hit in find(connection, known, Page(request=SearchRequest(text=query), k=100)).hits]
            some = " or ".join(word for word in re.findall(r"\w+", query) if word.lower() not in STOP_WORDS)
            any_word = [hit.uri for hit in find(connection, known, Page(request=SearchRequest(text=some), k=100)).hits]
        ways = {
            "semantic": near,
            "keyword": words,
            "keyword, PostgreSQL's own words": plain(query, 100),
            "keyword, any word": any_word,
            "hybrid": [one.key for one in fuse(near[: 2 * K], words[: 2 * K])],
            "hybrid, depth k": [one.key for one in fuse(near[:K], words[:K])],
            "hybrid, depth 5 k": [one.key for one in fuse(near[: 5 * K], words[: 5 * K])],
            "hybrid, any word": [one.key for one in fuse(near[: 2 * K], any_word[: 2 * K])],
        }
        for way, found in ways.items():
            others = [other for other in found if other != uri][:K]
            place = found[:K].index(uri) + 1 if uri in found[:K] else 0
            sums[way]["found"] += place > 0
            sums[way]["reciprocal"] += 1 / place if place else 0  # type: ignore[assignment]
            sums[way]["returned"] += len(others)
            sums[way]["same"] += sum(texts.articles[other].category == texts.articles[uri].category for other in others)
    return {
        "queries": count,
        "ways": {
            way: {
                "found_among_ten": round(total["found"] / count, 3),
                "mean_reciprocal_rank": round(total["reciprocal"] / count, 3),
                "others_returned": round(total["returned"] / count, 2),
                "category_agreement_of_ten": round(total["same"] / count / K, 3),
            }
            for way, total in sums.items()
        },
    }


# --- speed ---------------------------------------------------------------------------------------------------------


def in_turns(subjects: dict[str, Callable[[str], Any]], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile in milliseconds of each subject; they take turns, in an order that rotates."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for text in texts:
        for subject in subjects.values():
            subject(text)
    for number in range(ROUNDS * len(texts)):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            subjects[name](texts[number % len(texts)])
            taken[name].append((time.perf_counter() - started) * 1000)
    return {
        name: {"median_ms": round(statistics.median(values), 2), "p95_ms": round(float(np.percentile(values, 95)), 2)}
        for name, values in taken.items()
    }


def speed(instance: Instance) -> dict[str, Any]:
    """The three modes; the parts of a hybrid search; and the two searches one after the other and at the same time."""
    known = instance.words.known()
    vectors = {text: instance.embed_query(text) for text in TEXTS}
    hits = {text: instance.search(text, mode="semantic").hits for text in TEXTS}

    def words_of(text: str) -> Any:
        return instance.reading.ask(
            lambda connection: find(
                connection, known, Page(request=SearchRequest(text=text), k=2 * K), vector=vectors[text]
            )
        )

    def near_of(text: str) -> Any:
        return instance.search_vector(vectors[text], k=2 * K)

    def snippets_of(text: str) -> Any:
        return instance.reading.ask(lambda connection: with_snippets(connection, known.config, parse(text), hits[text]))

    with ThreadPoolExecutor(2) as pool:

        def together(text: str) -> Any:
            words = pool.submit(words_of, text)
            return near_of(text), words.result()

        return in_turns(
            {
                "semantic": lambda text: instance.search(text, mode="semantic"),
                "keyword": lambda text: instance.search(text, mode="keyword"),
                "hybrid": lambda text: instance.search(text),
                "part: by meaning": near_of,
                "part: by words": words_of,
                "part: snippets": snippets_of,
                "the two searches in turn": lambda text: (near_of(text), words_of(text)),
                "the two searches at once": together,
            },
            TEXTS,
        )


def under_load(instance: Instance) -> dict[str, Any]:
    """The same two ways with 8 searches at a time: searches a second."""
    known = instance.words.known()
    vectors = {text: instance.embed_query(text) for text in TEXTS}

    def words_of(text: str) -> Any:
        return instance.reading.ask(
            lambda connection: find(
                connection, known, Page(request=SearchRequest(text=text), k=2 * K), vector=vectors[text]
            )
        )

    def near_of(text: str) -> Any:
        return instance.search_vector(vectors[text], k=2 * K)

    rates: dict[str, list[float]] = {"the two searches in turn": [], "the two searches at once": []}
    with ThreadPoolExecutor(8) as pool, ThreadPoolExecutor(16) as inner:

        def in_turn(text: str) -> Any:
            return near_of(text), words_of(text)

        def at_once(text: str) -> Any:
            words = inner.submit(words_of, text)
            return near_of(text), words.result()

        asked = list(TEXTS) * 20
        for _ in range(3):
            for name, way in (("the two searches in turn", in_turn), ("the two searches at once", at_once)):
                started = time.perf_counter()
                list(pool.map(way, asked))
                rates[name].append(len(asked) / (time.perf_counter() - started))
    return {name: round(statistics.median(values)) for name, values in rates.items()}


def common_words(instance: Instance) -> list[dict[str, Any]]:
    """What ranking costs: words that few and many of all articles have."""
    known = instance.words.known()
    found = []
    for text in ("faulthandler", "zipfile", "crash", "memory", "python", "fix", "fix or add or now or patch", "-fix"):
        with instance.connection() as connection:
            taken = {}
            for name, most in (("keyword", 10_000), ("hybrid", 2_000)):
                times = []
                for _ in range(5):
                    started = time.perf_counter()
                    answer = find(connection, known, Page(request=SearchRequest(text=text), k=2 * K), most_ranked=most)
                    times.append((time.perf_counter() - started) * 1000)
                taken[f"{name}_ms"] = round(statistics.median(times), 1)
        is_more = [notice for notice in answer.notices if "more than" in notice]
        found.append({"text": text, "is_more_than_2000": bool(is_more), **taken})
    return found


def ranking_by_words(instance: Instance) -> list[dict[str, Any]]:
    """Milliseconds an article of ts_rank_cd for a query of so many words joined by `or`."""
    found = []
    with instance.connection() as connection:
        words = [
            row[0]
            for row in connection.execute(
                "SELECT word FROM ts_stat($$SELECT to_tsvector('english', title) FROM articles$$) "
                "ORDER BY ndoc DESC, word LIMIT 256"
            )
        ]
        for count in (1, 4, 16, 32, 64, 128, 256):
            started = time.perf_counter()
            connection.execute(
                "SELECT sum(ts_rank_cd(v, q)) FROM (SELECT to_tsvector('english', title || ' ' || coalesce(summary, '')) AS v "
                "FROM articles LIMIT 1000) x, websearch_to_tsquery('english', %s) q",
                (" or ".join(words[:count]),),
            ).fetchone()
            found.append({"words": count, "ms_an_article": round((time.perf_counter() - started), 3)})
    return found


# --- the index -----------------------------------------------------------------------------------------------------


def rows_and_index(instance: Instance) -> dict[str, Any]:
    with instance.connection() as connection:
        row = connection.execute(
            "SELECT count(*), pg_relation_size(to_regclass(%s)), pg_relation_size('articles') FROM articles",
            (INDEX_NAME,),
        ).fetchone()
    assert row is not None
    return {"rows": row[0], "index_mb": round((row[1] or 0) / 1e6, 2), "table_mb": round(row[2] / 1e6, 2)}


def built_anew(instance: Instance) -> float:
    with instance.connection() as connection:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(INDEX_NAME)))
    started = time.perf_counter()
    ensure_words(instance.conninfo, text_search="english")
    return round(time.perf_counter() - started, 2)


def analyzing(instance: Instance) -> dict[str, float]:
    """Seconds of ANALYZE with and without statistics of the index's expression."""
    taken = {}
    with instance.connection() as connection:
        for name, target in (("with statistics of the index", -1), ("without", 0)):
            connection.execute(
                sql.SQL("ALTER INDEX {} ALTER COLUMN 1 SET STATISTICS {}").format(
                    sql.Identifier(INDEX_NAME), sql.Literal(target)
                )
            )
            started = time.perf_counter()
            connection.execute("ANALYZE articles")
            taken[name] = round(time.perf_counter() - started, 2)
    return taken


def copied(instance: Instance) -> None:
    """The table COPIES times as long; the copies have no vectors."""
    with instance.connection() as connection:
        connection.execute(
            "INSERT INTO articles (uri, title, summary, category, topic, publication_date) "
            "SELECT uri || ' copy ' || n, title, summary, category, topic, publication_date "
            "FROM articles, generate_series(2, %s) n",
            (COPIES,),
        )
        connection.execute("VACUUM articles")
    instance.invalidate()


def instances() -> Iterator[Instance]:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        with embedded.running(Path(place) / "server") as conninfo:
            runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
            settings = Settings(EVERINDEX_STATEMENT_TIMEOUT_MS=0, EVERINDEX_POOL_SIZE=24)
            with connect_instance(conninfo, settings=settings) as instance:
                instance.import_rows(distinct_articles())
            runner.upgrade(conninfo, wait_seconds=0)
            with connect_instance(conninfo, settings=settings) as instance:
                yield instance


def measure() -> dict[str, Any]:
    articles = distinct_articles()
    texts = Texts(
        articles={article.uri: article for article in articles},
        frequency=collections.Counter(
            word
            for article in articles
            for word in {found.lower() for found in re.findall(r"[A-Za-z_][A-Za-z_]+", article.text_to_embed)}
        ),
    )
    load = os.getloadavg()[0]
    for instance in instances():
        measured: dict[str, Any] = {
            "date": date.today().isoformat(),
            "machine": {
                "cores": os.cpu_count(),
                "load_average_at_start": round(load, 2),
                "python": sys.version.split()[0],
            },
            "sample": {"articles": len(articles), "asked": ASKED, "k": K},
            "quality": quality(instance, texts),
            "speed": speed(instance),
            "searches_a_second_8_at_a_time": under_load(instance),
            "index": {
                "build_seconds": built_anew(instance),
                **rows_and_index(instance),
                "analyze_seconds": analyzing(instance),
            },
            "ranking": ranking_by_words(instance),
        }
        copied(instance)
        measured["copies"] = {
            "build_seconds": built_anew(instance),
            **rows_and_index(instance),
            "analyze_seconds": analyzing(instance),
            "common_words": common_words(instance),
        }
        return measured
    raise AssertionError("there is one instance")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure search by keyword, by meaning, and by both.")
    parser.add_argument("--write", action="store_true", help=f"write the numbers to {RAW.name} beside the page")
    write = parser.parse_args().write
    logging.disable(logging.WARNING)
    told = json.dumps(measure(), indent=2) + "\n"
    if write:
        RAW.write_text(told, encoding="utf-8")
    print(told, end="")


if __name__ == "__main__":
    main()
