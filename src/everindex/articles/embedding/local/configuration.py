"""What the directory of a model states about it: its width, its window, pooling, normalisation and prompts.

Read from the JSON files that sentence-transformers and transformers write. What is not stated and would change the vectors is
not guessed: the model is refused, with the file that would say it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from everindex.errors import EmbeddingModelUnusable

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "lasttoken"]
#: A longer window is cut to this: attention needs memory with its square, and a passage that long has no single meaning.
LONGEST_WINDOW = 8192
#: Where nothing states a window: that of BERT.
DEFAULT_WINDOW = 512
#: Models whose positions begin after the padding token: their window is two shorter than `max_position_embeddings`.
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})
#: `model_max_length` where a tokenizer knows none is 1e30.
NO_LENGTH = 1_000_000
#: Modules of a sentence-transformers directory that are computed here; with others sentence-transformers has to run it.
KNOWN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})

_LEGACY = {
    "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfiguration:
    """One model, as its directory describes it."""

    kind: str
    """`model_type` of config.json, as `bert`; what people read in the model's recorded name."""

    width: int | None
    """Of the token vectors; None where config.json does not state it."""

    max_tokens: int
    """Of a whole input, special tokens and prompt among them."""

    pooling: Pooling | None
    """None where the directory does not state it."""

    normalizes: bool
    """Whether vectors are brought to length 1; what is stored always is."""

    prompts: dict[str, str]
    """Of config_sentence_transformers.json: name → prompt."""

    default_prompt: str
    other_modules: tuple[str, ...]
    """Modules that are not computed here."""

    labels: int | None
    """Of a classifier, how many scores it gives; None where it is not stated."""

    cross_encoder_activation: str
    """The function that a cross-encoder's configuration puts on its score, as a class name of torch; empty: not stated."""


def read_configuration(folder: Path) -> ModelConfiguration:
    """Raises EmbeddingModelUnusable for a file that is not JSON of the expected shape."""
    config = _object(folder / "config.json")
    sentence = _object(folder / "config_sentence_transformers.json")
    modules = _list(folder / "modules.json")
    names = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    pooling_at = next((str(m.get("path")) for m, n in zip(modules, names, strict=True) if n == "Pooling"), "1_Pooling")
    pooling = _object(folder / pooling_at / "config.json")
    prompts = {str(name): str(text) for name, text in (sentence.get("prompts") or {}).items() if text is not None}
    others = {name for name in names if name not in KNOWN_MODULES}
    if pooling and _pooling(pooling) is None:
        others.add("Pooling")
    if pooling.get("include_prompt") is False:
        others.add("Pooling without the prompt")
    return ModelConfiguration(
        kind=str(config.get("model_type") or "model"),
        width=_number(config, "hidden_size", "d_model", "dim", "n_embd"),
        max_tokens=_window(folder, config),
        pooling=_pooling(pooling),
        normalizes="Normalize" in names,
        prompts=prompts,
        default_prompt=prompts.get(str(sentence.get("default_prompt_name")), ""),
        other_modules=tuple(sorted(others)),
        labels=_labels(config),
        cross_encoder_activation=_activation(config, sentence),
    )


def _window(folder: Path, config: dict[str, Any]) -> int:
    stated = _number(_object(folder / "sentence_bert_config.json"), "max_seq_length")
    tokenizer = _number(_object(folder / "tokenizer_config.json"), "model_max_length")
    positions = _number(config, "max_position_embeddings", "n_positions")
    if positions is not None and config.get("model_type") in OFFSET_POSITIONS:
        positions -= 2
    if stated is None and tokenizer is not None and tokenizer < NO_LENGTH:
        stated = tokenizer
    known = [one for one in (stated, positions) if one]
    return min([*known, LONGEST_WINDOW]) if known else DEFAULT_WINDOW


def _pooling(found: dict[str, Any]) -> Pooling | None:
    """The one way of pooling; None for several at once, or one that is not computed here."""
    stated = found.get("pooling_mode")
    on = (
        [stated]
        if isinstance(stated, str)
        else [name for name, value in found.items() if name.startswith("pooling_mode_") and value is True]
    )
    names = [_LEGACY.get(str(name), str(name)) for name in on]
    return next((mode for mode in get_args(Pooling) if names == [mode]), None)


def _labels(config: dict[str, Any]) -> int | None:
    named = config.get("id2label")
    return _number(config, "num_labels") or (len(named) if isinstance(named, dict) and named else None)


def _activation(config: dict[str, Any], sentence: dict[str, Any]) -> str:
    """As sentence-transformers writes it, in either place that it has had."""
    nested = config.get("sentence_transformers")
    stated = nested.get("activation_fn") if isinstance(nested, dict) else None
    found = stated or config.get("sbert_ce_default_activation_function") or sentence.get("activation_fn") or ""
    return str(found).rpartition(".")[2]


def _number(found: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = found.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return int(value)
    return None


def _object(path: Path) -> dict[str, Any]:
    found = _json(path, {})
    if not isinstance(found, dict):
        raise _unreadable(path, "it is not a JSON object")
    return found


def _list(path: Path) -> list[dict[str, Any]]:
    found = _json(path, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _unreadable(path, "it is not a JSON list of objects")
    return found


def _json(path: Path, missing: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return missing
    except (OSError, ValueError, RecursionError) as exc:
        raise _unreadable(path, f"{type(exc).__name__}: {exc}") from None


def _unreadable(path: Path, why: str) -> EmbeddingModelUnusable:
    return EmbeddingModelUnusable(
        f"the model in {path.parent} cannot be used: {path.name} cannot be read.",
        why=f"{why.rstrip('.')}.",
        next_step="copy the directory again, complete, or fetch the model again.",
    )
