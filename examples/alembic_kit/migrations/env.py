"""Runs the revisions: `alembic upgrade head`, `alembic upgrade head --sql`, `alembic revision --autogenerate`."""

from __future__ import annotations

import os

from alembic import context
from models import metadata
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from everindex.alembic_kit.env import errors_in_three_lines, register, require_single_head


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql", target_metadata=metadata, literal_binds=True, transaction_per_migration=True
    )
    # By default psql continues after an error; a script that builds and stamps must not.
    context.static_output("\\set ON_ERROR_STOP on")
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    engine = create_engine(os.environ["DATABASE_URL"], poolclass=NullPool)
    # connect(), not begin(): each revision runs in its own transaction, which Alembic begins and commits.
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


register()  # op.create_vector_index and the related operations, their comparison and rendering
with errors_in_three_lines(context.config):
    require_single_head(context.config)
    if context.is_offline_mode():
        run_offline()
    else:
        run_online()
