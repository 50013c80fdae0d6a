"""Vector index operations and autogenerate support for the Alembic migrations of any application.

Applications import from `alembic_kit.env`, and their revisions use `op`. Imports only `index`, `pg` and `errors`; nothing here
depends on articles or on everindex's own migrations (`migrate`).
"""
