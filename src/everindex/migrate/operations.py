"""The former import path of `alembic_kit.env.register_operations`, kept for applications that name it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). Only the public names are here.
"""

from __future__ import annotations

from everindex.alembic_kit.env import register_operations as register

__all__ = ["register"]
