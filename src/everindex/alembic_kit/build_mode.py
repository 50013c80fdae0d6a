"""The choice between building an index within a migration and leaving it to the keeper (EVERINDEX_BUILD). Reads only."""

from __future__ import annotations

from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import serving_index
from everindex.index.deploy.preview import preview_plan
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import MIGRATE, MIGRATE_CHANGED
from everindex.index.plan.steps import Build, WaitForBuild
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection, connect
from everindex.settings import current_settings

#: `auto` waits for builds that are expected to take less than this, which is less than the timeout of a typical probe.
SHORT_BUILD_SECONDS = 60.0
#: Assumption for a table of which only the number of rows is known.
UNKNOWN_ROWS_PER_SECOND = 500.0


def build_now(connection: Connection, spec: IndexSpec, observed: Observed, *, replaces: bool = False) -> bool:
    """True when the caller builds and waits; False when the build is left to the keeper (everindex serve or keep).

    The index of an empty table is always built at once. A definition that replaces another one is left only to a keeper that
    replaces (EVERINDEX_KEEP_DRIFT), since no other would build it; and `auto` builds itself if serve has no keeper.
    """
    settings = current_settings()
    mode = settings.build
    if mode == "wait" or (replaces and settings.keep_drift != "replace"):
        return True
    if observed.is_empty or not observed.table_exists:
        return True
    if mode == "background":
        return False
    return settings.keep == "off" or build_seconds_expected(connection, spec, replaces=replaces) < SHORT_BUILD_SECONDS


def build_seconds_expected(connection: Connection, spec: IndexSpec, *, replaces: bool = False) -> float:
    """The expected build time of the declared index in this database, from its last build or from a trial of one second."""
    policy = MIGRATE_CHANGED if replaces else MIGRATE
    preview = preview_plan(connection, spec, policy=policy)
    seconds = sum(each.estimate.seconds for each in preview.steps if each.estimate is not None)
    rows = sum(each.estimate.rows for each in preview.steps if each.estimate is not None)
    if rows == 0 and any(isinstance(each.step, Build) for each in preview.steps):
        # Never analyzed: the statistics have no row count. The rate of the slowest machine is enough to distinguish seconds
        # from minutes.
        return count_rows(connection, spec) / UNKNOWN_ROWS_PER_SECOND
    return seconds


def is_left_to_keeper(conninfo: str, spec: IndexSpec, *, reporter: Reporter, replaces: bool = False) -> bool:
    """True, and reported, when the declared index is missing and its build is left to the keeper. Reads only."""
    if current_settings().build == "wait":
        return False
    with connect(conninfo, application_name="everindex migrate") as connection:
        observed = observe(connection, spec)
        if not observed.table_exists:
            return False
        policy = MIGRATE_CHANGED if replaces else MIGRATE
        steps = make_plan(spec, observed, policy=policy).steps
        if not any(isinstance(step, (Build, WaitForBuild)) for step in steps):
            return False
        if build_now(connection, spec, observed, replaces=replaces):
            return False
        meanwhile = "searches continue as before" if serving_index(spec, observed) else "every search is exact"
        reporter.say(
            f"index {spec.qualified_name} is left to the keeper (EVERINDEX_BUILD={current_settings().build}): it will be "
            f"built in the background by  everindex serve  or  everindex keep ; until then {meanwhile}"
        )
        return True
