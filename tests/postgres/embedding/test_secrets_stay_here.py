"""The key of an endpoint, and the password in its address, reach no log record and no reason, whatever is echoed."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings_endpoint import Endpoint, Reply
from everindex.articles.embedding.endpoint import take_apart
from everindex.articles.embedding.redaction import Secrets

KEY = "sk-proj-QXZJ7KVW2mN8pR4tY6uB1"
PASSWORD = "QvX9zJ/Kw@3"
IN_ADDRESS = "QvX9zJ%2FKw%403"
SAYINGS: list[Callable[[], str]] = [
    lambda: f"Incorrect API key provided: {KEY}",
    lambda: f"bad header Authorization: Bearer {KEY}",
    lambda: f"key {KEY[:12]} is unknown, it ends in {KEY[-4:]}",
    lambda: f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}.",
    lambda: "no user " + base64.b64encode(f"app:{PASSWORD}".encode()).decode(),
    lambda: f"https://app:{IN_ADDRESS}@proxy/v1 refuses, {PASSWORD} is wrong",
]


def pieces(secret: str, size: int) -> set[str]:
    return {secret[at : at + size] for at in range(len(secret) - size + 1)}


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("saying", SAYINGS)
def test_no_log_record_and_no_reason_holds_what_an_endpoint_echoes(
    endpoint: Endpoint,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    status: int,
    saying: Callable[[], str],
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.answer = lambda *_: Reply(
        status=status, body={"error": {"message": saying()}}, headers={"X-Echo": saying()}
    )
    address = endpoint.url.replace("http://", f"http://app:{IN_ADDRESS}@") + f"?api-key={KEY}"
    batch = endpoint.embedder(api_key=KEY, base_url=address).embed(["text"])
    assert endpoint.authorizations[0] == "Basic " + base64.b64encode(f"app:{PASSWORD}".encode()).decode()
    records = [(record.name, record.getMessage(), str(vars(record))) for record in caplog.records]
    assert {"httpx", "openai"} <= {name.partition(".")[0].rstrip("2") for name, *_ in records}
    streams = capsys.readouterr()
    assert status < 429 or "stamina" in streams.out + str(records)
    everything = [*batch.failures.values(), str(records), streams.out, streams.err]
    for secret in (KEY.removeprefix("sk-proj-"), PASSWORD, IN_ADDRESS):
        assert not [piece for piece in pieces(secret, 6) if any(piece in text for text in everything)]
    assert not [text for text in everything[:-3] if KEY[-4:] in text]


@given(
    key=st.text(alphabet="abcdefXYZ0123456789-_", min_size=8, max_size=40),
    around=st.text(max_size=20),
    at=st.integers(0, 30),
    size=st.integers(6, 40),
)
def test_no_piece_of_six_characters_of_a_key_stays(key: str, around: str, at: int, size: int) -> None:
    said = Secrets(key).clean(f"{around}{key[at : at + size]}{around}{key}")
    assert not [piece for piece in pieces(key, 6) if piece in said]


@pytest.mark.parametrize(
    "address",
    [
        "http://app:QX/ZJ@localhost/v1",
        "http://app:QX@ZJ@localhost/v1",
        "http://app:QX?ZJ@localhost/v1",
        "http://app:QX#ZJ@localhost/v1",
        "http://app:QXZJ",
        "app:QXZJ@localhost",
    ],
)
def test_an_address_with_an_unescaped_password_is_refused_and_not_shown(endpoint: Endpoint, address: str) -> None:
    assert take_apart(address) is None
    (reason,) = endpoint.embedder(base_url=address).embed(["a"]).failures.values()
    assert "OPENAI_BASE_URL" in reason
    assert not [piece for piece in pieces("QX/ZJ", 2) if piece in reason]


def test_what_is_no_secret_stays_readable() -> None:
    text = "the maximum context length is 8192 tokens; basic authentication is required, api key missing"
    assert Secrets(KEY).clean(text) == text
