"""Everindex's own migrations: the revision files, the database's place among them, and attachment to other databases.

Imports only `alembic_kit`, `index`, `pg` and `errors`. The kit for any application is `alembic_kit`; the modules that revisions
import are in `migrate/frozen` and never change.
"""
