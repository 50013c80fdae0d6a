"""The files of a local model: found in a directory or in the Hugging Face cache, fetched only by `fetch`.

`find` reads the file system alone and never uses the network. What is downloaded, and where from, is huggingface_hub's to say:
HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from everindex.errors import EmbeddingModelUnusable

#: Where an ONNX model is stored in a directory of sentence-transformers, Optimum and transformers.js, in this order.
ONNX_PLACES = ("model.onnx", "onnx/model.onnx")
#: Weights that sentence-transformers reads.
TORCH_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
#: A name without an owner is one of sentence-transformers' own, as that library has it.
DEFAULT_OWNER = "sentence-transformers"
#: What `fetch` takes beside the weights: configurations, tokenizers and vocabularies.
SMALL_FILES = ("*.json", "*.txt", "*.model")

_HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?:@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """One model on this machine."""

    name: str
    """As it was given: a directory, a file or a hub name."""

    folder: Path
    onnx: Path | None
    """The ONNX model to run; None where the directory has none, and sentence-transformers has to run it."""

    def digest(self, settings: str = "") -> str:
        """12 hexadecimal digits of the files that decide what the model computes, and of `settings`.

        Does not depend on the directory's path. Reads all of the weights once in a process (about 1 s per GB).
        """
        weights = sorted(self.weights())
        state = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in weights)
        return _digest_of(state, tuple(str(path.relative_to(self.folder)) for path in weights), settings)

    def weights(self) -> Iterable[Path]:
        """The weights and the tokenizer."""
        tokenizer = self.folder / "tokenizer.json"
        if tokenizer.is_file():
            yield tokenizer
        if self.onnx is not None:
            # External weights are stored beside the model: model.onnx_data, model.onnx.data.
            yield from (path for path in self.onnx.parent.glob(f"{self.onnx.name}*") if path.is_file())
        else:
            for pattern in TORCH_PATTERNS:
                yield from self.folder.rglob(pattern)


@lru_cache(maxsize=16)
def _digest_of(state: tuple[tuple[str, int, int], ...], names: tuple[str, ...], settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for (path, _, _), name in zip(state, names, strict=True):
        digest.update(b"\0" + (b"onnx" if ".onnx" in name else name.encode()) + b"\0")
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def find(name: str, *, variable: str) -> ModelFiles:
    """The model that `name` gives: a directory, an .onnx file in one, or a hub name (`owner/name`, `owner/name@revision`,
    `owner/name/onnx/FILE.onnx`) that is in the cache. Never downloads.

    `variable` is the setting that has the name. Raises EmbeddingModelUnusable where nothing is found.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(name, path, None)
    if path.is_file() and path.suffix == ".onnx":
        folder = path.parent.parent if path.parent.name == "onnx" else path.parent
        return _in_folder(name, folder, path)
    repository, file = _hub_name(name)
    if repository is None:
        raise EmbeddingModelUnusable(
            f"{variable} names the model {name}, and it is not there.",
            why=f"{path.absolute()} is neither a directory nor an .onnx file.",
            next_step=f"correct {variable}: a directory, an .onnx file, or the name of a model on the Hugging Face Hub.",
        )
    cached = _cached(repository)
    if cached is None or (file is not None and not (cached / file).is_file()):
        raise EmbeddingModelUnusable(
            f"{variable} names the model {name}, and it is not on this machine.",
            why="it is neither a directory nor in the Hugging Face cache, and nothing is downloaded while everindex runs.",
            next_step=f"run  everindex model fetch {name}  on a machine with a network, or give the directory of a copy.",
        )
    return _in_folder(name, cached, None if file is None else cached / file)


def fetch(name: str) -> ModelFiles:
    """Downloads a model of the hub into the Hugging Face cache, unless it is there, and returns its files.

    Of several ONNX files the one in ONNX_PLACES or the named one is taken, without it the weights for sentence-transformers.
    Raises EmbeddingModelUnusable where it cannot be had.
    """
    repository, file = _hub_name(name)
    if repository is None or Path(name).expanduser().exists():
        raise EmbeddingModelUnusable(
            f"{name} cannot be fetched.",
            why="it is a path, or no name of a model on the Hugging Face Hub.",
            next_step="name a model as the hub does: sentence-transformers/all-MiniLM-L6-v2.",
        )
    from huggingface_hub import HfApi, snapshot_download

    repo_id, revision = repository
    try:
        there = HfApi().list_repo_files(repo_id, revision=revision)
        wanted = [file] if file is not None else [place for place in ONNX_PLACES if place in there][:1]
        weights = [*wanted, *(f"{one}*data" for one in wanted)] if wanted else list(TORCH_PATTERNS)
        folder = snapshot_download(repo_id, revision=revision, allow_patterns=[*SMALL_FILES, *weights])
    except Exception as exc:  # the client's errors are those of three libraries; each has a reason to tell
        raise EmbeddingModelUnusable(
            f"the model {name} cannot be fetched.",
            why=f"{' '.join(str(exc).split())[:300].rstrip('.')} ({type(exc).__name__}).",
            next_step="check the name, the network, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE, and fetch it again.",
        ) from None
    return _in_folder(name, Path(folder), None if file is None else Path(folder) / file)


def _in_folder(name: str, folder: Path, onnx: Path | None) -> ModelFiles:
    if onnx is None:
        onnx = next((folder / place for place in ONNX_PLACES if (folder / place).is_file()), None)
    if onnx is None and not any(any(folder.glob(pattern)) for pattern in TORCH_PATTERNS):
        raise EmbeddingModelUnusable(
            f"the directory of the model {name} holds no model.",
            why=f"{folder} has neither {' nor '.join(ONNX_PLACES)} nor weights for sentence-transformers (*.safetensors).",
            next_step="give the directory that holds the model's config.json, tokenizer.json and weights.",
        )
    return ModelFiles(name=name, folder=folder, onnx=onnx)


def _hub_name(name: str) -> tuple[tuple[str, str | None] | None, str | None]:
    """Repository and revision, and the .onnx file within, of a name on the hub; (None, None) for what is no such name."""
    if name.startswith((".", "/", "~")) or "\\" in name:
        return None, None
    file = None
    if name.endswith(".onnx"):
        parts = name.split("/")
        if len(parts) < 3:
            return None, None
        name, file = "/".join(parts[:2]), "/".join(parts[2:])
    if not _HUB_NAME.fullmatch(name):
        return None, None
    repository, _, revision = name.partition("@")
    return (repository if "/" in repository else f"{DEFAULT_OWNER}/{repository}", revision or None), file


def _cached(repository: tuple[str, str | None]) -> Path | None:
    """The snapshot in the Hugging Face cache; None where there is none.

    Found by a file in it: `snapshot_download` takes a snapshot without the repository's other exports for an incomplete one.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in ("config.json", "tokenizer.json"):
        try:
            found = try_to_load_from_cache(repository[0], file, revision=repository[1])
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None
