"""The roles of least privilege on the databases of tests: searches and pages are tested as the role that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from clusters import Cluster
from everindex.access.role_application import apply_roles
from everindex.access.roles import RoleNames
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.pg.connections import connect
from everindex.settings import Settings

NAMES = RoleNames()


def as_app(conninfo: str) -> str:
    """The address of the same database for the role of the web application; makes the roles where they are missing."""
    with connect(conninfo) as connection:
        apply_roles(connection, NAMES)
    return make_conninfo(conninfo, user=NAMES.app)


@pytest.fixture
def as_owner(cluster: Cluster) -> object:
    """Opens the database of an instance as its owner, for what the role of the web application may not do; what is made there
    is granted to that role."""

    @contextmanager
    def opened(instance: Instance) -> Iterator[Instance]:
        conninfo = make_conninfo(instance.conninfo, user=conninfo_to_dict(cluster.admin)["user"])
        with connect_instance(conninfo, settings=Settings()) as owner:
            yield owner
            as_app(conninfo)

    return opened
