"""The report of a fleet operation as a file: JSON, HTML or JUnit XML, by its suffix; written at once or not at all."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from everindex.errors import UsageError
from everindex.fleet.results import FleetReport, TargetResult

if TYPE_CHECKING:
    from jinja2 import Template

SUFFIXES = (".json", ".html", ".xml")


def require_suffix(path: Path) -> None:
    """Raises UsageError for a name that says no form of report, or lies in no folder; before any work is done."""
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"the report {path} has no known form.",
            why="the suffix of its name says the form: .json, .html, or .xml for JUnit.",
            next_step="give it one of these; no database was touched.",
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"the report {path} cannot be written.",
            why=f"there is no folder {path.absolute().parent}.",
            next_step="make it, or write elsewhere; no database was touched.",
        )


def write_report(report: FleetReport, path: Path) -> None:
    """Writes the file. Raises UsageError where it cannot be written."""
    text = {".json": as_json, ".html": as_html, ".xml": as_junit}[path.suffix](report)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as exc:
        unfinished.unlink(missing_ok=True)
        raise UsageError(
            f"the report {path} cannot be written.",
            why=f"{exc.strerror}.",
            next_step="the operation itself is over;  everindex fleet status --report  writes a new report.",
        ) from None


def as_json(report: FleetReport) -> str:
    return json.dumps(report.as_dict(), ensure_ascii=False, indent=2, default=str) + "\n"


def as_html(report: FleetReport) -> str:
    """One page that needs no script and loads nothing."""
    return _template().render(report=report)


def as_junit(report: FleetReport) -> str:
    """One test case for each target: a failed one is an error, a finding a failure, the rest of what was not done is skipped."""
    counts = report.counts
    suite = ElementTree.Element(
        "testsuite",
        name=f"everindex fleet {report.verb}",
        tests=str(len(report.results)),
        failures=str(counts.get("finding", 0)),
        errors=str(counts.get("failed", 0)),
        skipped=str(sum(counts.get(outcome, 0) for outcome in ("skipped", "stopped", "not-begun"))),
        time=f"{report.seconds:.3f}",
        timestamp=report.began.isoformat(timespec="seconds"),
    )
    for result in report.results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"fleet.{report.verb}",
            name=_xml_text(result.name),
            time=f"{result.seconds:.3f}",
        )
        _outcome(case, result)
    if report.closed is not None or report.remarks:
        said = [*([report.closed] if report.closed is not None else []), *report.remarks]
        ElementTree.SubElement(suite, "system-out").text = _xml_text("\n".join(said))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _outcome(case: ElementTree.Element, result: TargetResult) -> None:
    told = _xml_text(result.sentence)
    kind = {
        "failed": "error",
        "finding": "failure",
        "skipped": "skipped",
        "stopped": "skipped",
        "not-begun": "skipped",
    }.get(result.outcome)
    if kind is None:
        ElementTree.SubElement(case, "system-out").text = told
        return
    attributes = {"message": told} | ({} if kind == "skipped" else {"type": result.slug or result.kind})
    ElementTree.SubElement(case, kind, attributes).text = _xml_text(
        "\n".join(filter(None, [result.where, result.next_step]))
    )


def _xml_text(text: str) -> str:
    """The text without the control characters that XML 1.0 does not have."""
    return "".join(one if one in "\n\t" or (one >= " " and one not in "\ufffe\uffff") else "\ufffd" for one in text)


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("everindex.fleet", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2")
