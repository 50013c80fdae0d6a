"""The environment of the migrations: `alembic …`, `everindex migrate`, `run_migration.py` and the container all use it."""

from __future__ import annotations

from alembic import context

from everindex.articles.after_migration import ensure_keyword_search, keyword_search_script
from everindex.articles.declared import DECLARED_INDEXES
from everindex.migrate import environment

if context.is_offline_mode():
    environment.run_offline(context, at_head=keyword_search_script)
else:
    environment.run_online(context, declared=DECLARED_INDEXES, at_head=ensure_keyword_search)
