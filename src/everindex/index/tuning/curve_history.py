"""The latest measured curves, stored in everindex_meta.curve for the web page and the command line.

If the schema is missing or may not be written, nothing is stored, and everything else works the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from everindex.index.spec import IndexSpec
from everindex.index.tuning.curve import Curve, curve_from
from everindex.index.tuning.survey_result import Survey
from everindex.pg import own_schema
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: Number of measurements that are stored per index.
KEPT_SURVEYS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCurves:
    """One stored measurement."""

    at: datetime
    k: int
    rows: int
    queries: str
    exact_ms: float
    curves: tuple[Curve, ...]


def keep(connection: Connection, found: Survey) -> bool:
    """Stores the curves, and deletes the oldest beyond KEPT_SURVEYS; False if that is not possible. Autocommit only."""
    name = {"schema": found.spec.schema, "name": found.spec.name}
    try:
        connection.execute(
            "INSERT INTO everindex_meta.curve (index_schema, index_name, document) VALUES (%(schema)s, %(name)s, %(document)s)",
            {**name, "document": Jsonb(found.as_dict())},
        )
        connection.execute(
            "DELETE FROM everindex_meta.curve WHERE index_schema = %(schema)s AND index_name = %(name)s AND id NOT IN "
            "(SELECT id FROM everindex_meta.curve WHERE index_schema = %(schema)s AND index_name = %(name)s "
            "ORDER BY id DESC LIMIT %(kept)s)",
            {**name, "kept": KEPT_SURVEYS},
        )
    except psycopg.Error as exc:
        log.debug("curves not stored: %s", type(exc).__name__, extra={"event": "curves-not-stored"})
        return False
    return True


def latest(connection: Connection, spec: IndexSpec) -> KeptCurves | None:
    """The latest measurement of the index of that name; None if there is none or it may not be read. Reads only."""
    if not own_schema.is_readable(connection, "curve"):
        return None
    row = connection.execute(
        "SELECT at, document FROM everindex_meta.curve WHERE index_schema = %s AND index_name = %s "
        "ORDER BY id DESC LIMIT 1",
        (spec.schema, spec.name),
    ).fetchone()
    if row is None:
        return None
    document = row[1]
    return KeptCurves(
        at=row[0],
        k=document["k"],
        rows=document["rows"],
        queries=document["queries"],
        exact_ms=document["exact_ms"],
        curves=tuple(map(curve_from, document["curves"])),
    )
