"""How well everindex finds: hybrid against BM25 (bm25s) and meaning, on judged queries. Writes docs/measurements/finding.json.

No Python package was found that ships queries with judgements and the judged texts, so the judgements are made of the sample:

- siblings: the news items of one issue of CPython's tracker. The text of one is the query, the others of the same issue answer
  it, if their words differ (Jaccard below 0.5). The item itself is taken out of every ranking. Nobody typed these queries.
- titles: the first eight words of a sibling query, with the same judgements.
- written: examples/evaluate/queries.jsonl, two dozen queries in a user's words, each written for one item before any search ran.

With --cranfield DIRECTORY also the Cranfield collection (1,400 abstracts on aerodynamics, 225 questions of engineers, judged by
people), which many teachers of information retrieval publish as cran.all.1400, cran.qry and cranqrel: judgements that owe
nothing to everindex.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from environments import python_of

from everindex.articles.connect import connect_instance
from everindex.articles.evaluation.judgements import JudgedQuery, read_judgements
from everindex.articles.evaluation.measures import compare, estimate, measure, measure_names
from everindex.articles.evaluation.systems import Evaluated, System, systems_of
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.articles.model import MODES, Article
from everindex.articles.search.hybrid import fuse
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

ROOT = Path(__file__).parents[1]
RAW = ROOT / "docs" / "measurements" / "finding.json"
WRITTEN = ROOT / "examples" / "evaluate" / "queries.jsonl"
K = 10
#: Words of a title that somebody would type.
TYPED = 8
#: Two texts with more words in common are one news item written twice: any search finds it.
SAME_WORDS = 0.5
#: Run in the environment of bench/requirements/bm25s.txt: texts and queries in, rankings out.
BM25 = """
import json, sys, bm25s, Stemmer
given = json.load(sys.stdin)
stemmer = Stemmer.Stemmer("english")
def words(texts): return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
index = bm25s.BM25()
index.index(words(given["texts"]), show_progress=False)
found, scores = index.retrieve(words(given["queries"]), k=given["k"], show_progress=False)
json.dump([[int(n) for n, s in zip(row, values) if s > 0] for row, values in zip(found, scores)], sys.stdout)
"""


def sample() -> list[Article]:
    """The distinct texts of the sample: of each the item that WRITTEN judges, else the first."""
    judged_keys = read_judgements(WRITTEN).keys
    seen: dict[str, Article] = {}
    for article in read_source(str(sample_source())):
        if isinstance(article, Article) and (article.text_to_embed not in seen or article.uri in judged_keys):
            seen[article.text_to_embed] = article
    return list(seen.values())


def cranfield(folder: Path) -> tuple[list[Article], list[JudgedQuery]]:
    """The abstracts and the judged questions. Those of grades 1 to 4 (of 5, which is of no interest) are relevant."""
    articles = []
    for number, parts in _records(folder / "cran.all.1400"):
        title, text = parts.get("T", ""), parts.get("W", "")
        if text:  # two of them are empty
            articles.append(Article(uri=number, title=title, summary=text.removeprefix(title).strip()))
    grades: dict[int, dict[str, int]] = collections.defaultdict(dict)
    for line in (folder / "cranqrel").read_text(encoding="utf-8").splitlines():
        query, document, grade = map(int, line.split()[:3])
        grades[query][str(document)] = int(1 <= grade <= 4)
    # Judgements count the questions from 1; the numbers that the questions themselves have leave some out.
    texts = [text for _, parts in _records(folder / "cran.qry") if (text := parts.get("W"))]
    return articles, [
        JudgedQuery(id=f"cranfield {n}", text=text, grades=grades[n], line=n)
        for n, text in enumerate(texts, start=1)
        if any(grades[n].values())
    ]


def _records(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Number and parts of each record of SMART's format: `.I 7`, then `.T`, `.W` and others, each before its lines."""
    for record in re.split(r"^\.I ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        number, *parts = re.split(r"^\.([A-Z])\s*$", record, flags=re.MULTILINE)
        yield (
            str(int(number)),
            {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)},
        )


def siblings(articles: Sequence[Article]) -> list[JudgedQuery]:
    """One query for each issue with items of different words."""
    of_issue = collections.defaultdict(list)
    for article in articles:
        of_issue[article.uri.partition("#")[0]].append(article)
    chooser = random.Random(11)
    queries = []
    for items in of_issue.values():
        query = chooser.choice(items)
        others = [item.uri for item in items if item is not query and _likeness(item, query) < SAME_WORDS]
        # A catch-all issue, as "miscellaneous", says nothing about its items.
        if others and len(items) <= 6:
            queries.append(
                JudgedQuery(
                    id=query.uri, text=query.text_to_embed, grades=dict.fromkeys(others, 1), line=len(queries) + 1
                )
            )
    return queries


def _likeness(one: Article, other: Article) -> float:
    first, second = (set(re.findall(r"\w+", article.text_to_embed.lower())) for article in (one, other))
    return len(first & second) / max(1, len(first | second))


def typed(queries: Sequence[JudgedQuery]) -> list[JudgedQuery]:
    return [
        JudgedQuery(id=query.id, text=" ".join(query.text.split()[:TYPED]), grades=query.grades, line=query.line)
        for query in queries
    ]


