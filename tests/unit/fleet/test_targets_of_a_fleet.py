"""The forms in which the targets of a fleet are given, and that no message about them shows an address."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from everindex.errors import TargetsInvalid
from everindex.fleet.targets import names_databases, read_targets

SECRET = "s3cret-Pa55word"
URL = f"postgresql://app:{SECRET}@db.example:5432"


def test_csv_and_toml_name_the_same_targets() -> None:
    of_csv = read_targets(
        f"# tenants\nname, url, schema, canary\nacme,{URL}/acme,,yes\nglobex,postgresql+psycopg://u@h/g,one,\n",
        where="t.csv",
    )
    of_toml = read_targets(
        f'[[target]]\nname = "acme"\nurl = "{URL}/acme"\ncanary = true\n'
        '[[target]]\nname = "globex"\nurl = "postgresql://u@h/g"\nschema = "one"\n',
        where="t.toml",
    )
    assert of_csv == of_toml
    assert [(one.name, one.schema, one.is_canary) for one in of_csv] == [("acme", None, True), ("globex", "one", False)]
    assert of_csv[0].where == "database acme at db.example:5432 as app"
    assert SECRET not in repr(of_csv)


def test_a_database_is_one_of_the_configured_server() -> None:
    text = "name,database\nacme,tenant_acme\n"
    assert names_databases(text, where="t.csv")
    (found,) = read_targets(text, where="t.csv", base=f"{URL}/directory")
    assert conninfo_to_dict(found.conninfo) | {"port": 5432} == {
        "host": "db.example", "port": 5432, "user": "app", "password": SECRET, "dbname": "tenant_acme",
    }  # fmt: skip
    (without,) = read_targets(text, where="t.csv")
    assert without.problem is not None


def test_an_address_can_be_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_URL", f"{URL}/acme")
    found = read_targets("name,url\nacme,$ACME_URL\nother,${NOT_SET}\n", where="t.csv")
    assert found[0].where.startswith("database acme")
    assert found[1].problem is not None
    assert "NOT_SET" in found[1].problem.why


def test_one_unusable_address_leaves_the_others_as_they_are() -> None:
    found = read_targets(f"name,url\nbad,postgresql://u:{SECRET}/x@h/db\ngood,{URL}/good\n", where="t.csv")
    assert [one.problem is None for one in found] == [False, True]
    assert SECRET not in str(found[0].problem) + found[0].where


def test_a_schema_is_found_first_and_the_options_of_the_address_stay() -> None:
    (found,) = read_targets(
        'name,url,schema\na,postgresql://u@h/d?options=-c%20work_mem%3D8MB,"te""nant \\1"\n'.replace(
            '"te""nant \\1"', "te nant"
        ),
        where="t.csv",
    )
    assert conninfo_to_dict(found.in_schema("extensions"))["options"] == (
        '-c work_mem=8MB -c search_path="te\\ nant","extensions","public"'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "name,url\n",
        f"acme,{URL}/acme\n",
        f"name,url\nacme,{URL}/a,b\n",
        f"name,url,{SECRET}\nacme,{URL}/a,b\n",
        f"name,url\nacme,{URL}/a\nacme,{URL}/b\n",
        f"name,url\n{URL}/a,acme\n",
        f"name,url,canary\nacme,{URL}/a,{SECRET}\n",
        f"name,url,database\nacme,{URL}/a,b\n",
        "name,url\nacme,\n",
        f'name,url\nacme,"{URL}/a\n',
        f'[[target]]\nname = "a"\nurl = {URL}\n',
        f'target = "{SECRET}"\n',
    ],
)
def test_what_cannot_be_read_is_refused_without_any_value(text: str) -> None:
    with pytest.raises(TargetsInvalid) as caught:
        read_targets(text, where="t.csv")
    assert SECRET not in str(caught.value)
    assert "db.example" not in str(caught.value)
