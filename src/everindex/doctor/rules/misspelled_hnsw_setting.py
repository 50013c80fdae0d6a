"""Rule: every stored setting with pgvector's prefix has a name that the loaded library knows."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.stored_settings import MadeSetting

PREFIXES = ("hnsw", "ivfflat")
#: Settings of pgvector 0.8; an older one will know them after an upgrade. Source: pgvector README.
KNOWN_LATER = frozenset(
    {
        "hnsw.ef_search",
        "hnsw.iterative_scan",
        "hnsw.max_scan_tuples",
        "hnsw.scan_mem_multiplier",
        "ivfflat.probes",
        "ivfflat.iterative_scan",
        "ivfflat.max_probes",
    }
)


def check(examined: Examined) -> Iterator[RuleResult]:
    names = examined.library_settings
    if not names:
        return
    unknown_names = [made for made in examined.stored_settings if _is_meant_for_pgvector(made.name, names)]
    if not unknown_names:
        yield good("every stored setting of pgvector has a name that it knows")
    for made in unknown_names:
        yield _answer(made, names)


def _is_meant_for_pgvector(name: str, names: frozenset[str]) -> bool:
    prefix, dot, _ = name.lower().partition(".")
    return bool(dot) and name.lower() not in names and bool(get_close_matches(prefix, PREFIXES, n=1, cutoff=0.7))


def _answer(made: MadeSetting, names: frozenset[str]) -> RuleResult:
    if made.name.lower() in KNOWN_LATER:
        return finding(
            f"{made.name} = {made.value} {made.where} has no effect: this pgvector does not know it yet",
            fix=Fix(advice="it will take effect after an upgrade of pgvector."),
        )
    close = get_close_matches(made.name.lower(), names, n=1, cutoff=0.6)
    meant = f"; did you mean {close[0]}?" if close else ""
    return finding(
        f"{made.name} = {made.value} {made.where} has no effect: pgvector has no setting with that name{meant}",
        # It never had an effect, and its value is in the sentence above.
        fix=Fix(statements=made.undo, is_safe=True, advice="then set the intended one, if it is still wanted."),
    )


RULE = Rule(
    slug="misspelled-hnsw-setting",
    severity="warning",
    title="stored settings of pgvector have names that it knows",
    reason="until pgvector's library is loaded, PostgreSQL accepts any name with a dot; on loading, unknown ones are dropped "
    "with a WARNING that is easily missed (measured; PostgreSQL documentation, Customized Options).",
    check=check,
)
