"""The path of `migrate.frozen.filter_indexes` in copies of alembic/versions that were made before it moved."""

from __future__ import annotations

from everindex.migrate.frozen.filter_indexes import create_filter_indexes

__all__ = ["create_filter_indexes"]
