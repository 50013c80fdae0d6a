"""The deploy of the declared indexes at the end of a migration or of an attachment.

Even if there is nothing to migrate, an index may be missing or INVALID: it is restored here, at every start. An index that
serves with another definition may be intentional: it is reported and left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from everindex.alembic_kit.build_mode import is_left_to_keeper
from everindex.alembic_kit.report import reporter_for
from everindex.errors import EverindexError, PermissionDenied, ReadOnlyServer
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import acknowledge, deploy
from everindex.index.deploy.local_policy import policy_here
from everindex.index.plan.other_indexes import indexes_beside
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import MIGRATE
from everindex.index.spec import IndexSpec
from everindex.migrate.attach import told_as_left
from everindex.pg.connections import connect

log = logging.getLogger(__name__)


def keep_declared(
    attributes: dict[str, Any], conninfo: str, declared: Sequence[IndexSpec], *, is_attached: bool = False
) -> None:
    """Raises what deploying raises, except that a role that may not build on an attached database only gets a warning."""
    with reporter_for(attributes) as reporter:
        for declaration in declared:
            spec = declaration
            try:
                with connect(conninfo) as connection:
                    spec = effective_spec(connection, declaration)
                    policy = policy_here(connection, MIGRATE)
                    observed = observe(connection, spec)
                    steps = make_plan(spec, observed, policy=policy).steps
                if steps and is_left_to_keeper(conninfo, spec, reporter=reporter):
                    continue
                if steps:
                    stop = attributes.get("everindex_stop")
                    for warning in deploy(conninfo, spec, policy=MIGRATE, reporter=reporter, stop=stop).warnings:
                        reporter.say(f"warning: {warning}")
                    continue
                for other in indexes_beside(spec, observed):
                    reporter.say(f"warning: {other.sentence}; {other.advice}")
                if attributes.get("everindex_acknowledge"):
                    acknowledge(conninfo, spec, reporter=reporter)
            except (PermissionDenied, ReadOnlyServer) as exc:
                if not is_attached:
                    raise
                log.warning("%s", told_as_left(spec, exc), extra={"event": "index-left"})
            except EverindexError as exc:
                if exc.slug != "index-definition-differs":
                    raise
                log.warning("%s", exc, extra={"event": "index-definition-differs"})
