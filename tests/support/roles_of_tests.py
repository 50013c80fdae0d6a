"""The roles of least privilege on the databases of tests: searches and pages are tested as the role that serves them."""

from __future__ import annotations

from psycopg.conninfo import make_conninfo

from everindex.access.role_application import apply_roles
from everindex.access.roles import RoleNames
from everindex.pg.connections import connect

NAMES = RoleNames()


def as_app(conninfo: str) -> str:
    """The address of the same database for the role of the web application; makes the roles where they are missing."""
    with connect(conninfo) as connection:
        apply_roles(connection, NAMES)
    return make_conninfo(conninfo, user=NAMES.app)
