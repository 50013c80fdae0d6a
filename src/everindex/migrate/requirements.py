"""The path of `migrate.frozen.requirements` in copies of alembic/versions that were made before it moved."""

from __future__ import annotations

from everindex.migrate.frozen.requirements import embedding_dimensions, require_pgvector

__all__ = ["embedding_dimensions", "require_pgvector"]
