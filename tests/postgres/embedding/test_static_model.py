"""The static model that the package carries: the real files, no network."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import everindex.articles
from everindex.articles.embedding import StaticEmbedder, embed_query
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.static import MAX_CHARS, MODEL_DIMENSIONS, MODEL_FOLDER
from everindex.articles.model import Article
from everindex.errors import EmbeddingFailed, EmbeddingModelUnusable

SAMPLE = Path(everindex.articles.__file__).parent / "sample" / "cpython_news.jsonl.gz"


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder(width=1536)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Article(uri=row["uri"], title=row["title"], summary=row["summary"]).text_to_embed for row in rows]


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_text_without_known_tokens_has_no_vector(embedder: StaticEmbedder) -> None:
    batch = embedder.embed(["parser", "", " \t\n", "\u2622\u2623", "x" * 200, "half \ud800 pair", "\x00"])
    assert sorted(batch.failures) == [1, 2, 3, 4, 5, 6]
    assert all(batch.failures.values())
    assert np.isnan(batch.vectors[1:]).all()
    assert not np.isnan(batch.vectors[0]).any()


def test_no_text_gives_no_vector_and_no_failure(embedder: StaticEmbedder) -> None:
    batch = embedder.embed([])
    assert (batch.vectors.shape, batch.failures) == ((0, 1536), {})


def test_vectors_have_length_one(embedder: StaticEmbedder, texts: list[str]) -> None:
    vectors = embedder.embed(texts[:500]).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_related_texts_are_nearer_than_unrelated_ones(embedder: StaticEmbedder) -> None:
    leak, memory, cooking = embedder.embed(
        ["memory leak in the parser", "the parser does not free its memory", "a recipe for onion soup"]
    ).vectors
    assert cosine(leak, memory) > cosine(leak, cooking) + 0.3


def test_a_text_has_the_same_vector_alone_and_among_others(embedder: StaticEmbedder, texts: list[str]) -> None:
    together = embedder.embed(texts[:1200]).vectors
    for row in (0, 511, 512, 1199):
        np.testing.assert_allclose(embedder.embed([texts[row]]).vectors[0], together[row], atol=1e-6)


def test_the_vectors_are_those_of_model2vec(texts: list[str]) -> None:
    model2vec = pytest.importorskip("model2vec")
    theirs = model2vec.StaticModel.from_pretrained(MODEL_FOLDER).encode(texts[:1000], use_multiprocessing=False)
    ours = StaticEmbedder(width=MODEL_DIMENSIONS)
    mapped = theirs @ orthonormal_map(MODEL_DIMENSIONS, MODEL_DIMENSIONS).T
    np.testing.assert_allclose(ours.embed(texts[:1000]).vectors, mapped, atol=1e-6)


def test_the_map_leaves_cosine_similarities_as_they_are(texts: list[str]) -> None:
    narrow = StaticEmbedder(width=MODEL_DIMENSIONS).embed(texts[:300]).vectors.astype(np.float64)
    wide = StaticEmbedder(width=1536).embed(texts[:300]).vectors.astype(np.float64)
    np.testing.assert_allclose(wide @ wide.T, narrow @ narrow.T, atol=1e-6)


def test_what_follows_a_long_text_s_first_part_does_not_count(embedder: StaticEmbedder) -> None:
    one, other = embedder.embed(["word " * MAX_CHARS + "leak", "word " * MAX_CHARS + "soup"]).vectors
    np.testing.assert_array_equal(one, other)


def test_all_texts_of_the_sample_get_a_vector_within_five_seconds_of_processor_time(texts: list[str]) -> None:
    started = time.process_time()
    batch = StaticEmbedder(width=1536).embed(texts)
    assert batch.failures == {}
    assert time.process_time() - started < 5


def test_many_threads_may_share_an_embedder(embedder: StaticEmbedder, texts: list[str]) -> None:
    expected = embedder.embed(texts[:200]).vectors
    wrong: list[int] = []

    def work(number: int) -> None:
        if not np.allclose(embedder.embed(texts[:200]).vectors, expected, atol=1e-6):
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_loading_imports_nothing_heavy_and_opens_no_connection() -> None:
    script = """
import socket, sys
def refuse(*_): raise SystemExit("a connection was opened")
socket.socket.connect = refuse
from everindex.articles.embedding import StaticEmbedder
assert not StaticEmbedder(width=1536).embed(["a text"]).failures
heavy = {"torch", "joblib", "huggingface_hub", "model2vec", "openai", "stamina", "tqdm", "requests", "httpx2"}
heavy |= {"onnxruntime", "sentence_transformers"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_model_takes_at_most_eight_megabytes_of_the_wheel() -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in MODEL_FOLDER.iterdir():
            wheel.write(path, path.name)
    assert packed.tell() <= 8_000_000


def test_a_query_without_known_words_is_told_in_three_lines(embedder: StaticEmbedder) -> None:
    with pytest.raises(EmbeddingFailed) as raised:
        embed_query(embedder, "\u2622")
    assert [line[:8] for line in str(raised.value).splitlines()] == ["embeddin", "  why:  ", "  next: "]


def test_a_column_narrower_than_the_model_is_refused_with_the_way_out() -> None:
    with pytest.raises(EmbeddingModelUnusable) as raised:
        StaticEmbedder(width=128)
    assert "EVERINDEX_DIMENSIONS" in raised.value.next_step
