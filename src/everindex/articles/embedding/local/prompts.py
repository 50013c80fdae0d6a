"""Prompts: what a model wants before a query and before a document, so that the two meet.

In this order: the settings, the model's own configuration (`prompts` of sentence-transformers), the model's page where its
directory does not repeat it. A document's prompt changes the stored vectors and so the model's recorded name; a query's does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from everindex.articles.embedding.local.configuration import ModelConfiguration

#: The names under which sentence-transformers looks for them. Source: SentenceTransformer.encode_query and encode_document.
QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Texts that are put before a query and a document as they are, a space at the end included."""

    query: str = ""
    document: str = ""


_BGE = Prompts(query="Represent this sentence for searching relevant passages: ")
#: Families whose pages state a prompt that not each of their directories does: (pattern of the name, prompts).
#: Source: the pages of intfloat/e5-*, BAAI/bge-*-v1.5, nomic-ai/nomic-embed-text-*, mixedbread-ai/mxbai-embed-*,
#: Snowflake/snowflake-arctic-embed-* on the Hugging Face Hub.
FAMILIES: tuple[tuple[re.Pattern[str], Prompts], ...] = (
    (re.compile(r"(^|[/-])(multilingual-)?e5-(small|base|large)(-v2)?$", re.I), Prompts(query="query: ", document="passage: ")),
    (re.compile(r"(^|[/-])bge-(small|base|large)-en(-v1\.5)?$", re.I), _BGE),
    (re.compile(r"(^|[/-])bge-(small|base|large)-zh(-v1\.5)?$", re.I), Prompts(query="为这个句子生成表示以用于检索相关文章：")),
    (re.compile(r"(^|[/-])mxbai-embed-(xsmall|large)-v1$", re.I), _BGE),
    (re.compile(r"(^|[/-])snowflake-arctic-embed-(xs|s|m|l|m-v1\.5)$", re.I), _BGE),
    (re.compile(r"(^|[/-])nomic-embed-text-v[\d.]+$", re.I), Prompts(query="search_query: ", document="search_document: ")),
)  # fmt: skip


def prompts_of(
    configuration: ModelConfiguration, name: str, *, query: str | None = None, document: str | None = None
) -> Prompts:
    """The prompts of the model that was given as `name`; `query` and `document` are those of the settings, None: not set."""
    # sentence-transformers 5 and later writes empty prompts into every model that it saves.
    family = Prompts() if any(configuration.prompts.values()) else _family(name)
    stated = Prompts(
        query=_first(configuration, QUERY_NAMES, family.query),
        document=_first(configuration, DOCUMENT_NAMES, family.document),
    )
    return Prompts(
        query=stated.query if query is None else query, document=stated.document if document is None else document
    )


def _first(configuration: ModelConfiguration, names: tuple[str, ...], otherwise: str) -> str:
    stated = next((configuration.prompts[name] for name in names if configuration.prompts.get(name)), "")
    return stated or otherwise or configuration.default_prompt


def _family(name: str) -> Prompts:
    """By the last part of a hub name, or the directory's, without what an export adds to it."""
    plain = re.sub(r"(/onnx)?/[^/]*\.onnx$", "", name.partition("@")[0]).rstrip("/")
    plain = re.sub(r"[-_](onnx|quantized|int8|fp16)$", "", plain, flags=re.I)
    return next((prompts for pattern, prompts in FAMILIES if pattern.search(plain)), Prompts())
