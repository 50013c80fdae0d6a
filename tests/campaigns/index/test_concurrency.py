"""Eight deployers and the keeper begin at once, from every starting state: one of them does the work, and nobody is harmed."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

import attack
from attack import Ended, Victim
from by_hand import rows
from everindex.index.deploy.executor import deploy
from everindex.index.keeper.loop import Keeper
from everindex.index.plan.policy import HEAL
from plan_kinds import KINDS, Kind
from scene import InBackground

DEPLOYERS = 8
SHORT, LONG = 3, 50
#: Orders that several may give at once and that come to one end. A rebuild for a reason is asked for once.
ROUNDS = [kind for kind in KINDS if kind.act is deploy and kind.name not in ("rebuild", "absent-migration")]
#: With every statement of DDL in the server's log: it says how often something was built, whoever has done it.
SETTINGS = {"log_statement": "ddl", "max_connections": "120"}
BUILD = re.compile(r"statement: (CREATE INDEX|REINDEX INDEX)")


def built(log: str) -> list[str]:
    return [line for line in log.splitlines() if BUILD.search(line)]


def one_round(server: Victim, log: Path, kind: Kind) -> None:
    alone = server.database(kind, count=300)
    begun = log.stat().st_size
    attack.moments_of(server.conninfo(alone), kind)
    expected = len(built(_since(log, begun)))
    server.drop(alone)

    name = server.database(kind, count=300)
    conninfo = server.conninfo(name)
    before = attack.checksum(conninfo)
    begun = log.stat().st_size
    keeper = Keeper(kind.connects_to(conninfo), lambda connection: [kind.spec], interval_seconds=0.2, policy=HEAL)
    stop = threading.Event()
    keeping = InBackground(lambda: keeper.run(stop))
    clients = [attack.Client(conninfo, kind) for _ in range(DEPLOYERS)]
    try:
        for each in clients:
            ended = each.hear(seconds=120)
            assert isinstance(ended, Ended)
            assert ended.error is None, ended.error
    finally:
        stop.set()
        for each in clients:
            each.close()
        keeping.finish()
    told = _since(log, begun)
    assert "deadlock detected" not in told
    assert len(built(told)) == expected, built(told)
    attack.assert_mended(conninfo, kind)
    assert attack.checksum(conninfo) == before
    server.drop(name)


def _since(log: Path, offset: int) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(offset)
        return file.read()


def rounds(count: int) -> None:
    with attack.victim(**SETTINGS) as server:
        log = server.log
        assert rows(server.admin, "SHOW log_statement") == [("ddl",)]
        for number in range(count):
            # Not the neighbours in the list: a short run meets kinds that differ.
            kind = ROUNDS[number * 7 % len(ROUNDS)]
            try:
                one_round(server, log, kind)
            except BaseException as exc:
                exc.add_note(f"round {number}: {kind.name}")
                raise


def test_eight_deployers_and_the_keeper_build_once_and_without_a_deadlock() -> None:
    rounds(SHORT)


@pytest.mark.long
def test_fifty_rounds_of_eight_deployers_and_the_keeper_build_once_each_and_without_a_deadlock() -> None:
    rounds(LONG)
