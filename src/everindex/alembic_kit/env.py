"""The names that an application's `env.py` imports: registration with Alembic, the check for one head, errors in three lines.

These names are public and stable; the modules that define them may change. Importing this module loads Alembic and SQLAlchemy
and has no other effect: only `register` and `register_operations` extend Alembic.
"""

from __future__ import annotations

from everindex.alembic_kit.autogenerate import register
from everindex.alembic_kit.errors import errors_in_three_lines
from everindex.alembic_kit.heads import require_single_head
from everindex.alembic_kit.implementations import register as register_operations

__all__ = ["errors_in_three_lines", "register", "register_operations", "require_single_head"]