def bm25(articles: Sequence[Article], queries: Sequence[JudgedQuery], environments: Path) -> dict[str, list[str]]:
    given = {
        "texts": [article.text_to_embed for article in articles], "queries": [query.text for query in queries], "k": 5 * K
    }  # fmt: skip
    done = subprocess.run(
        [str(python_of("bm25s", environments)), "-c", BM25],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rankings = json.loads(done.stdout)
    return {query.id: [articles[n].uri for n in row] for query, row in zip(queries, rankings, strict=True)}


def judged(
    evaluated: Evaluated, articles: Sequence[Article], queries: Sequence[JudgedQuery], systems: Sequence[System],
    environments: Path,
) -> dict[str, Any]:  # fmt: skip
    """Figures of each system and of BM25, and the paired comparisons of hybrid with each of them."""
    known = {article.uri for article in articles}
    own = {query.id for query in queries} & known
    rankings: dict[str, Mapping[str, Sequence[str]]] = {}
    milliseconds: dict[str, float] = {}
    for system in systems:
        run = evaluated.run(system, queries)
        rankings[system.name] = run.rankings
        milliseconds[system.name] = round(float(np.median(run.milliseconds)), 1)
    rankings["BM25 (bm25s)"] = by_bm25 = bm25(articles, queries, environments)
    for name in [system.name for system in systems if system.mode == "semantic" and system.reranker is None]:
        both = {one: fuse(found, by_bm25[one][: 2 * K]) for one, found in rankings[name].items()}
        rankings[f"{name} and BM25 (bm25s), fused"] = {one: [each.key for each in found] for one, found in both.items()}
    values = {name: measure(queries, _without_own(found, own), k=K) for name, found in rankings.items()}
    first = measure_names(K)[0]
    return {
        "queries": len(queries),
        "relevant": sum(len(query.relevant) for query in queries),
        "unknown_keys": len({key for query in queries for key in query.grades} - known),
        "systems": {
            name: {measured: estimate(found).as_dict() for measured, found in each.items()}
            | ({"median_ms": milliseconds[name]} if name in milliseconds else {})
            for name, each in values.items()
        },
        "hybrid_against": [
            compare("hybrid", values["hybrid"][first], name, each[first], measure_name=first).as_dict()
            for name, each in values.items()
            if name != "hybrid"
        ],
    }


def _without_own(rankings: Mapping[str, Sequence[str]], known: set[str]) -> dict[str, list[str]]:
    """Without the article whose text is the query."""
    return {name: [key for key in keys if key != name or name not in known] for name, keys in rankings.items()}


@contextmanager
def opened(folder: Path, articles: Sequence[Article]) -> Iterator[Instance]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with embedded.running(folder / "server") as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        settings = Settings(EVERINDEX_STATEMENT_TIMEOUT_MS=0)
        with connect_instance(conninfo, settings=settings) as instance:
            instance.import_rows(articles)
        runner.upgrade(conninfo, wait_seconds=0)
        with connect_instance(conninfo, settings=settings) as instance:
            yield instance


def measured(options: argparse.Namespace) -> dict[str, Any]:
    systems = systems_of(MODES, options.model, options.reranker, candidates=50)
    articles = sample()
    long = siblings(articles)
    sets = {"siblings": long, "titles": typed(long), "written": list(read_judgements(WRITTEN).queries)}
    collections_of = [(articles, sets)]
    if options.cranfield:
        abstracts, questions = cranfield(options.cranfield)
        collections_of.append((abstracts, {"cranfield": questions}))
    if options.set:
        collections_of = [
            (texts, {name: queries for name, queries in each.items() if name in options.set})
            for texts, each in collections_of
            if set(options.set) & set(each)
        ]
    found: dict[str, Any] = {}
    for number, (texts, queries_of) in enumerate(collections_of):
        with tempfile.TemporaryDirectory() as place, opened(Path(place) / str(number), texts) as instance:
            # Of the own item taken out of a ranking, others take the place.
            evaluated = Evaluated(instance, k=2 * K)
            for name, queries in queries_of.items():
                say(name)
                found[name] = {
                    "date": date.today().isoformat(),
                    "machine": {
                        "cores": os.cpu_count(),
                        "load_average": round(os.getloadavg()[0], 2),
                        "python": sys.version.split()[0],
                    },
                    "articles": len(texts),
                } | judged(evaluated, texts, queries, systems, options.environments)
                if options.write:
                    kept = json.loads(RAW.read_text(encoding="utf-8"))
                    told = kept | {"k": K, "sets": kept["sets"] | found}
                    RAW.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return {"k": K, "sets": found}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how well everindex finds, against BM25 and meaning.")
    parser.add_argument("--model", action="append", default=[], help="also this embedding model, as local:DIRECTORY")
    parser.add_argument("--reranker", action="append", default=[], help="also this cross-encoder, as local:DIRECTORY")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / "build" / "bench", help="where environments are made"
    )
    parser.add_argument(
        "--cranfield", type=Path, help="also the Cranfield collection, of its three files in this directory"
    )
    parser.add_argument("--write", action="store_true", help=f"put the numbers into {RAW.name} beside the page")
    parser.add_argument(
        "--set", action="append", default=[], help="of the sets of queries only this one; may be repeated"
    )
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    print(json.dumps(measured(asked), indent=2))


if __name__ == "__main__":
    main()
