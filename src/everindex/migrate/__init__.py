"""Everindex's own migrations: the revision files, the database's place among them, and attachment to other databases.

Imports fall to `alembic_kit`, `index`, `pg` and `errors`. The kit for any application is `alembic_kit`; what revisions
import is in `migrate/frozen` and never changes.
"""
