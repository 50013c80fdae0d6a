"""What is found and how fast by words: BM25 from memory, by reading every match, and PostgreSQL's own ranking, in turns.

`--packages` takes the descriptions of Debian's packages, as `apt-get update -o Acquire::Languages=en` has them on this machine
(any 60,000 texts do: `--rows FILE.jsonl` as in article_corpus.py); without it the sample, made larger, is measured. The texts
are embedded with the static model. `--bm25s` compares what is found with bm25s (an environment that has it).

No judgements are shipped with such texts, so they are made: a query is derived from one text (its title, words of its body),
which counts 3; texts of the same topic (packages of the same source) count 1. That favours no ranking, but it is easier than
what people ask.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import numpy as np
from article_corpus import Corpus, corpus_arguments, corpus_of, instance_with
from psycopg import sql
from turns import summary, timed, turns

from everindex.articles.embedding.static import StaticEmbedder
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.search.keyword.document import document, query, ranking_document
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.request.search_request import Page, SearchRequest

K = 10
KINDS = (
    "its title",
    "its title and a word of another",
    "two words of the body",
    "four words of the body",
    "its first sentence, asked",
)
_WORD = re.compile(r"[A-Za-z][A-Za-z]{2,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s")
_COMMON = frozenset(
    [
        "the",
        "and",
        "for",
        "with",
        "this",
        "that",
        "from",
        "are",
        "was",
        "has",
        "have",
        "you",
        "your",
        "can",
        "not",
        "all",
        "any",
        "which",
        "will",
        "its",
        "use",
    ]
)


# --- texts ---------------------------------------------------------------------------------------------------------


def packages(count: int) -> Corpus:
    """The descriptions of Debian's packages that apt knows, (count,)."""
    texts: dict[str, str] = {}
    for file in glob.glob("/var/lib/apt/lists/*Translation-en*"):
        for entry in _apt_file(file).split("\n\n"):
            digest = re.search(r"^Description-md5: (\S+)", entry, re.M)
            text = re.search(r"^Description-en: (.*(?:\n .*)*)", entry, re.M)
            if digest and text:
                texts[digest[1]] = text[1]
    rows: dict[str, dict[str, Any]] = {}
    for entry in subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout.split(
        "\n\n"
    ):
        fields = dict(re.findall(r"^(Package|Section|Source|Description-md5|Description): (.*)$", entry, re.M))
        name = fields.get("Package")
        if name is None or name in rows or len(rows) == count:
            continue
        short, _, body = texts.get(fields.get("Description-md5", ""), fields.get("Description", "")).partition("\n")
        rows[name] = {
            "uri": f"deb:{name}", "title": f"{name}: {short}", "summary": re.sub(r"\n ?\.?", "\n", body).strip() or short,
            "news_source": "debian", "category": fields.get("Section"),
            "topic": fields.get("Source", name).split(" ")[0], "publication_date": None,
        }  # fmt: skip
    made = list(rows.values())
    return Corpus(vectors=embedded(made), rows=made)


