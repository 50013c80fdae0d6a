"""The former import path of `everindex.alembic_kit.metadata.specs_of`, for applications that still use it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). This module has only the public names.
"""

from __future__ import annotations

from everindex.alembic_kit.metadata import specs_of

__all__ = ["specs_of"]
