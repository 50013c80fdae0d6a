"""An alias of `migrate.frozen.filter_indexes`, for copies of alembic/versions from before it moved."""

from __future__ import annotations

from everindex.migrate.frozen.filter_indexes import create_filter_indexes

__all__ = ["create_filter_indexes"]
