"""Re-ranking by a cross-encoder: a real ONNX model of which the order is known, on real searches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models
import warm
from everindex.articles.connect import connect_instance
from everindex.articles.embedding.local.cross_encoder import CrossEncoder
from everindex.articles.embedding.static import static_model
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.shape.hit import Hit
from everindex.errors import EmbeddingModelUnusable, QueryInapplicable, QueryInvalid
from everindex.settings import Settings

TEXT = "memory leak in the parser"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.late_interaction(tmp_path_factory.mktemp("models") / "late-interaction")


def opened(conninfo: str, **settings: Any) -> Any:
    return connect_instance(conninfo, settings=Settings().model_copy(update=settings))


@pytest.fixture
def reranking(read_only_instance: Instance, model: Path) -> Iterator[Instance]:
    with opened(read_only_instance.conninfo, rerank_model=f"local:{model}") as instance:
        yield instance


def unit(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-6)


def expected_score(query: str, hit: Hit) -> float:
    """What the model of `onnx_models.late_interaction` computes, by numpy."""
    static = static_model()
    text = Article(uri=hit.uri, title=hit.title, summary=hit.summary).text_to_embed
    encoding = static.tokenizer.encode(query, text, add_special_tokens=False)
    q = static.tokenizer.encode(query, add_special_tokens=False).ids
    d = encoding.ids[len(q) :]
    mean = float((unit(static.rows[q]) @ unit(static.rows[d]).T).max(axis=1).mean())
    return 1 / (1 + np.exp(-mean))


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_the_first_candidates_come_in_the_order_of_the_cross_encoder(reranking: Instance, mode: Any) -> None:
    found = reranking.search(TEXT, k=40, mode=mode)
    answer = reranking.search(TEXT, k=10, mode=mode, rerank=40)
    scores = {hit.uri: expected_score(TEXT, hit) for hit in found.hits}
    assert [hit.uri for hit in answer.hits] == sorted(scores, key=lambda uri: -scores[uri])[:10]
    for hit in answer.hits:
        assert hit.rerank_score == pytest.approx(scores[hit.uri], abs=1e-5)
    assert (answer.reranked, answer.k, answer.mode) == (len(found.hits), 10, mode)
    assert answer.reranked_by is not None
    assert answer.reranked_by.startswith("late-interaction@")
    assert answer.next_cursor is None


def test_what_lies_beyond_the_candidates_follows_in_the_order_of_the_search(reranking: Instance) -> None:
    found = [hit.uri for hit in reranking.search(TEXT, k=12, mode="semantic").hits]
    answer = reranking.search(TEXT, k=12, mode="semantic", rerank=5)
    assert {hit.uri for hit in answer.hits[:5]} == set(found[:5])
    assert [hit.uri for hit in answer.hits[5:]] == found[5:]
    assert [hit.rerank_score is None for hit in answer.hits] == [False] * 5 + [True] * 7


def test_the_settings_can_rerank_every_search_by_text_and_a_request_can_leave_it_out(
    read_only_instance: Instance, model: Path
) -> None:
    with opened(read_only_instance.conninfo, rerank_model=f"local:{model}", rerank=20) as instance:
        assert instance.search(TEXT).reranked == 20
        assert instance.search(TEXT, rerank=0).reranked_by is None
        assert instance.search(TEXT, rerank=30).reranked == 30
        assert instance.search(TEXT, diversity=0.3).reranked_by is None
        assert instance.browse(k=3).reranked_by is None
        assert instance.search_vector(instance.embed_query(TEXT)).reranked_by is None
        plain = instance.search(TEXT, rerank=0)
        assert instance.search(TEXT, after=plain.next_cursor).reranked_by is None


def test_without_a_model_a_request_for_it_is_refused(read_only_instance: Instance) -> None:
    with pytest.raises(QueryInapplicable, match="cannot be re-ranked") as raised:
        read_only_instance.search(TEXT, rerank=10)
    assert "EVERINDEX_RERANK_MODEL" in raised.value.why


def test_a_model_that_is_missing_or_broken_leaves_the_order_of_the_search_and_says_so(
    read_only_instance: Instance, model: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"nothing")
    # By meaning: by words, near-equal hits may change places once an instance has its words in memory.
    plain = [hit.uri for hit in read_only_instance.search(TEXT, mode="semantic").hits]
    for name, told in ((str(tmp_path / "missing"), "is not there"), (str(broken), "ONNX Runtime")):
        with opened(read_only_instance.conninfo, rerank_model=name) as instance:
            answer = instance.search(TEXT, rerank=10, mode="semantic")
        assert [hit.uri for hit in answer.hits] == plain
        assert answer.reranked_by is None
        (notice,) = (notice for notice in answer.notices if notice.startswith("not re-ranked"))
        assert told in notice


@pytest.mark.parametrize("options", [{"rerank": -1}, {"rerank": 201}, {"rerank": 10, "diversity": 0.5}])
def test_what_cannot_be_reranked_is_refused(reranking: Instance, options: dict[str, Any]) -> None:
    with pytest.raises(QueryInvalid):
        reranking.search(TEXT, **options)


def test_a_page_after_the_first_is_not_reranked(reranking: Instance) -> None:
    cursor = reranking.search(TEXT).next_cursor
    with pytest.raises(QueryInapplicable, match="cannot be continued"):
        reranking.search(TEXT, rerank=10, after=cursor)


def test_a_model_with_several_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="cannot re-rank") as raised:
        CrossEncoder(str(onnx_models.late_interaction(tmp_path / "nli", labels=3)))
    assert "3 labels" in raised.value.why


def test_scores_stand_as_they_are_where_the_directory_says_so(model: Path, tmp_path: Path) -> None:
    texts = ["the parser leaks memory", "a cat on a mat"]
    squeezed = CrossEncoder(str(model)).scores(TEXT, texts)
    plain = shutil.copytree(model, tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (plain / "config.json").write_text(json.dumps(config), encoding="utf-8")
    logits = CrossEncoder(str(plain)).scores(TEXT, texts)
    assert np.allclose(1 / (1 + np.exp(-logits)), squeezed, atol=1e-6)
    assert logits[0] > logits[1]


def test_the_command_prints_the_model_and_the_scores(read_only_instance: Instance, model: Path) -> None:
    environment = {
        "DATABASE_URL": read_only_instance.conninfo,
        "EVERINDEX_WAIT": "0",
        "EVERINDEX_RERANK_MODEL": str(model),
    }
    done = warm.run(["everindex", "search", TEXT, "--rerank", "20", "-k", "3"], env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    assert "re-ranked: the first 20, by late-interaction@" in done.stderr
    assert done.stdout.count("re-ranked 0.") == 3
