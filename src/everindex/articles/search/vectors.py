"""Which vectors do these articles have? Read in one round trip, in binary, for choosing among candidates."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from psycopg import sql

from everindex.articles.table import ArticleTable
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours


def read_vectors(
    connection: Connection, table: ArticleTable, uris: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """uri → (dim,) float32; an article without a vector is left out. Reads only; 6 kB a vector at 1536 dimensions."""
    if not uris:
        return {}
    # One parameter, so that one statement serves any number of uris.
    statement = sql.SQL(
        "SELECT uri::pg_catalog.text, embedding FROM {} WHERE embedding IS NOT NULL AND uri IN "
        "(SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb))"
    ).format(table.identifier)
    with told_as_ours("reading the vectors of candidates"):
        rows = roundtrip.run(connection, (), statement.as_string(None), [json.dumps(list(uris))])
    return {uri: vector.to_numpy() for uri, vector in rows}
