"""`everindex status --prometheus`: a database's metrics for a textfile collector, and never an old state in the file."""

from __future__ import annotations

import stat
from pathlib import Path

from command_line import everindex
from scrapes import value

NAME = "articles_embedding_hnsw_idx"


def test_the_file_is_replaced_and_says_when_the_server_is_gone(filled: str, tmp_path: Path) -> None:
    to = tmp_path / "everindex.prom"
    done = everindex("status", "--prometheus", "--output", str(to), DATABASE_URL=filled)
    assert done.status == 0, done.stderr
    text = to.read_text()
    assert value(text, "everindex_index_state", index=NAME, state="valid") == 1
    assert value(text, "everindex_doctor_findings", severity="critical") == 0
    assert (value(text, "everindex_rows", collection="articles") or 0) > 1000
    assert stat.S_IMODE(to.stat().st_mode) == 0o644
    first = to.stat().st_ino

    gone = everindex("status", "--output", str(to), DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert gone.status == 1
    assert "server-unreachable" in gone.stderr
    text = to.read_text()
    assert value(text, "everindex_database_up") == 0
    assert "everindex_index_state" not in text
    assert to.stat().st_ino != first, "replaced, not written over"
    assert list(tmp_path.iterdir()) == [to]


def test_without_a_file_it_prints_and_a_file_that_cannot_be_written_is_an_error(filled: str, tmp_path: Path) -> None:
    done = everindex("status", "--prometheus", DATABASE_URL=filled)
    assert value(done.stdout, "everindex_database_up") == 1
    nowhere = tmp_path / "missing" / "x.prom"
    refused = everindex("status", "--prometheus", "--output", str(nowhere), DATABASE_URL=filled)
    assert refused.status == 2
    assert f"could not be written to {nowhere}" in refused.stderr
