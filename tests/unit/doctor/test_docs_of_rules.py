"""One rule, one file, one page, one line of the table, and a test that shows it at work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import everindex.doctor.rules
from everindex.doctor.examine import all_rules
from everindex.doctor.rule import Rule
from repository import REPOSITORY

PAGES = REPOSITORY / "docs" / "doctor"
OVERVIEW = REPOSITORY / "docs" / "doctor.md"
FILES = Path(everindex.doctor.rules.__path__[0])
SECTIONS = ["When it is reported", "Why it matters", "What to do", "Source"]


def table() -> str:
    """The table of docs/doctor.md, worst first, as the rules are."""
    lines = ["| rule | severity | healthy when |", "| --- | --- | --- |"]
    for severity in ("critical", "warning", "notice"):
        lines += [
            f"| [{rule.slug}](doctor/{rule.slug}.md) | {severity} | {rule.title} |"
            for rule in all_rules()
            if rule.severity == severity
        ]
    return "\n".join(lines)


def test_every_rule_has_its_page_and_its_file_and_the_other_way_round() -> None:
    slugs = {rule.slug for rule in all_rules()}
    assert {page.stem for page in PAGES.glob("*.md")} == slugs
    assert {file.stem.replace("_", "-") for file in FILES.glob("*.py") if file.stem != "__init__"} == slugs


def test_the_overview_lists_every_rule_with_its_severity_and_title() -> None:
    text = OVERVIEW.read_text(encoding="utf-8")
    assert text.partition("## The rules\n\n")[2] == table() + "\n", f"docs/doctor.md should end with:\n{table()}"


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.slug)
def test_a_page_says_when_why_what_to_do_and_where_that_comes_from(rule: Rule) -> None:
    text = (PAGES / f"{rule.slug}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {rule.slug}\n\nSeverity: {rule.severity}. Healthy when: {rule.title}.\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len(section.strip()) > 10


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.slug)
def test_a_rule_names_its_reason_with_a_source_in_a_sentence(rule: Rule) -> None:
    assert rule.reason.endswith(".")
    assert re.search(r"\(.+\)", rule.reason), "the source stands in parentheses"
    assert len(rule.title) < 70
    assert not rule.title.endswith(".")


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.slug)
def test_a_rule_is_shown_at_work_by_a_test(rule: Rule) -> None:
    tests = (REPOSITORY / "tests" / "postgres" / "doctor").glob("test_*.py")
    assert any(f'"{rule.slug}"' in path.read_text(encoding="utf-8") for path in tests)
