"""The results of checks as GitHub's workflow commands, as SARIF 2.1.0 and as JUnit's XML.

Sources: GitHub Actions, "Workflow commands" (what is escaped); OASIS SARIF 2.1.0, sections 3.27 (result) and 3.28 (location);
the JUnit schema of Jenkins' xUnit plugin (junit-10.xsd).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import everindex
from everindex.cli.ci_items import CheckedItem, Problem
from everindex.units import count_text

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_GITHUB = {"error": "error", "warning": "warning", "note": "notice"}
#: Characters that XML 1.0 does not have.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def github_lines(command: str, items: Sequence[CheckedItem]) -> Iterator[str]:
    """One workflow command per problem, and a line that counts."""
    count = 0
    for item in items:
        for problem in item.problems:
            count += 1
            place = (
                {}
                if item.file is None
                else {"file": item.file} | ({} if item.line is None else {"line": str(item.line)})
            )
            properties = {**place, "title": f"{problem.rule}: {item.name}"}
            said = ",".join(f"{name}={_github_property(value)}" for name, value in properties.items())
            yield f"::{_GITHUB[problem.level]} {said}::{_github_data(problem.text)}"
    yield f"everindex {command}: {count_text(len(items), 'item')} checked, {count_text(count, 'problem')}"


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(text).replace(":", "%3A").replace(",", "%2C")


def sarif_document(items: Sequence[CheckedItem]) -> dict[str, Any]:
    """A SARIF log of one run."""
    rules = list(dict.fromkeys(problem.rule for item in items for problem in item.problems))
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "everindex",
                        "version": everindex.__version__,
                        "rules": [
                            {"id": rule, "shortDescription": {"text": rule.replace("-", " ").capitalize() + "."}}
                            for rule in rules
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    _sarif_result(item, problem, rules.index(problem.rule))
                    for item in items
                    for problem in item.problems
                ],
            }
        ],
    }


def _sarif_result(item: CheckedItem, problem: Problem, rule: int) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": item.name}]}
    if item.file is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(item.file.replace("\\", "/"), safe="/")},
            **({} if item.line is None else {"region": {"startLine": item.line}}),
        }
    return {
        "ruleId": problem.rule,
        "ruleIndex": rule,
        "level": problem.level,
        "message": {"text": problem.text},
        "locations": [location],
    }


def junit_document(command: str, items: Sequence[CheckedItem]) -> str:
    """One test suite with a test case for each item, in ASCII; what is no character of XML is left out."""
    counts = {
        "tests": str(len(items)),
        "failures": str(sum(item.fails for item in items)),
        "errors": "0",
        "skipped": str(sum(item.is_skipped and not item.fails for item in items)),
    }
    root = ElementTree.Element(
        "testsuites", {"name": "everindex", **{k: v for k, v in counts.items() if k != "skipped"}}
    )
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"everindex {command}", **counts})
    for item in items:
        where = item.file or f"everindex.{command}"
        name = item.name if item.line is None else f"{item.name} (line {item.line})"
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(where), "name": _xml(name)})
        failing = [problem for problem in item.problems if problem.level != "note"]
        if failing:
            failure = ElementTree.SubElement(
                case, "failure", {"type": failing[0].rule, "message": _xml(failing[0].message.splitlines()[0])}
            )
            failure.text = _xml("\n\n".join(f"{problem.rule}: {problem.text}" for problem in failing))
        elif item.is_skipped:
            ElementTree.SubElement(case, "skipped")
        notes = [problem for problem in item.problems if problem.level == "note"]
        if notes:
            ElementTree.SubElement(case, "system-out").text = _xml("\n".join(f"{p.rule}: {p.text}" for p in notes))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii")


def _xml(text: str) -> str:
    return _NOT_XML.sub("", text)
