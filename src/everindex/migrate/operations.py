"""The former import path of `alembic_kit.env.register_operations`, for applications that still use it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). This module has only the public names.
"""

from __future__ import annotations

from everindex.alembic_kit.env import register_operations as register

__all__ = ["register"]
