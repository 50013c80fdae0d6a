"""Embedding models and cross-encoders on this machine: given by a directory or by a hub name, run by ONNX Runtime.

From below: `files` finds a model and fetches one on request, `configuration` reads what its directory states, `prompts` knows
what goes before queries and documents, `onnx` and `torch` run it, `embedder` is the embedding model of a table.

Nothing here imports onnxruntime, huggingface_hub or sentence_transformers before a model is used (docs/decisions/0021).
"""
