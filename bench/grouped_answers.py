"""What it costs to group the near-duplicates of an answer, and what it shows: the sample's own titles as queries.

Every query is asked in turns without and with groups, on one connection. `articles`: how many a page of k groups shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import islice

from article_corpus import corpus_arguments, corpus_of, instance_with

from everindex.articles.importers import read_source, sample_source
from everindex.articles.model import Article, Mode

K = 10
QUERIES = 200
MODES: tuple[Mode, ...] = ("hybrid", "semantic", "keyword")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    corpus_arguments(parser, rows=9_940)
    options = parser.parse_args()
    titles = [
        item.title for item in islice(read_source(str(sample_source())), 0, None, 45) if isinstance(item, Article)
    ]
    queries = [" ".join(title.split()[:5]) for title in titles[:QUERIES] if title]
    results: list[dict[str, object]] = []
    with instance_with(corpus_of(options), options.home) as instance:
        for mode in MODES:
            plain: list[float] = []
            grouped: list[float] = []
            shown: list[int] = []
            most = 0
            for text in queries:
                for times, is_grouped in ((plain, False), (grouped, True)):
                    started = time.perf_counter()
                    answer = instance.search(text, k=K, mode=mode, group_duplicates=is_grouped)
                    times.append((time.perf_counter() - started) * 1000)
                shown.append(answer.shown)
                most = max([most, *(len(hit.duplicates) for hit in answer.hits)])
            results.append(
                {
                    "mode": mode,
                    "queries": len(queries),
                    "median_ms": round(statistics.median(plain), 2),
                    "grouped_median_ms": round(statistics.median(grouped), 2),
                    "ratio": round(statistics.median(grouped) / statistics.median(plain), 2),
                    "articles_on_a_page": round(statistics.fmean(shown), 2),
                    "most_under_one": most,
                }
            )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
