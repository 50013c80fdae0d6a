"""The choice of the embedding model: a local one or an endpoint's where the settings name it, else the static one."""

from __future__ import annotations

from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.embedding.openai_compatible import DEFAULT_MODEL, OpenAICompatibleEmbedder
from everindex.articles.embedding.provider import Embedder
from everindex.articles.embedding.static import MODEL_DIMENSIONS, StaticEmbedder
from everindex.errors import EmbeddingModelUnusable
from everindex.settings import Settings

STATIC = "static"
#: How a model on this machine is named: `local:` and a directory, an .onnx file or a hub name.
LOCAL_PREFIX = "local:"
#: Prefixes of recorded model names.
RECORDED_STATIC = "everindex/"
RECORDED_ENDPOINT = "openai-compatible/"
RECORDED_LOCAL = "local/"


def choose_embedder(settings: Settings, *, width: int, retries: RetryPolicy | None = None) -> Embedder:
    """The embedder of `settings` for a column of `width` dimensions; does not connect or load anything yet.

    `retries` limits how long an endpoint is retried: an import can wait, a search page cannot. Raises
    EmbeddingModelUnusable when the model cannot fill the column, or needs a key or address that is not set.
    """
    name = (settings.embedding_model or "").strip()
    has_endpoint = settings.openai_api_key is not None or settings.openai_base_url is not None
    if name.lower() == STATIC or (not name and not has_endpoint):
        return StaticEmbedder(width=width)
    if name.startswith(LOCAL_PREFIX):
        return _local(name, settings, width)
    if not has_endpoint:
        raise EmbeddingModelUnusable(
            f"EMBEDDING_MODEL is {name}, but no endpoint is configured for it.",
            why="neither OPENAI_API_KEY nor OPENAI_BASE_URL is set.",
            next_step="set one of them, or set EMBEDDING_MODEL to `static` for the model of the package, or to "
            "`local:` and a "
            "directory for one on this machine.",
        )
    key = settings.openai_api_key
    return OpenAICompatibleEmbedder(
        width=width,
        model_name=name or DEFAULT_MODEL,
        api_key=None if key is None else key.get_secret_value(),
        base_url=settings.openai_base_url,
        timeout_seconds=settings.embedding_timeout_seconds,
        retries=retries,
    )


def embedder_at_own_width(name: str, settings: Settings, *, width: int) -> Embedder:
    """The model that somebody names, as `embedder_named`, for vectors that go into no column: a model on this machine at its
    own width, one of an endpoint at `width`."""
    wanted = name.strip()
    if wanted.lower() == STATIC:
        return StaticEmbedder(width=MODEL_DIMENSIONS)
    if wanted.startswith(LOCAL_PREFIX):
        return _local(wanted, settings, None)
    return embedder_named(name, settings, width=width)


def _local(name: str, settings: Settings, width: int | None) -> Embedder:
    from everindex.articles.embedding.local.embedder import LocalEmbedder

    return LocalEmbedder(
        name.removeprefix(LOCAL_PREFIX).strip(),
        width=width,
        query_prompt=settings.query_prompt,
        document_prompt=settings.document_prompt,
    )


def embedder_named(name: str, settings: Settings, *, width: int, retries: RetryPolicy | None = None) -> Embedder:
    """The model that somebody names: `static`, `local:` and a directory or hub name, a model of the endpoint that the settings
    have, or any of them as it is recorded; a recorded local one has to be that of the settings.

    Raises EmbeddingModelUnusable where it cannot fill the column, or no endpoint is configured.
    """
    wanted = name.strip()
    if wanted.lower() == STATIC or wanted.startswith(RECORDED_STATIC):
        named: Embedder = StaticEmbedder(width=width)
    elif wanted.startswith(RECORDED_LOCAL) and (settings.embedding_model or "").strip().startswith(LOCAL_PREFIX):
        named = choose_embedder(settings, width=width)
    else:
        at_endpoint = wanted.removeprefix(RECORDED_ENDPOINT).removesuffix(f"@{width}")
        named = choose_embedder(
            settings.model_copy(update={"embedding_model": at_endpoint}), width=width, retries=retries
        )
    if wanted.startswith((RECORDED_STATIC, RECORDED_ENDPOINT, RECORDED_LOCAL)) and wanted != named.model:
        raise EmbeddingModelUnusable(
            f"the model {wanted} is not available here.",
            why=f"for {width} dimensions the available model is {named.model}.",
            next_step=f"use that name, or install the version of everindex that has {wanted}.",
        )
    return named
