"""The distance of articles that say the same, and the rule by which they are grouped: both measured on the sample.

`bands`: how alike the texts of pairs are at each cosine distance, for the default of `near_duplicate_distance`. `rules`: of the
pairs that a rule takes for one story, how many are of one issue of CPython's tracker (which is one story, told again in the
notes of several releases), and of the pairs of one issue, how many it finds. An issue of more than MOST_ITEMS items is a
project and not a story, and is left out of the second.
"""

from __future__ import annotations

import difflib
import itertools
import json
import random
import statistics
import time
from collections import defaultdict

import numpy as np
from corpus import sample_vectors

from everindex.articles.importers import read_source, sample_source
from everindex.articles.model import Article
from everindex.articles.search.results.grouping import is_near_duplicate, overlap, words_of_text

BANDS = (0.0, 1e-6, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.15, 0.20, 0.30)
COMPARED = 60
MOST_ITEMS = 5
DISTANCES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20)
OVERLAPS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def pairs(vectors: np.ndarray, *, within: float) -> list[tuple[float, int, int]]:
    """(distance, one, other) of all pairs closer than `within`."""
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(vectors), 1000):
        distances = 1 - vectors[start : start + 1000] @ vectors.T
        ones, others = np.nonzero(distances < within)
        is_new = ones + start < others
        found += zip(
            distances[ones[is_new], others[is_new]].tolist(),
            (ones[is_new] + start).tolist(),
            others[is_new].tolist(),
            strict=True,
        )
    return found


def bands_of(texts: list[str], close: list[tuple[float, int, int]]) -> list[dict[str, float]]:
    draw = random.Random(1)
    bands = []
    for low, high in itertools.pairwise(BANDS):
        within = [pair for pair in close if (low <= pair[0] or low == 0) and pair[0] < high]
        alike = [
            difflib.SequenceMatcher(None, texts[one], texts[other]).ratio()
            for _, one, other in draw.sample(within, min(COMPARED, len(within)))
        ]
        bands.append(
            {
                "from": low,
                "to": high,
                "pairs": len(within),
                "median_likeness_of_texts": round(statistics.median(alike), 3),
                "share_at_least_four_fifths_alike": round(statistics.fmean(one >= 0.8 for one in alike), 3),
            }
        )
    return bands


def rules_of(
    articles: list[Article], vectors: np.ndarray, close: list[tuple[float, int, int]]
) -> list[dict[str, object]]:
    issues = [article.uri.split("#")[0] for article in articles]
    words = [words_of_text((article.title, article.summary)) for article in articles]
    items: dict[str, list[int]] = defaultdict(list)
    for number, issue in enumerate(issues):
        items[issue].append(number)
    told_again = {
        pair for each in items.values() if len(each) <= MOST_ITEMS for pair in itertools.combinations(sorted(each), 2)
    }
    distances = {(one, other): distance for distance, one, other in close}
    for one, other in told_again - distances.keys():
        distances[one, other] = float(1 - vectors[one] @ vectors[other])
    started = time.perf_counter()
    overlaps = {pair: overlap(words[pair[0]].all, words[pair[1]].all) for pair in distances}
    microseconds = (time.perf_counter() - started) / len(overlaps) * 1e6

    def told(rule: str, taken: set[tuple[int, int]]) -> dict[str, object]:
        one_issue = sum(issues[one] == issues[other] for one, other in taken)
        return {
            "rule": rule,
            "pairs": len(taken),
            "of_one_issue": round(one_issue / max(len(taken), 1), 3),
            "found_of_one_issue": round(len(taken & told_again) / len(told_again), 3),
        }

    rules = [
        told(f"distance < {most:g}", {pair for pair, distance in distances.items() if distance < most})
        for most in DISTANCES
    ]
    rules += [
        told(f"overlap >= {least:g}", {pair for pair, share in overlaps.items() if share >= least})
        for least in OVERLAPS
    ]
    rules += [
        told(
            f"distance < {most:g} and overlap >= {least:g}",
            {pair for pair, distance in distances.items() if distance < most and overlaps[pair] >= least},
        )
        for most in DISTANCES
        for least in OVERLAPS
    ]
    is_same = {pair: words[pair[0]].numbers == words[pair[1]].numbers for pair in distances}
    rules += [
        told(
            f"distance < {most:g} and the same numbers",
            {pair for pair, distance in distances.items() if distance < most and is_same[pair]},
        )
        for most in DISTANCES
    ]
    rules += [
        told(
            f"near-duplicates at {most:g}",
            {
                (one, other)
                for (one, other), distance in distances.items()
                if is_near_duplicate(distance, words[one], words[other], threshold=most)
            },
        )
        for most in DISTANCES
    ]
    return [{"told_again": len(told_again), "microseconds_per_overlap": round(microseconds, 2)}, *rules]


def main() -> None:
    articles = [item for item in read_source(str(sample_source())) if isinstance(item, Article)]
    texts = [" ".join(article.text_to_embed.lower().split()) for article in articles]
    vectors = sample_vectors(1536).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    close = pairs(vectors, within=BANDS[-1])
    rules = rules_of(articles, vectors, close)
    print(json.dumps({"articles": len(texts), "bands": bands_of(texts, close), "rules": rules}, indent=2))


if __name__ == "__main__":
    main()
