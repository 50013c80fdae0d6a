"""`everindex health`: it finds the applications that run here, whatever port they chose, and says how they are."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from command_line import Running, everindex, url_of
from everindex.articles.instance import Instance
from everindex.cli.running_servers import recorded, running_servers


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_it_finds_the_port_that_a_server_chose_and_several_servers(
    read_only_instance: Instance, tmp_path: Path
) -> None:
    home = {"EVERINDEX_HOME": str(tmp_path / "home")}
    served = home | {"DATABASE_URL": url_of(read_only_instance.conninfo), "EVERINDEX_KEEP": "off"}
    with Running("serve", **served, PORT="0") as first:
        url = first.url()
        for arguments in ((), ("--ready",), ("--port", url.rpartition(":")[2])):
            done = everindex("health", *arguments, **home)
            assert (done.status, done.stderr) == (0, "")
            assert done.stdout in (f"{url}/livez answers 200\n", f"{url}/readyz answers 200\n")
        assert everindex("health", **home, PORT="0").status == 0
        with Running("serve", "--port", "0", **served) as second:
            other = second.url()
            done = everindex("health", "--json", **home)
            assert done.json == {
                "healthy": True,
                "servers": [{"url": f"{each}/livez", "status": 200, "reason": None} for each in (url, other)],
            }
            second.process.kill()  # leaves its file, and nobody who holds it
            second.process.wait(10)
        assert everindex("health", **home).stdout == f"{url}/livez answers 200\n"
        assert first.end(signal.SIGTERM) == 0
    assert list((tmp_path / "home" / "serving").iterdir()) == []


def test_a_named_port_is_asked_and_no_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    nobody = free_port()
    with recorded(home, "http://127.0.0.1:9"):
        assert running_servers(home) == ["http://127.0.0.1:9"]
        for variables, arguments in (({"PORT": str(nobody)}, ()), ({}, ("--port", str(nobody)))):
            done = everindex("health", "--json", *arguments, EVERINDEX_HOME=str(home), **variables)
            assert done.status == 1
            assert done.json["healthy"] is False
            assert [each["url"] for each in done.json["servers"]] == [f"http://127.0.0.1:{nobody}/livez"]
            assert "refused" in done.json["servers"][0]["reason"]
    assert running_servers(home) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00\xff"])
def test_a_file_that_says_nothing_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "1.json").write_text(text, encoding="utf-8")
    assert running_servers(tmp_path) == []


def test_a_home_that_cannot_be_written_keeps_nobody_from_serving(tmp_path: Path) -> None:
    in_the_way = tmp_path / "home"
    in_the_way.write_text("", encoding="utf-8")
    with recorded(in_the_way, "http://127.0.0.1:9"):
        assert running_servers(in_the_way) == []
