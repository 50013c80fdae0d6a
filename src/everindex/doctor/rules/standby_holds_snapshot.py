"""Rule: no standby or replication slot holds back VACUUM on the primary or retains its WAL."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import count_text, size_text

#: Transactions that began since: as old as the default of autovacuum's freeze age leaves room for twice.
OLD_TRANSACTIONS = 1_000_000


def check(examined: Examined) -> Iterator[RuleResult]:
    if examined.capabilities.is_standby:
        return
    limit = examined.bytes_of("max_wal_size")
    slots = examined.rows(
        """
        SELECT slot_name, active, coalesce(age(xmin), 0),
               coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::bigint
        FROM pg_catalog.pg_replication_slots ORDER BY slot_name
        """
    )
    bad = False
    for name, active, age, wal_bytes in slots:
        held = []
        if age >= OLD_TRANSACTIONS:
            held.append(f"the snapshot of {count_text(age, 'transaction')} ago")
        if not active and wal_bytes > limit:
            held.append(f"{size_text(wal_bytes)} of WAL")
        if not held:
            continue
        bad = True
        drop = sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name)).as_string(None)
        yield finding(
            f"replication slot {name!r} ({'in use' if active else 'unused'}) holds {' and '.join(held)}",
            fix=Fix(
                statements=() if active else (drop,),
                advice="only if its standby or subscriber is gone for good: it can never catch up afterwards."
                if not active
                else "end the long search on that standby, or switch hot_standby_feedback off there.",
            ),
        )
    if not bad:
        yield good(f"no replication slot holds back VACUUM or WAL ({count_text(len(slots), 'slot')})")


RULE = Rule(
    slug="standby-holds-snapshot",
    severity="warning",
    title="no standby or slot holds the primary back",
    reason="hot_standby_feedback and unused slots retain dead rows, which use up the candidates of a search (60 % dead: recall "
    "0.41, measured), and WAL, to which every build adds a whole index (PostgreSQL documentation, Replication Slots).",
    check=check,
)
