"""The distance of articles that say the same: the default of `near_duplicate_distance`, measured on the sample."""

from __future__ import annotations

import difflib
import itertools
import json
import random
import statistics

import numpy as np
from corpus import sample_vectors

from everindex.articles.importers import read_source, sample_source

BANDS = (0.0, 1e-6, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.15, 0.20, 0.30)
COMPARED = 60


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


def main() -> None:
    texts = [" ".join(article.text_to_embed.lower().split()) for article in read_source(str(sample_source()))]
    vectors = sample_vectors(1536).astype(np.float64)
    close = pairs(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), within=BANDS[-1])
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
    print(json.dumps({"articles": len(texts), "bands": bands}, indent=2))


if __name__ == "__main__":
    main()