def _apt_file(file: str) -> str:
    return subprocess.run(
        ["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True, check=True
    ).stdout.decode()


def embedded(rows: Sequence[dict[str, Any]]) -> Any:
    embedder = StaticEmbedder(width=1536)
    texts = [Article(uri=row["uri"], title=row["title"], summary=row["summary"]).text_to_embed for row in rows]
    parts = [embedder.embed(texts[at : at + 5000]).vectors for at in range(0, len(texts), 5000)]
    return np.concatenate(parts).astype(np.float32)


# --- queries -------------------------------------------------------------------------------------------------------


def queries_of(rows: Sequence[dict[str, Any]], count: int) -> list[tuple[str, int, str]]:
    """(kind, number of the text, query)."""
    chance = random.Random(5)
    made = []
    for number in chance.sample(range(len(rows)), min(3 * count, len(rows))):
        title = (rows[number]["title"] or "").partition(": ")
        body = sorted({word for word in _WORD.findall(rows[number]["summary"] or "") if word.lower() not in _COMMON})
        if len(body) < 8 or len(made) >= count * len(KINDS):
            continue
        stranger = _WORD.findall(rows[chance.randrange(len(rows))]["summary"] or "") or ["xylophone"]
        short = title[2] or title[0]
        sentence = _SENTENCE.split(rows[number]["summary"])[0][:200].lower()
        texts = (
            short, f"{short} {chance.choice(stranger)}", " ".join(chance.sample(body, 2)), " ".join(chance.sample(body, 4)),
            f"how can I {sentence}",
        )  # fmt: skip
        made += [(kind, number, text) for kind, text in zip(KINDS, texts, strict=True) if text.strip()]
    return made


class Judgements:
    """Texts of the same topic, up to 30, and the text itself."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows
        self._same: dict[Any, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            self._same[row["topic"]].append(number)
        self.number_of = {row["uri"]: number for number, row in enumerate(rows)}

    def ndcg(self, found: Sequence[str], number: int) -> float:
        same = self._same[self._rows[number]["topic"]]
        gain = dict.fromkeys(same if len(same) <= 30 else [], 1.0) | {number: 3.0}
        ideal = sorted(gain.values(), reverse=True)[:K]
        given = [gain.get(self.number_of[uri], 0.0) for uri in found[:K]]
        return _dcg(given) / _dcg(ideal)


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


# --- ways ----------------------------------------------------------------------------------------------------------


def ranked_by_postgres(instance: Instance, text: str, k: int = K) -> list[str]:
    """The ranking before: ts_rank_cd over every match, parsed anew."""
    known = instance.words.known()
    statement = sql.SQL(
        "SELECT uri FROM articles WHERE {document} @@ {query} ORDER BY ts_rank_cd({ranking}, {query}) DESC, uri LIMIT {k}"
    ).format(
        document=document(known.config),
        ranking=ranking_document(known.config),
        query=query(known.config),
        k=sql.Literal(k),
    )
    words = SearchRequest(text=text, mode="keyword").words
    with instance.connection() as connection:
        return [row[0] for row in connection.execute(statement, {"text": words.query}).fetchall()]


def matches_alone(instance: Instance, text: str) -> int:
    """The bare statement: how many rows match."""
    known = instance.words.known()
    statement = sql.SQL("SELECT count(*) FROM articles WHERE {document} @@ {query}").format(
        document=document(known.config), query=query(known.config)
    )
    with instance.connection() as connection:
        row = connection.execute(statement, {"text": SearchRequest(text=text, mode="keyword").words.query}).fetchone()
    return int(row[0]) if row else 0


def read_every_match(instance: Instance, text: str) -> Any:
    """As a process does that has no words in memory."""
    known = instance.words.known()
    request = SearchRequest(text=text, mode="keyword")
    return instance.reading.ask(lambda connection: find(connection, known, Page(request=request, k=K)))


def in_turns(ways: dict[str, Callable[[str], Any]], texts: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for text in texts:
        for way in ways.values():
            way(text)
        for _, name in turns(list(ways), rounds):
            times[name].append(timed(lambda name=name, text=text: ways[name](text))[0])  # type: ignore[misc]
    return {name: summary(values) for name, values in times.items()}


def tenth_words(instance: Instance, rows: int) -> list[str]:
    """Words that about a tenth of the texts have."""
    known = instance.words.known()
    with instance.connection() as connection:
        found = connection.execute(
            sql.SQL(
                "SELECT word FROM ts_stat({}) WHERE ndoc BETWEEN %s AND %s AND length(word) > 3 ORDER BY abs(ndoc - %s) LIMIT 6"
            ).format(sql.Literal(f"SELECT to_tsvector('{known.config.name}', title || ' ' || summary) FROM articles")),  # noqa: S608
            (rows * 0.08, rows * 0.13, rows * 0.1),
        ).fetchall()
    return [row[0] for row in found]


# --- measuring -----------------------------------------------------------------------------------------------------


def speed(instance: Instance, corpus: Corpus, queries: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    common = tenth_words(instance, len(corpus.rows))
    several = [f"{common[0]} {common[1]} {common[2]}", f"{common[1]} {common[3]}", " ".join(common[:5])]
    ways: dict[str, Callable[[str], Any]] = {
        "matches, counted": lambda text: matches_alone(instance, text),
        "by words": lambda text: instance.search(text, mode="keyword"),
        "ranking before": lambda text: ranked_by_postgres(instance, text),
    }
    texts = [text for _, _, text in queries]
    random.Random(1).shuffle(texts)
    modes: dict[str, Callable[[str], Any]] = {
        "semantic": lambda text: instance.search(text, mode="semantic"),
        "by words": lambda text: instance.search(text, mode="keyword"),
        "hybrid": lambda text: instance.search(text),
    }
    return {
        "a word that a tenth have": {"words": common, **in_turns(ways, common, 9)},
        "several such words": {"texts": several, **in_turns(ways, several, 9)},
        "500 queries": in_turns(modes, texts[:500], 1),
    }


def quality(instance: Instance, corpus: Corpus, queries: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    judgements = Judgements(corpus.rows)
    ways: dict[str, Callable[[str], list[str]]] = {
        mode: lambda text, mode=mode: [hit.uri for hit in instance.search(text, mode=mode, k=K).hits]  # type: ignore[misc]
        for mode in ("semantic", "keyword", "hybrid")
    }
    return {name: scored(judgements, queries, [way(text) for _, _, text in queries]) for name, way in ways.items()}


def scored(
    judgements: Judgements, queries: Sequence[tuple[str, int, str]], found: Sequence[list[str]]
) -> dict[str, float]:
    of: dict[str, list[float]] = defaultdict(list)
    for (kind, number, _), uris in zip(queries, found, strict=True):
        value = judgements.ndcg(uris, number)
        of[kind].append(value)
        of["all"].append(value)
    return {kind: round(float(np.mean(values)), 4) for kind, values in of.items()}


def with_bm25s(instance: Instance, corpus: Corpus, queries: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    """The same texts, stems and stop words."""
    import bm25s

    judgements = Judgements(corpus.rows)
    known = instance.words.known()
    of = f"to_tsvector('{known.config.name}', translate(%s, './@<>-+', '       '))"
    with instance.connection() as connection:
        connection.execute("SET statement_timeout = 0")
        texts = dict(
            connection.execute(
                "SELECT uri, (SELECT array_agg(lexeme) FROM unnest(words) w, "  # noqa: S608
                "generate_series(1, cardinality(positions))) "
                f"FROM (SELECT uri, {of.replace('%s', 'title || $$ $$ || summary')} AS words FROM articles) x"
            ).fetchall()
        )
        asked = [
            connection.execute(f"SELECT tsvector_to_array({of})", (text,)).fetchone()[0]  # type: ignore[index]
            for _, _, text in queries
        ]
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index([texts[row["uri"]] or [] for row in corpus.rows], show_progress=False)
    found = []
    for stems in asked:
        stems = [stem for stem in stems if stem in index.vocab_dict]
        numbers, scores = index.retrieve([stems], k=K, show_progress=False) if stems else ([[]], [[]])
        found.append([corpus.rows[int(n)]["uri"] for n, score in zip(numbers[0], scores[0], strict=True) if score > 0])
    return scored(judgements, queries, found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure keyword search: its order and its speed.")
    corpus_arguments(parser)
    parser.add_argument("--packages", action="store_true", help="the descriptions of Debian's packages")
    parser.add_argument("--bm25s", action="store_true", help="compare with bm25s, which must be installed")
    parser.add_argument("--texts", type=int, default=250, help="texts to derive queries from")
    options = parser.parse_args()
    corpus = packages(options.count) if options.packages else corpus_of(options)
    queries = queries_of(corpus.rows, options.texts)
    load = os.getloadavg()[0]
    with instance_with(corpus, options.home, settings={"shared_buffers": "1GB"}) as instance:
        instance.declare_model("static")
        begun = time.perf_counter()
        rows = instance.words.rows
        while rows.postings is None:
            rows.read_in_background(instance.words.known())
            time.sleep(0.1)
        measured = {
            "date": date.today().isoformat(),
            "machine": {
                "cores": os.cpu_count(),
                "load_average_at_start": round(load, 1),
                "python": sys.version.split()[0],
            },
            "rows": len(corpus.rows),
            "in_memory": {"seconds": round(time.perf_counter() - begun, 1), "mb": round(rows.memory_bytes / 1e6, 1)},
            "speed": speed(instance, corpus, queries),
        }
        print(json.dumps(measured), file=sys.stderr)
        measured["ndcg_at_10"] = quality(instance, corpus, queries)
        if options.bm25s:
            measured["ndcg_at_10"]["bm25s"] = with_bm25s(instance, corpus, queries)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
