"""The former import path of `alembic_kit.env.errors_in_three_lines`, kept for applications that name it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). Only the public names are here.
"""

from __future__ import annotations

from everindex.alembic_kit.env import errors_in_three_lines

__all__ = ["errors_in_three_lines"]
