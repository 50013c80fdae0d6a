"""The speed of a deploy against CREATE INDEX at server defaults and against the best statement tuned by hand. JSON."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from corpus import corpus, fill

from everindex.index.deploy.executor import deploy
from everindex.index.deploy.preview import preview_plan
from everindex.index.plan.policy import HEAL
from everindex.index.recall.verify import prove_all
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection, connect
from everindex.pg.embedded import running as embedded

SPEC = IndexSpec(name="items_embedding_idx", table="items", column="embedding")
HALF = IndexSpec(name="items_embedding_half_idx", table="items", column="embedding", opclass="halfvec_cosine_ops")
#: A bit index only gives candidates, which are ranked by the vectors: it can do with half the effort a row.
BIT = IndexSpec(
    name="items_embedding_bit_idx", table="items", column="embedding", opclass="bit_hamming_ops", ef_construction=32
)
BIT_64 = IndexSpec(name="items_embedding_bit64_idx", table="items", column="embedding", opclass="bit_hamming_ops")
QUANTISED = {"bit": BIT, "bit_ef_construction_64": BIT_64, "halfvec": HALF}
#: What PostgreSQL comes with; the embedded server is configured for its machine otherwise.
DEFAULTS = {
    "maintenance_work_mem": "64MB",
    "max_parallel_maintenance_workers": "2",
    "max_parallel_workers": "8",
    "shared_buffers": "128MB",
    "effective_cache_size": "4GB",
}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 2)


def statement(conninfo: str, text: str, **settings: str) -> Callable[[], None]:
    def run() -> None:
        with connect(conninfo) as connection:
            for name, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            connection.execute(text)

    return run


def drop(conninfo: str, name: str) -> None:
    statement(conninfo, f"DROP INDEX {name}")()


def estimated(connection: Connection, spec: IndexSpec) -> float:
    estimate = preview_plan(connection, spec, policy=HEAL).steps[0].estimate
    assert estimate is not None
    return round(estimate.seconds, 1)


def proofs(connection: Connection, spec: IndexSpec) -> list[str]:
    return [proof.sentence for proof in prove_all(connection, spec, samples=150, max_seconds=120)]


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    rows, rounds = (*numbers, *(60_000, 3)[len(numbers) :])
    with_plain = "--without-plain" not in sys.argv
    vectors = corpus(rows)
    home = Path(tempfile.mkdtemp(prefix="everindex-bench-"))
    home.chmod(0o755)
    create = (
        f"INDEX {{}} {SPEC.name} ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
    )
    result: dict[str, object] = {"rows": rows, "dimensions": vectors.shape[1], "rounds": rounds}
    times: dict[str, list[float]] = {"tuned_by_hand": [], "deploy": [], **{name: [] for name in QUANTISED}}
    try:
        with embedded.running(home / "server", settings=DEFAULTS) as conninfo:
            fill(conninfo, vectors)
            with connect(conninfo) as connection:
                result["estimated_seconds"] = {
                    name: estimated(connection, spec) for name, spec in {"deploy": SPEC, **QUANTISED}.items()
                }
            for number in range(rounds):
                tuned = statement(
                    conninfo,
                    "CREATE " + create.format("CONCURRENTLY"),
                    maintenance_work_mem="2GB",
                    max_parallel_maintenance_workers="2",
                    min_parallel_table_scan_size="0",
                )
                ours = {"tuned_by_hand": tuned, "deploy": lambda: deploy(conninfo, SPEC)}
                for name in list(ours) if number % 2 == 0 else reversed(list(ours)):
                    times[name].append(timed(ours[name]))
                    if number == 0 and name == "deploy":
                        with connect(conninfo) as connection:
                            result["proofs"] = proofs(connection, SPEC)
                    drop(conninfo, SPEC.name)
                for name, spec in QUANTISED.items():
                    times[name].append(timed(lambda spec=spec: deploy(conninfo, spec)))  # type: ignore[misc]
                    if number == 0:
                        with connect(conninfo) as connection:
                            result[f"{name}_proofs"] = proofs(connection, spec)
                    drop(conninfo, spec.name)
                print(json.dumps(times), file=sys.stderr, flush=True)
            if with_plain:
                result["plain_at_defaults_seconds"] = timed(statement(conninfo, "CREATE " + create.format("")))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result |= {
        "seconds": times,
        "deploy_over_tuned": round(medians["deploy"] / medians["tuned_by_hand"], 3),
        **{f"{name}_over_deploy": round(medians[name] / medians["deploy"], 3) for name in QUANTISED},
    }
    if with_plain:
        result["plain_over_deploy"] = round(float(str(result["plain_at_defaults_seconds"])) / medians["deploy"], 2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
