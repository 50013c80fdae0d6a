"""The former import path of `everindex.alembic_kit.metadata.specs_of`, kept for applications that name it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). Only the public names are here.
"""

from __future__ import annotations

from everindex.alembic_kit.metadata import specs_of

__all__ = ["specs_of"]
