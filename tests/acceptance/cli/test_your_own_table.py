"""docs/your-own-table.md, run step by step from an empty database."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from command_line import everindex, url_of
from repository import REPOSITORY

PAGE = REPOSITORY / "docs" / "your-own-table.md"


def test_the_page_can_be_followed_from_an_empty_database(tmp_path: Path, empty: str) -> None:
    ran: list[str] = []
    for before, language, block in re.findall(
        r"([^\n]*)\n\n```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        match language:
            case "sql":
                with psycopg.connect(empty, autocommit=True) as connection:
                    connection.execute(block.encode())
            case "sh":
                for line in block.splitlines():
                    command = line.split()
                    assert command[0] == "everindex"
                    done = everindex(*command[1:], cwd=tmp_path, DATABASE_URL=url_of(empty))
                    # An embedded server for tests has findings of its own; what is declared has none.
                    assert done.status == 0 or (command[1] == "doctor" and "declared" not in done.stdout), done
                    ran.append(command[1])
            case "toml":
                (tmp_path / "pyproject.toml").write_text(block, encoding="utf-8")
            case _:
                named = re.findall(r"`([\w.]+)`:$", before)
                (tmp_path / named[0]).write_text(block, encoding="utf-8")
    assert ran == ["deploy", "verify", "doctor", "status", "plan"]
    assert everindex("plan", "--declared", "index.json", cwd=tmp_path, DATABASE_URL=url_of(empty)).status == 0
    with psycopg.connect(empty) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        assert tables.fetchall() == [("documents",)]
