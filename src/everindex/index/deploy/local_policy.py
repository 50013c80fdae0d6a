"""The policy of a deploy for one database: on an attached one, objects of others are left alone."""

from __future__ import annotations

from dataclasses import replace

from everindex.index.plan.policy import DeployPolicy
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection


def policy_here(connection: Connection, policy: DeployPolicy) -> DeployPolicy:
    """`policy`, restricted on an attached database to leave objects of others alone. Reads only."""
    return policy if read_attachment(connection) is None else replace(policy, spare_others=True)
