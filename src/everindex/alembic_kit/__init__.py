"""Vector index operations and autogenerate support for the Alembic migrations of any application.

Applications import from `alembic_kit.env`, their revisions use `op`. Imports fall to `index`, `pg` and `errors`;
nothing here knows of articles or of everindex's own migrations (`migrate`).
"""
