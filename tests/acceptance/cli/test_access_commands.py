"""`everindex token` and `everindex user`, as an operator runs them."""

from __future__ import annotations

import psycopg
import pytest

from command_line import everindex, url_of

PASSWORD = "correct horse battery"


def test_a_token_is_made_once_listed_and_revoked(migrated: str) -> None:
    url = url_of(migrated)
    assert "there are no tokens" in everindex("token", DATABASE_URL=url).stdout
    made = everindex("token", "create", "ci", "--scope", "write", "--days", "30", DATABASE_URL=url)
    assert (made.status, len(made.stdout), made.stdout[:10]) == (0, 54, "everindex_")
    assert "scope write, expires on" in made.stderr
    assert made.stdout.strip() not in made.stderr
    forever = everindex("token", "create", "cron", "--days", "0", "--json", DATABASE_URL=url).json
    assert (forever["scope"], forever["expires_at"], forever["state"]) == ("read", None, "valid")

    again = everindex("token", "create", "ci", DATABASE_URL=url)
    assert (again.status, "credentials-taken" in again.stderr) == (2, True)
    assert everindex("token", "revoke", "ci", DATABASE_URL=url).status == 0
    missing = everindex("token", "revoke", "ci", DATABASE_URL=url)
    assert (missing.status, "credentials-not-found" in missing.stderr) == (1, True)
    assert everindex("token", "create", "ci", DATABASE_URL=url).status == 0, "the name is free again"
    listed = everindex("token", "list", "--json", DATABASE_URL=url).json["tokens"]
    assert [(each["name"], each["state"]) for each in listed] == [("ci", "valid"), ("ci", "revoked"), ("cron", "valid")]
    with psycopg.connect(migrated) as sql:
        stored = str(sql.execute("SELECT t::text FROM everindex_meta.access_token t").fetchall())
    assert made.stdout.strip() not in stored


def test_a_user_gets_a_password_that_no_output_shows(migrated: str) -> None:
    url = url_of(migrated)
    made = everindex("user", "create", "anna", "--scope", "operate", DATABASE_URL=url, stdin=f"{PASSWORD}\n")
    assert (made.status, made.stdout.startswith("anna: operate, ")) == (0, True)
    for words, stdin, status, slug in (
        (["create", "anna"], PASSWORD, 2, "credentials-taken"),
        (["create", "bert"], "short", 2, "bad-input"),
        (["create", "bert"], "", 2, "bad-input"),
        (["create", "bert"], " leading space", 2, "bad-input"),
        (["create", "a/b"], PASSWORD, 2, "bad-input"),
        (["password", "carl"], PASSWORD, 1, "credentials-not-found"),
        (["remove", "carl"], None, 1, "credentials-not-found"),
    ):
        refused = everindex("user", *words, DATABASE_URL=url, stdin=stdin)
        assert (refused.status, slug in refused.stderr) == (status, True), words
        assert not stdin or stdin not in refused.stdout + refused.stderr
    assert everindex("user", "password", "anna", DATABASE_URL=url, stdin=f"{PASSWORD}!\n").status == 0
    with psycopg.connect(migrated) as sql:
        (stored,) = sql.execute("SELECT password_hash FROM everindex_meta.access_user").fetchall()
    assert stored[0].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert [each["name"] for each in everindex("user", "--json", DATABASE_URL=url).json["users"]] == ["anna"]
    assert everindex("user", "remove", "anna", DATABASE_URL=url).status == 0


@pytest.mark.parametrize("command", ["token", "user"])
@pytest.mark.parametrize("words", [["create"], ["make", "x"], ["list", "x"], ["create", "a", "b"]])
def test_words_that_are_no_command_are_a_usage_error(command: str, words: list[str]) -> None:
    refused = everindex(command, *words)
    assert (refused.status, "next:" in refused.stderr) == (2, True)
