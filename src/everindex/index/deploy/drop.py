"""Operations on a deployed index other than a deploy: dropping it or its previous generation, and rolling back.

Each waits for other builders up to a limit and leaves the catalog unchanged if it cannot proceed. Nothing is built here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from everindex.index.build.operation import wait_for_table
from everindex.index.catalog.generations import has_generation_name, words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import ObservedIndex
from everindex.index.deploy.comments import settle
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.session import build_lock, operation_session
from everindex.index.deploy.swap import drop_generation, roll_back
from everindex.index.journal import record
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect


def drop(
    conninfo: str,
    spec: IndexSpec,
    *,
    reporter: Reporter | None = None,
    wait_seconds: float = 3600.0,
    comes_back: bool = False,
) -> bool:
    """Drops the declared index and its generations online (SHARE UPDATE EXCLUSIVE); False when there was none.

    With `comes_back`, a note that it is set aside for a load remains; otherwise the index is dropped for good, and so is the
    note.
    """
    if not comes_back:
        with connect(conninfo, application_name="everindex drop") as connection:
            settle(connection, spec)
    return _drop_those(
        conninfo,
        spec,
        lambda index: index.name == spec.name or has_generation_name(index.name, spec.name),
        reporter=reporter,
        wait_seconds=wait_seconds,
    )


def drop_previous(
    conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 3600.0
) -> bool:
    """Drops the previous generation, which is kept for a rollback; False when there was none."""
    return _drop_those(
        conninfo,
        spec,
        lambda index: has_generation_name(index.name, spec.name) and index.name.endswith("__prev"),
        reporter=reporter,
        wait_seconds=wait_seconds,
    )


def rollback(conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 60.0) -> str:
    """Makes the previous generation serve again and keeps the current one as the previous; returns the restored definition.

    Swaps two names in one short transaction; builds nothing, and does not wait for a running build. Raises
    NothingToRollBack, LockNotObtained, PermissionDenied.
    """
    deployment = Deployment(
        conninfo=conninfo, spec=spec, reporter=reporter or Reporter(), deadline=time.monotonic() + wait_seconds
    )
    with operation_session(deployment, application_name="everindex rollback") as connection:
        return roll_back(deployment, connection)


def _drop_those(
    conninfo: str,
    spec: IndexSpec,
    are_meant: Callable[[ObservedIndex], bool],
    *,
    reporter: Reporter | None,
    wait_seconds: float,
) -> bool:
    deployment = Deployment(
        conninfo=conninfo, spec=spec, reporter=reporter or Reporter(), deadline=time.monotonic() + wait_seconds
    )
    with operation_session(deployment, application_name="everindex drop") as connection, build_lock(deployment):
        found = [index for index in observe(connection, spec).indexes if are_meant(index)]
        if not found:
            deployment.reporter.say(f"index {spec.qualified_name} does not exist")
        for index in found:
            wait_for_table(deployment, connection, spec.schema, spec.table)
            drop_generation(deployment, connection, spec.schema, index.name, is_partitioned=index.is_partitioned)
            record(
                connection,
                spec,
                "dropped",
                name=index.name,
                why="requested",
                definition=index.definition,
                comment=words_of_others(index.comment),
            )
            deployment.reporter.say(f"dropped index {spec.schema}.{index.name}")
        return bool(found)
