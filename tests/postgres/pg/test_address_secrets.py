"""No part of a password leaves in a message, however broken the address is that it stands in."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

import everindex
from everindex.alembic_kit.engine_address import conninfo_of_url
from everindex.errors import EverindexError, SettingInvalid
from everindex.pg import address
from everindex.pg.address_text import why_unusable
from everindex.pg.connections import connect
from everindex.settings import Settings

#: No word of a message has three of these letters in a row with what stands between.
LETTERS = "QXZJKVW"
PASSWORDS = st.text(alphabet=LETTERS + "/@:?#%& \n\t'\"[]{}\\=,;+$!|^~`<>()-_.*é", min_size=3, max_size=24).filter(
    lambda text: any(letter in text for letter in LETTERS)
)
#: Nothing listens at port 1.
SHAPES = (
    "postgresql://app:{}@localhost:1/main",
    "postgres://app:{}@localhost:1",
    "postgresql+psycopg2://app:{}@localhost:1/main?sslmode=disable",
    "postgresql://app:{}@localhost:1,127.0.0.1:1/main",
    "postgresql://app:{}@[::1]:1/main",
    "postgresql://app:{}",
    "POSTGRESQL://app:{}@localhost:1/main",
    "postgresql:/app:{}@localhost:1/main",
    "app:{}@localhost:1/main",
    "host=localhost port=1 user=app password={} dbname=main",
    "host=localhost port=1 user=app dbname=main password='{}",
)


def leaks(password: str, *texts: str) -> list[str]:
    """The pieces of three characters of the password that stand in one of the texts."""
    pieces = {password[at : at + 3] for at in range(len(password) - 2)}
    return [
        piece for piece in pieces if any(letter in piece for letter in LETTERS) and any(piece in text for text in texts)
    ]


def told_of(text: str) -> list[str]:
    """All that is said about this address: by the settings, by who names the server, by who connects to it."""
    said = [address.describe(text), why_unusable(text) or ""]
    for use in (
        lambda: address.configured(Settings(DATABASE_URL=text, DB_HOST="localhost")),
        lambda: address.configured(Settings(DATABASE_URL="postgresql://localhost:1/x", DATABASE_URL_READ=text)),
        lambda: connect(address.without_driver(text)),
        lambda: everindex.connect(text, settings=Settings(EVERINDEX_WAIT=0)).__enter__(),
    ):
        try:
            use()
        except EverindexError as exc:
            said += [str(exc), repr(exc.as_dict()), "".join(traceback.format_exception(exc))]
    return said


@settings(deadline=None)
@given(shape=st.sampled_from(SHAPES), password=PASSWORDS)
def test_no_three_characters_of_a_password_are_told_whatever_stands_in_it(shape: str, password: str) -> None:
    text = shape.format(password)
    assert leaks(password, *told_of(text)) == []


@given(password=PASSWORDS)
def test_an_address_that_sqlalchemy_takes_apart_wrongly_is_not_told_either(password: str) -> None:
    try:
        url = make_url(f"postgresql+psycopg://app:{password}@localhost:1/main")
    except (ArgumentError, ValueError):
        return  # SQLAlchemy's own error, before anything of ours sees it
    said = ""
    try:
        found = conninfo_to_dict(conninfo_of_url(url))
    except SettingInvalid as exc:
        said = "".join(traceback.format_exception(exc))
    assert leaks(password, said) == []
    if not said and "?" not in password:  # behind one, SQLAlchemy drops what is no option
        assert found["password"] == password or "%" in password
        assert (found["host"], str(found["port"]), found["dbname"]) == ("localhost", "1", "main")


@given(password=st.text(alphabet=LETTERS + "?#& '\"[]=,;+:", min_size=1))
def test_what_libpq_reads_as_it_was_meant_is_used(password: str) -> None:
    text = f"postgresql://app:{password.replace(' ', '%20')}@localhost:1/main?connect_timeout=3"
    assert why_unusable(text) is None
    assert conninfo_to_dict(text)["password"] == password


@pytest.mark.parametrize(
    "text",
    [
        "postgresql:///main?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql:5433/main",
        "postgresql://[2001:db8::1]:5432/main",
        "postgresql://[fe80::1%25eth0]/main",
        "postgresql://a.example,b.example:5433/main?target_session_attrs=any",
        "postgresql://app:a%40b%2Fc%3F%23@bücher.example/main",
        "postgresql://",
        "host=/tmp/x dbname='a b' user=app@server",
        "host=@abstract dbname=main",
        "service=main",
        "",
    ],
)
def test_addresses_of_every_legal_form_are_used(text: str) -> None:
    assert why_unusable(text) is None


def test_where_the_parts_are_complete_it_says_which_variable_to_remove() -> None:
    found = Settings(DATABASE_URL="postgresql://app:QX/ZJ@localhost/main", DB_HOST="localhost")
    with pytest.raises(SettingInvalid, match="DATABASE_URL is not") as told:
        address.configured(found)
    assert told.value.next_step.startswith("remove DATABASE_URL: DB_HOST, DB_PORT")
