"""Results of checks in the formats of CI systems, whatever characters are in them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from everindex.cli.ci_formats import github_lines, junit_document, sarif_document
from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.ci_report import chosen_format
from everindex.errors import UsageError
from repository import REPOSITORY

SCHEMA = json.loads((REPOSITORY / "tests" / "support" / "vendor" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
NASTY = "100 %, a:b\r\n::error::<&\"'>\x00\x1b[31m\ud800 ü 🐘 ]]>"
ITEMS = [
    CheckedItem(name="good"),
    CheckedItem(name="skipped", is_skipped=True, problems=(Problem(rule="later", level="note", message="not tried"),)),
    CheckedItem(
        name=NASTY,
        file="a b/ü:1,2%.sql",
        line=7,
        problems=(
            Problem(rule="one", level="error", message=NASTY, next_step="run  everindex verify  again."),
            Problem(rule="two", level="warning", message="m"),
        ),
    ),
    CheckedItem(name="noted", file="x.sql", problems=(Problem(rule="one", level="note", message=NASTY),)),
]


@pytest.mark.parametrize("items", [[], ITEMS[:1], ITEMS])
def test_sarif_is_valid_by_its_schema(items: list[CheckedItem]) -> None:
    document = json.loads(json.dumps(sarif_document(items)))
    jsonschema.Draft4Validator(SCHEMA).validate(document)
    results = document["runs"][0]["results"]
    rules = document["runs"][0]["tool"]["driver"]["rules"]
    assert len(results) == sum(len(item.problems) for item in items)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in results)


def test_the_schema_refuses_what_is_not_sarif() -> None:
    document = sarif_document(ITEMS)
    document["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(SCHEMA).validate(document)


def test_sarif_names_the_place_as_an_address() -> None:
    result = sarif_document(ITEMS)["runs"][0]["results"][1]
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a%20b/%C3%BC%3A1%2C2%25.sql"}, "region": {"startLine": 7}}
    assert "`everindex verify`" in result["message"]["text"]


def test_a_workflow_command_is_one_line_and_nothing_in_it_ends_a_property() -> None:
    lines = list(github_lines("check", ITEMS))
    assert len(lines) == 5
    assert lines[-1] == "everindex check: 4 items checked, 4 problems"
    assert not any("\n" in line or "\r" in line for line in lines)
    first = lines[1]
    assert first.startswith(
        "::error file=a b/ü%3A1%2C2%25.sql,line=7,title=one%3A 100 %25%2C a%3Ab%0D%0A%3A%3Aerror%3A%3A"
    )
    properties, _, data = first.removeprefix("::error ").partition("::")
    assert [each.partition("=")[0] for each in properties.split(",")] == ["file", "line", "title"]
    # As the runner decodes it (actions/toolkit, command.ts).
    decoded = data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    assert decoded.startswith(NASTY)
    assert [line.split()[0] for line in lines[:4]] == ["::notice", "::error", "::warning", "::notice"]


def test_junit_counts_its_cases_and_keeps_every_character_that_xml_has() -> None:
    text = junit_document("check", ITEMS)
    assert text.isascii()
    root = ElementTree.fromstring(text)
    suite = root[0]
    assert (root.tag, suite.tag, [case.tag for case in suite]) == ("testsuites", "testsuite", ["testcase"] * 4)
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    assert [[child.tag for child in case] for case in suite] == [
        [],
        ["skipped", "system-out"],
        ["failure"],
        ["system-out"],
    ]
    failure = suite[2][0]
    assert failure.text is not None
    assert "100 %, a:b" in failure.text
    assert "ü 🐘 ]]>" in failure.text
    assert "\x1b" not in failure.text


def test_two_formats_at_once_are_refused(tmp_path: Path) -> None:
    assert chosen_format("text", True) == "json"
    assert chosen_format("junit", False) == "junit"
    with pytest.raises(UsageError, match="were both given"):
        chosen_format("junit", True)
