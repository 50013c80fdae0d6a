"""The former import path of `alembic_kit.env.errors_in_three_lines`, for applications that still use it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). This module has only the public names.
"""

from __future__ import annotations

from everindex.alembic_kit.env import errors_in_three_lines

__all__ = ["errors_in_three_lines"]
