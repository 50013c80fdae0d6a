"""The time from `everindex up` on a bare machine to the first answer, and to the second start. Prints JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("everindex")), "up", "--port", "0"]


def start(home: Path) -> tuple[subprocess.Popen[str], dict[str, float]]:
    """Starts `up`, asks one question as soon as the address is printed; the process and the seconds to that answer."""
    environment = os.environ | {"EVERINDEX_HOME": str(home), "EVERINDEX_LOG_LEVEL": "WARNING"}
    started = time.monotonic()
    process = subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[3]
    with urllib.request.urlopen(f"{url}/api/search?q=memory%20leak%20in%20the%20parser&k=3", timeout=30) as response:
        answer = json.load(response)
    seconds = time.monotonic() - started
    assert len(answer["hits"]) == 3, answer
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return process, {"seconds_to_first_answer": round(seconds, 2), "resident_mb": round(int(resident[1]) / 1024)}


def stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return told


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    results = []
    for _ in range(runs):
        home = Path(tempfile.mkdtemp(prefix="everindex-bench-"))
        home.chmod(0o755)
        try:
            process, first = start(home)
            told = stop(process)
            imported = re.search(r"in ([0-9.]+) s", told)
            process, second = start(home)
            stop(process)
            results.append(
                {
                    **first,
                    "import_with_embedding_seconds": float(imported[1]) if imported else None,
                    "second_start_seconds": second["seconds_to_first_answer"],
                }
            )
        finally:
            shutil.rmtree(home, ignore_errors=True)
    median = statistics.median(result["seconds_to_first_answer"] for result in results)
    print(json.dumps({"cores": os.cpu_count(), "median_seconds_to_first_answer": median, "runs": results}, indent=2))


if __name__ == "__main__":
    main()
