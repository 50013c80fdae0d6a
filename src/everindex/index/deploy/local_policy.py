"""The policy of a deploy as it holds in one database: on an attached one it spares what others made."""

from __future__ import annotations

from dataclasses import replace

from everindex.index.plan.policy import DeployPolicy
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection


def policy_here(connection: Connection, policy: DeployPolicy) -> DeployPolicy:
    """`policy`, which on an attached database spares what others made. Reads only."""
    return policy if read_attachment(connection) is None else replace(policy, spare_others=True)
