"""A page of docs/ as one script: its blocks run in order in one shell, and what each of them printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shipping import Shell

MARK = "@@ block of line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the words after it, its text, and the line where it begins."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found[1],
            words=tuple(found[2].split()),
            text=found[3],
            line=text.count("\n", 0, found.start()) + 1,
        )
        for found in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def script(page: Path) -> str:
    """The blocks as one bash script: statements go to psql, `file=` blocks are written, and a mark before each block tells
    its output apart."""
    parts = ["set -euo pipefail", "exec </dev/null"]
    for block in blocks(page):
        if "no-run" in block.words or block.language == "text":
            continue
        parts.append(f"echo '{MARK} {block.line}'")
        file = next((word.removeprefix("file=") for word in block.words if word.startswith("file=")), None)
        if file is not None:
            parts.append(f"cat > application/{file} <<'FILE'\n{block.text}FILE")
        elif block.language == "sql":
            parts.append(f"psql -v ON_ERROR_STOP=1 -P pager=off <<'SQL'\n{block.text}SQL")
        else:
            parts.append(block.text)
    return "\n".join(parts)


def printed(shell: Shell, text: str, *, cwd: Path) -> dict[int, str]:
    """{line of the block: what it printed}, after all have ended with status 0."""
    done = shell.run("bash", "-c", text, cwd=cwd)
    last = done.stdout.rpartition(MARK)[2]
    assert done.returncode == 0, f"the block of line {last}\n{done.stderr[-3000:]}"
    said: dict[int, str] = {}
    for part in done.stdout.split(MARK)[1:]:
        line, _, rest = part.partition("\n")
        said[int(line)] = rest
    return said


def compare(page: Path, output: dict[int, str]) -> int:
    """Fails where a block did not print what the page says below it; how many lines were compared."""
    run = None
    compared = 0
    for block in blocks(page):
        if block.words == ("expected",):
            assert run is not None
            for line in block.text.splitlines():
                assert is_shown(line, output[run]), f"line {block.line}: {line!r} is not in {output[run]!r}"
                compared += 1
        elif "no-run" not in block.words:
            run = block.line
    return compared


def plain(line: str) -> str:
    return " ".join(line.split())


def is_shown(expected: str, output: str) -> bool:
    """True when a line of the output contains the expected one; `...` stands for anything, runs of blanks for one."""
    pattern = ".*".join(re.escape(part.strip()) for part in plain(expected).split("..."))
    return any(re.search(pattern, plain(line)) for line in output.splitlines())
