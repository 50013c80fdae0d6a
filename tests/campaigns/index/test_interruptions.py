"""Whatever dies, and whenever: after the next start and one more run the index is the declared one and no row is lost.

Killed are a backend (pg_terminate_backend), the client (SIGKILL) and the whole server (SIGQUIT to the postmaster, an
immediate stop), at every step of every kind of plan, inside the statements that wait, and at random moments.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import attack
import scene
from attack import BY_NAME, KINDS, VECTOR_KINDS, Client, Ended, Victim, client, mended
from by_hand import rows
from load_kinds import LOAD_KINDS
from plan_kinds import Kind
from scene import wait_until
from word_kinds import WORD_KINDS

#: How many random kills: `KILLS=1000 make test-long` for another count, KILLS_SEED=n to see the same ones again.
SHORT, LONG = 10, 200
COUNT, SEED = "KILLS", "KILLS_SEED"
#: Of the random campaign: enough rows for a build to take a while.
MANY = 1000
EACH = [pytest.param(kind, id=kind.name) for kind in KINDS]
#: So many servers' worth of connections: three to a client.
AT_ONCE = 8


def one_of_each_step(moments: tuple[str, ...], shift: int) -> list[int]:
    """One moment of every step: of one before it, of the next in its midst, of the next after it, and so on."""
    steps: list[list[int]] = [[]]
    for number, label in enumerate(moments, start=1):
        if label.startswith("before") and steps[-1]:
            steps.append([])
        steps[-1].append(number)
    return sorted({step[((index + shift) * len(step) // 3) % len(step)] for index, step in enumerate(steps)})


def kill_client(stopped: Client, conninfo: str) -> None:
    stopped.kill()


def kill_worker(stopped: Client, conninfo: str) -> None:
    attack.end_backends(conninfo, [pid for pid, name in attack.backends(conninfo) if " lock " not in name])
    end_as_ours(stopped)


def kill_lock(stopped: Client, conninfo: str) -> None:
    """The session that holds the advisory lock: the work may go on, and must do no harm."""
    attack.end_backends(conninfo, [pid for pid, name in attack.backends(conninfo) if " lock " in name])
    end_as_ours(stopped)


def end_as_ours(stopped: Client) -> None:
    """Lets the client go on to its end: success, or an error of three lines that names no connection string."""
    stopped.go_on()
    ended = stopped.hear()
    assert isinstance(ended, Ended)
    assert ended.is_ours, ended.error


KILLERS = [kill_client, kill_worker, kill_lock]


def attack_at(cluster: Any, starts: Callable[[Kind], str], kind: Kind, numbers: list[int], kill: Any) -> None:
    for number in numbers:
        conninfo = starts(kind)
        before = attack.checksum(conninfo)
        with client(conninfo, kind, stop_at=number) as stopped:
            label = stopped.hear()
            assert isinstance(label, str), label
            kill(stopped, conninfo)
        try:
            mended(conninfo, kind)
            assert attack.checksum(conninfo) == before
        except BaseException as exc:
            exc.add_note(f"{kind.name}, moment {number}: {kill.__name__} {label}")
            raise
        cluster.drop(conninfo)


@pytest.mark.long  # the short ring kills at random moments, below
@pytest.mark.parametrize("kind", EACH)
def test_a_client_or_backend_that_dies_at_a_step_leaves_what_the_next_run_mends(
    cluster: Any, starts: Callable[[Kind], str], kind: Kind
) -> None:
    moments = attack.moments_of(starts(kind), kind)
    for shift, kill in enumerate(KILLERS):
        numbers = one_of_each_step(moments, shift)
        # Without its lock the work goes on and must end well: seen once here, and at every statement in the long ring.
        attack_at(cluster, starts, kind, numbers[len(numbers) // 2 :][:1] if kill is kill_lock else numbers, kill)


def test_an_index_that_is_set_aside_comes_back_after_a_death_at_each_step_of_its_restore(
    cluster: Any, starts: Callable[[Kind], str]
) -> None:
    kind = BY_NAME["set-aside-by-a-killed-load"]
    moments = attack.moments_of(starts(kind), kind)
    assert any("CREATE INDEX CONCURRENTLY" in label for label in moments)
    assert any("COMMENT ON INDEX" in label for label in moments)
    attack_at(cluster, starts, kind, one_of_each_step(moments, 1), kill_client)


@pytest.mark.long
@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("kill", KILLERS)
def test_a_client_or_backend_that_dies_at_any_statement_leaves_what_the_next_run_mends(
    cluster: Any, starts: Callable[[Kind], str], kind: Kind, kill: Any
) -> None:
    moments = attack.moments_of(starts(kind), kind)
    attack_at(cluster, starts, kind, attack.numbers_of(moments), kill)


# --- the whole server ------------------------------------------------------------------------------------------------


def stop_servers_at(kinds: Iterable[Kind], numbers_of: Callable[[tuple[str, ...]], list[int]]) -> int:
    """Stops a server in the midst of a step of several plans at once, until each has had its moments; how often."""
    with attack.victim(max_connections="60") as server:
        waiting: list[tuple[Kind, int]] = []
        for kind in kinds:
            moments = attack.moments_of(server.conninfo(server.database(kind, count=300)), kind)
            waiting += [(kind, number) for number in numbers_of(moments)]
        # Those of one kind must not all meet the same stop: the plans are dealt out like cards.
        waiting.sort(key=lambda pair: pair[1])
        stops = 0
        while waiting:
            now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            _stop_server_in(server, now)
            stops += 1
        return stops


def _stop_server_in(server: Victim, plans: list[tuple[Kind, int]]) -> None:
    names = [server.database(kind, count=300) for kind, _ in plans]
    before = [attack.checksum(server.conninfo(name)) for name in names]
    clients = []
    labels = []
    try:
        for name, (kind, number) in zip(names, plans, strict=True):
            clients.append(Client(server.conninfo(name), kind, stop_at=number))
        labels = [stopped.hear() for stopped in clients]
        server.stop_at_once()
        for stopped in clients:
            end_as_ours(stopped)
    finally:
        for stopped in clients:
            stopped.close()
    server.start()
    for name, (kind, number), label, rows_before in zip(names, plans, labels, before, strict=True):
        conninfo = server.conninfo(name)
        try:
            assert attack.checksum(conninfo) == rows_before
            mended(conninfo, kind)
            assert attack.checksum(conninfo) == rows_before
        except BaseException as exc:
            exc.add_note(f"{kind.name}, moment {number}: the server stopped {label}")
            raise
        server.drop(name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kinds", "least"), [(VECTOR_KINDS, 4), (WORD_KINDS, 2), (LOAD_KINDS, 1)], ids=["vector", "words", "loads"]
)
def test_a_server_that_stops_at_a_step_of_any_plan_has_what_the_next_run_mends(
    kinds: tuple[Kind, ...], least: int
) -> None:
    assert stop_servers_at(kinds, lambda moments: one_of_each_step(moments, 1)) >= least


@pytest.mark.long
@pytest.mark.parametrize(
    ("kinds", "least"), [(VECTOR_KINDS, 31), (WORD_KINDS, 4), (LOAD_KINDS, 2)], ids=["vector", "words", "loads"]
)
def test_a_server_that_stops_at_any_statement_of_any_plan_has_what_the_next_run_mends(
    kinds: tuple[Kind, ...], least: int
) -> None:
    assert stop_servers_at(kinds, attack.numbers_of) >= least


# --- inside a statement ----------------------------------------------------------------------------------------------


@contextmanager
def building(conninfo: str, kind: Kind, phase: str) -> Iterator[None]:
    """CREATE INDEX CONCURRENTLY cannot get past a phase."""
    is_partitioned = rows(conninfo, "SELECT FROM pg_class WHERE relname = 'part_a'")
    with scene.blocked_in(conninfo, phase, table="part_a" if is_partitioned else kind.table):
        yield


@contextmanager
def dropping(conninfo: str, kind: Kind, is_dead: bool) -> Iterator[Callable[[], None]]:
    """DROP INDEX CONCURRENTLY waits, the first time as INVALID and still kept up, the second time as dead."""
    lock = f"LOCK TABLE {kind.table} IN ROW EXCLUSIVE MODE"
    with psycopg.connect(conninfo) as first, psycopg.connect(conninfo) as second:
        first.execute(lock)

        def reached() -> None:
            waits = "SELECT FROM pg_stat_activity WHERE query LIKE 'DROP INDEX CONCURRENTLY%%' AND wait_event_type = 'Lock' " \
                    "AND datname = current_database()"  # fmt: skip
            wait_until(lambda: rows(conninfo, waits))
            if is_dead:
                second.execute(lock)
                first.rollback()
                wait_until(lambda: rows(conninfo, "SELECT FROM pg_index WHERE NOT indislive"))

        with contextlib.suppress(psycopg.OperationalError):  # a server that has been stopped takes them along
            yield reached


INSIDE = [
    pytest.param(name, phase, id=f"{name}-{phase.split()[-1]}")
    for name in (
        "absent",
        "drifted",
        "partitioned",
        "partitioned-half-done",
        "words-absent",
        "words-of-another-language",
        "set-aside-by-a-killed-load",
    )
    for phase in (scene.WRITERS, scene.OLD_SNAPSHOT)
    if not (name == "partitioned-half-done" and phase == scene.WRITERS)
]
DROPS = [
    pytest.param(name, is_dead, id=f"{name}-{'dead' if is_dead else 'invalid'}")
    for name in (
        "invalid",
        "expired-previous",
        "forget",
        "duplicate-and-left-over",
        "drop-then-deploy",
        "words-invalid",
        "words-with-previous",
        "load-without-index",
    )
    for is_dead in (False, True)
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "phase"), INSIDE)
@pytest.mark.parametrize("how", ["client", "backend"])
def test_what_dies_inside_a_build_leaves_what_the_next_run_mends(
    starts: Callable[[Kind], str], name: str, phase: str, how: str
) -> None:
    kind = BY_NAME[name]
    conninfo = starts(kind)
    before = attack.checksum(conninfo)
    with client(conninfo, kind) as running:
        with building(conninfo, kind, phase):
            pid = scene.builder_in_phase(conninfo, phase)
            if how == "client":
                running.kill()
            attack.end_backends(conninfo, [pid])
        if how == "backend":
            ended = running.hear()
            assert isinstance(ended, Ended)
            assert ended.is_ours, ended.error
    mended(conninfo, kind)
    assert attack.checksum(conninfo) == before


@pytest.mark.long
@pytest.mark.parametrize(("name", "is_dead"), DROPS)
@pytest.mark.parametrize("how", ["client", "backend"])
def test_what_dies_inside_a_drop_leaves_what_the_next_run_mends(
    starts: Callable[[Kind], str], name: str, is_dead: bool, how: str
) -> None:
    kind = BY_NAME[name]
    conninfo = starts(kind)
    before = attack.checksum(conninfo)
    with client(conninfo, kind) as running:
        with dropping(conninfo, kind, is_dead) as reached:
            reached()
            if how == "client":
                running.kill()
            pids = [pid for pid, application in attack.backends(conninfo) if " lock " not in application]
            attack.end_backends(conninfo, pids)
        if how == "backend":
            ended = running.hear()
            assert isinstance(ended, Ended)
            assert ended.is_ours, ended.error
    mended(conninfo, kind)
    assert attack.checksum(conninfo) == before


@pytest.mark.long
def test_a_server_that_stops_inside_builds_and_drops_has_what_the_next_run_mends() -> None:
    with attack.victim() as server, contextlib.ExitStack() as stack:
        plans: list[tuple[Kind, str, Any]] = []
        for parameters in (*INSIDE, *DROPS):
            kind, where = BY_NAME[str(parameters.values[0])], parameters.values[1]
            name = server.database(kind, count=300)
            conninfo = server.conninfo(name)
            plans.append((kind, name, attack.checksum(conninfo)))
            with contextlib.ExitStack() as blockers:
                if isinstance(where, str):
                    stack.enter_context(contextlib.suppress(psycopg.OperationalError))
                    blockers.enter_context(building(conninfo, kind, where))
                    stack.enter_context(client(conninfo, kind))
                    scene.builder_in_phase(conninfo, where)
                else:
                    reached = blockers.enter_context(dropping(conninfo, kind, bool(where)))
                    stack.enter_context(client(conninfo, kind))
                    reached()
                stack.push(blockers.pop_all())
        server.stop_at_once()
        server.start()
        for kind, name, before in plans:
            conninfo = server.conninfo(name)
            try:
                mended(conninfo, kind)
                assert attack.checksum(conninfo) == before
            except BaseException as exc:
                exc.add_note(kind.name)
                raise


# --- at random moments -----------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Writes one row after the other until the server is gone or it is told to stop; knows which are acknowledged."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(daemon=True)
        self._conninfo = conninfo
        self._is_over = threading.Event()
        self.written: list[int] = []
        self.start()

    def run(self) -> None:
        vectors = scene.clusters_of_vectors(500, scene.DIMENSIONS, seed=8)
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(self._conninfo, autocommit=True) as connection,
        ):
            for number, vector in enumerate(vectors, start=attack.WRITTEN):
                if self._is_over.wait(0.01):
                    return
                connection.execute(
                    "INSERT INTO items (id, embedding) VALUES (%s, %s::vector)", (number, str(vector.tolist()))
                )
                self.written.append(number)

    def finish(self) -> list[int]:
        self._is_over.set()
        self.join(30)
        return self.written


#: How long the first client of a kind is thought to work; from then on it is known.
FIRST_GUESS_SECONDS = 0.2


def random_kills(count: int, seed: int) -> dict[str, int]:
    """The campaign: `count` kills that met a client still at work, of each kind how many, and how many came too late."""
    chance = random.Random(seed)
    met = {"client": 0, "backend": 0, "server": 0, "too late": 0}
    usual_seconds: dict[str, float] = {}
    with attack.victim() as server:
        for number in itertools.count():
            if sum(met.values()) - met["too late"] == count:
                break
            assert number < 3 * count, met
            kind, how = chance.choice(KINDS), chance.choice(["client", "backend", "server"])
            delay = chance.random() * usual_seconds.get(kind.name, FIRST_GUESS_SECONDS)
            try:
                seconds = _kill_at_random(server, kind, how, delay, chance)
            except BaseException as exc:
                exc.add_note(f"kill {number} of {count}, {SEED}={seed}: {kind.name}, {how} after {delay:.3f} s")
                raise
            if seconds is None:
                met[how] += 1
            else:
                met["too late"] += 1
                usual_seconds[kind.name] = seconds
    return met


def _kill_at_random(server: Victim, kind: Kind, how: str, delay: float, chance: random.Random) -> float | None:
    """None when the client was still at work; else after how many seconds it had ended."""
    name = server.database(kind, count=MANY)
    conninfo = server.conninfo(name)
    before = attack.checksum(conninfo)
    writer = Writer(conninfo)
    with client(conninfo, kind) as running:
        started = time.monotonic()
        ended_after = time.monotonic() - started if running.has_ended(delay) else None
        match how:
            case "client":
                running.kill()
            case "backend":
                sessions = attack.backends(conninfo)
                if sessions:
                    attack.end_backends(conninfo, [chance.choice(sessions)[0]])
                ended = running.hear()
                assert isinstance(ended, Ended)
                assert ended.is_ours, ended.error
            case "server":
                server.stop_at_once()
                ended = running.hear()
                assert isinstance(ended, Ended)
                assert ended.is_ours, ended.error
    if how == "server":
        server.start()
        conninfo = server.conninfo(name)
    written = writer.finish()
    mended(conninfo, kind)
    assert attack.checksum(conninfo) == before
    kept = {row[0] for row in rows(conninfo, f"SELECT id FROM items WHERE id >= {attack.WRITTEN}")}
    assert set(written) <= kept, "rows that were acknowledged are gone"
    server.drop(name)
    return ended_after


def campaign(default: int) -> tuple[int, int]:
    return int(os.environ.get(COUNT, default)), int(os.environ.get(SEED, random.SystemRandom().randrange(10**6)))


def test_ten_kills_at_random_moments_lose_nothing() -> None:
    _, seed = campaign(SHORT)
    met = random_kills(SHORT, seed)
    assert sum(met.values()) - met["too late"] == SHORT


@pytest.mark.long
def test_two_hundred_kills_at_random_moments_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    count, seed = campaign(LONG)
    started = time.monotonic()
    met = random_kills(count, seed)
    with capsys.disabled():
        print(f"\n  {count} random kills, {SEED}={seed}, {time.monotonic() - started:.0f} s: {met}")
    assert sum(met.values()) - met["too late"] == count
