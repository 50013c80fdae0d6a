"""`everindex evaluate`: real searches of judged queries, measured, compared and drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import onnx_models
import warm
from everindex.articles.connect import connect_instance
from everindex.articles.evaluation.judgements import read_judgements
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.settings import Settings
from repository import REPOSITORY
from templates import migrate

EXAMPLE = REPOSITORY / "examples" / "evaluate" / "queries.jsonl"
OTHERS = 600

Evaluate = Callable[..., Any]


@pytest.fixture(scope="module")
def judged_instance(cluster: Any) -> Iterator[Instance]:
    """The articles that the example judges, among others of the sample."""
    wanted = read_judgements(EXAMPLE).keys
    articles = [article for article in read_source(str(sample_source())) if isinstance(article, Article)]
    chosen = [article for number, article in enumerate(articles) if article.uri in wanted or number < OTHERS]
    with connect_instance(cluster.database(cluster.template("at_head", migrate)), settings=Settings()) as instance:
        instance.upsert(chosen)
        yield instance


@pytest.fixture
def evaluate(judged_instance: Instance, tmp_path: Path) -> Evaluate:
    """Runs the command with some lines of queries, or a file; a document of `--json` is `.json`."""

    def run(queries: Path | list[dict[str, Any]], *arguments: str, **environment: str) -> Any:
        path = queries if isinstance(queries, Path) else tmp_path / "queries.jsonl"
        if not isinstance(queries, Path):
            path.write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
        base = {"DATABASE_URL": judged_instance.conninfo, "EVERINDEX_WAIT": "0"}
        return warm.run(["everindex", "evaluate", str(path), *arguments], env=os.environ | base | environment)

    return run


def documents(done: Any) -> Any:
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout)


def test_the_example_is_evaluated_in_every_mode(evaluate: Evaluate) -> None:
    done = evaluate(EXAMPLE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "24 queries, 25 judgements; the first 10 results, mean and 95 % interval"
    assert [line.split()[0] for line in lines[1:5]] == ["system", "semantic", "keyword", "hybrid"]
    assert lines[5] == "compared with semantic by nDCG@10, on the same queries:"
    assert len(lines) == 8


def test_the_figures_are_those_of_the_searches(evaluate: Evaluate, judged_instance: Instance) -> None:
    text = "average of ratios function in the standard library"
    found = [hit.uri for hit in judged_instance.search(text, mode="semantic").hits]
    queries = [{"query": text, "relevant": [found[2]]}, {"query": "memory leak", "relevant": {found[0]: 2}, "id": "b"}]
    document = documents(evaluate(queries, "--mode", "semantic", "--json"))
    (system,) = document["systems"]
    (first, _) = document["per_query"]
    assert first["nDCG@10"]["semantic"] == pytest.approx(0.5)  # the third place: 1 / log2(4)
    assert system["measures"]["nDCG@10"]["low"] <= system["measures"]["nDCG@10"]["mean"]
    assert document["unknown_keys"] == []


def test_unknown_keys_are_counted_as_not_found_and_reported(evaluate: Evaluate, judged_instance: Instance) -> None:
    nearest = judged_instance.search("zipfile", mode="semantic", k=1).hits[0].uri
    done = evaluate(
        [{"query": "zipfile", "relevant": [nearest, "nowhere:1"]}, {"query": "tarfile", "relevant": ["nowhere:2"]}],
        "--mode", "semantic",
    )  # fmt: skip
    assert done.returncode == 3
    assert "2 judged keys not in the table, and counted as not found: nowhere:1, nowhere:2" in done.stderr
    assert "1 query without any relevant key in the table" in done.stderr
    assert "0.250" in done.stdout  # recall: half of the first, none of the second


def test_another_model_is_compared_over_all_texts(evaluate: Evaluate, tmp_path: Path) -> None:
    bag = onnx_models.bag_of_words(tmp_path / "bag")
    document = documents(
        evaluate(EXAMPLE, "--mode", "semantic", "--mode", "hybrid", "--model", f"local:{bag}", "--json")
    )
    means = {one["name"]: one["measures"]["nDCG@10"]["mean"] for one in document["systems"]}
    assert list(means) == ["semantic", "hybrid", "semantic, bag", "hybrid, bag"]
    # The bag of words is the static model, which made the vectors of the table.
    assert means["semantic, bag"] == pytest.approx(means["semantic"], abs=0.02)
    assert means["hybrid, bag"] == pytest.approx(means["hybrid"], abs=0.02)
    assert {one["system"] for one in document["comparisons"]} == set(means) - {"semantic"}


@pytest.mark.long
def test_a_better_model_is_found_to_be_better(evaluate: Evaluate, tmp_path: Path) -> None:
    minilm = onnx_models.minilm(tmp_path / "all-MiniLM-L6-v2")
    document = documents(
        evaluate(
            EXAMPLE, "--mode", "semantic", "--mode", "hybrid", "--model", f"local:{minilm}", "--json",
        )
    )  # fmt: skip
    means = {one["name"]: one["measures"]["nDCG@10"]["mean"] for one in document["systems"]}
    assert list(means) == ["semantic", "hybrid", "semantic, all-MiniLM-L6-v2", "hybrid, all-MiniLM-L6-v2"]
    assert means["semantic, all-MiniLM-L6-v2"] > means["semantic"]


def test_a_reranker_is_a_system_of_its_own(evaluate: Evaluate, tmp_path: Path) -> None:
    model = onnx_models.late_interaction(tmp_path / "late")
    document = documents(
        evaluate(EXAMPLE, "--mode", "hybrid", "--reranker", f"local:{model}", "--rerank", "30", "--json")
    )
    assert [(one["name"], one["candidates"]) for one in document["systems"]] == [
        ("hybrid", None),
        ("hybrid + late", 30),
    ]
    configured = documents(
        evaluate(EXAMPLE, "--mode", "hybrid", "--rerank", "30", "--json", EVERINDEX_RERANK_MODEL=str(model))
    )
    assert [one["measures"] for one in configured["systems"]] == [one["measures"] for one in document["systems"]]
    refused = evaluate(EXAMPLE, "--rerank", "30")
    assert refused.returncode == 2
    assert "EVERINDEX_RERANK_MODEL" in refused.stderr


def test_the_drawing_has_each_system_and_measure(evaluate: Evaluate, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.svg"
    assert evaluate(EXAMPLE, "--plot", str(path)).returncode == 0
    drawn = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("}text")]
    assert {"semantic", "keyword", "hybrid", "nDCG@10", "MRR@10", "recall@10"} <= set(texts)
    assert sum(element.tag.endswith("}circle") for element in drawn.iter()) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--baseline", "bm25"), "semantic; keyword; hybrid"), (("--model", "local:/nowhere"), "/nowhere")],
)
def test_what_is_not_there_is_told(evaluate: Evaluate, arguments: tuple[str, ...], told: str) -> None:
    done = evaluate(EXAMPLE, *arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr


def test_without_the_extra_the_error_says_what_to_install(judged_instance: Instance) -> None:
    script = f"""
import sys
sys.modules["ir_measures"] = None
sys.argv = ["everindex", "evaluate", {str(EXAMPLE)!r}]
from everindex.cli import main
main()
"""
    environment = os.environ | {"DATABASE_URL": judged_instance.conninfo}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'everindex[evaluate]'" in done.stderr
