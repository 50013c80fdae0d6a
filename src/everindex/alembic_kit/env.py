"""The names that an application's `env.py` imports: registration with Alembic, the check for one head, errors in three lines.

They are public and stay here; the modules that they come from may change. Importing this loads Alembic and SQLAlchemy and
changes nothing: only `register` and `register_operations` add to Alembic.
"""

from __future__ import annotations

from everindex.alembic_kit.autogenerate import register
from everindex.alembic_kit.errors import errors_in_three_lines
from everindex.alembic_kit.heads import require_single_head
from everindex.alembic_kit.implementations import register as register_operations

__all__ = ["errors_in_three_lines", "register", "register_operations", "require_single_head"]
