"""A `.env` that could mean another database than its writer meant is refused with the line, and no database is used."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import PASSWORD, everindex, three_lines, url_of
from everindex.articles.instance import Instance
from everindex.env_file import read_env_file
from everindex.errors import SettingInvalid

NAMES = ("DATABASE_URL", "DATABASE_URL_FILE", "DB_HOST", "EVERINDEX_HOME", "PORT")
URL = f"postgresql://app:{PASSWORD}@localhost:1/main"
LEFT_OPEN = "a quote is opened there and not closed"
NO_NAME = "neither NAME=value nor a comment"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (f'DATABASE_URL="{URL}\n', 1, LEFT_OPEN),
        (f"\n# ours\n\nDATABASE_URL='{URL}\nPORT=0\n", 4, LEFT_OPEN),
        (f'PORT=0\nSECRET="abc\nDATABASE_URL={URL}\nOTHER="def"\n', 2, LEFT_OPEN),
        (f'SECRET="abc\nDATABASE_URL={URL}\nOTHER="\n', 1, LEFT_OPEN),
        (f'SECRET="abc\nexport  DATABASE_URL = {URL}\nOTHER="\n', 1, LEFT_OPEN),
        (f'SECRET="abc\nDATABASE_URL={URL}\n', 1, LEFT_OPEN),
        (f'SECRET="abc\r\nDATABASE_URL="{URL}"\r\n', 1, LEFT_OPEN),
        (f'EVERINDEX_HOME="data\nsecond line"\nDATABASE_URL={URL}\n', 1, LEFT_OPEN),
        (f'DATABASE_URL="{URL}"x\n', 1, "after its closing quote"),
        (f"DATABASE_URL: {URL}\n", 1, NO_NAME),
        (f"DATABASE_URL {URL}\n", 1, NO_NAME),
        (f"set DATABASE_URL={URL}\n", 1, "before the = is not a name"),
        ("PORT=0\nDATABASE_URL\n", 2, "without a ="),
        (f'"DATABASE_URL"={URL}\n', 1, "but does not set it"),
        (f"$env:DATABASE_URL={URL}\n", 1, "but does not set it"),
        (f"\N{ZERO WIDTH SPACE}DATABASE_URL={URL}\n", 1, "but does not set it"),
        ("DATABASE_URL=${URL_OF_NOBODY}\n", 1, "not set anywhere"),
    ],
)
def test_a_line_that_would_be_passed_over_is_named_and_no_database_is_used(
    place: Path, text: str, line: int, why: str
) -> None:
    (place / ".env").write_bytes(text.encode())
    done = everindex("migrate", cwd=place, EVERINDEX_HOME=str(place / "home"))
    three_lines(done, "setting-invalid", status=2)
    assert done.stderr.startswith(f"setting-invalid: line {line} of .env cannot be read.\n")
    assert why in done.stderr
    assert not (place / "home").exists()


@pytest.mark.parametrize(
    "content", [URL.encode("utf-16"), f"PORT=0\nDATABASE_URL={URL}".encode("utf-16-le"), b"A=\xff"]
)
def test_a_file_that_is_not_utf_8_is_refused_whole(place: Path, content: bytes) -> None:
    (place / ".env").write_bytes(content)
    done = everindex("status", "--json", cwd=place, EVERINDEX_HOME=str(place / "home"))
    three_lines(done, "setting-invalid", status=2)
    assert json.loads(done.stdout)["error"]["what"] == ".env cannot be read."
    assert not (place / "home").exists()


LINES = st.lists(
    st.sampled_from(
        ['A="b', "B='c", 'C="', "D='", 'E="f"', "F='g' # h", 'G="\\"', "H=i'j", "I=\"k\nl\"", "# it's", "", "J", "export K=1"]
    ),
    max_size=5,
)  # fmt: skip


@given(before=LINES, behind=LINES, quote=st.sampled_from(["", "'", '"']), end=st.sampled_from(["\n", "\r\n"]))
def test_whatever_stands_around_it_the_address_is_read_as_written_or_the_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], behind: list[str], quote: str, end: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "some.env"
    path.write_bytes(end.join([*before, f"DATABASE_URL={quote}{URL}{quote}", *behind]).encode())
    with suppress(SettingInvalid):
        assert read_env_file(path, names=NAMES)["DATABASE_URL"] == URL


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"export DATABASE_URL={URL} # ours\n", {"DATABASE_URL": URL}),
        (f"database_url='{URL}'\n", {"DATABASE_URL": URL}),
        (f"\ufeffDATABASE_URL={URL}\n", {"DATABASE_URL": URL}),
        ("DATABASE_URL=\nDB_HOST=\n", {"DATABASE_URL": "", "DB_HOST": ""}),
        ("PASS=x\nDATABASE_URL=postgresql://a:${PASS}@h/${NAME:-d}\n", {"DATABASE_URL": "postgresql://a:x@h/d"}),
        ('KEY="-----BEGIN\nDB=1\n-----END"\nPORT=1\n', {"PORT": "1"}),
        ("SERVER.PORT=8080\nMY_PORT\nDJANGO=${NOBODY}\n", {}),
    ],
)
def test_what_can_be_read_in_one_way_only_is_used(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    read = read_env_file(tmp_path / ".env", names=NAMES)
    assert {name: value for name, value in read.items() if name in NAMES} == found


def test_the_file_of_an_address_may_be_named_in_it(read_only_instance: Instance, place: Path) -> None:
    (place / "url").write_text(url_of(read_only_instance.conninfo) + "\n", encoding="utf-8")
    (place / ".env").write_text("DATABASE_URL_FILE=url\n", encoding="utf-8")
    home = str(place / "home")
    done = everindex("status", cwd=place, EVERINDEX_HOME=home)
    assert done.status == 0, done.stderr
    over = everindex("status", cwd=place, EVERINDEX_HOME=home, DATABASE_URL="postgresql://localhost:1/x")
    assert "localhost:1" in over.stderr  # the environment wins
    (place / ".env").write_text(f"DATABASE_URL_FILE=url\nDATABASE_URL={URL}\n", encoding="utf-8")
    both = everindex("status", cwd=place, EVERINDEX_HOME=home)
    three_lines(both, "setting-invalid", status=2)
    assert not (place / "home").exists()
