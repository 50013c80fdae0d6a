"""The former import path of `everindex.alembic_kit.env.register`, for applications that still use it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). This module has only the public names.
"""

from __future__ import annotations

from everindex.alembic_kit.env import register

__all__ = ["register"]
