"""The text of `everindex tune`: the recommendation with its figures before and after, and the outcome of applying it."""

from __future__ import annotations

from everindex.cli.measure import print_points
from everindex.cli.output import say
from everindex.index.tuning.apply import Applied
from everindex.index.tuning.recommendation import Advice, Cost
from everindex.units import count_text, size_text


def print_advice(advice: Advice) -> None:
    """Prints the recommendation for one index, with its costs before and after."""
    found = advice.survey
    say(
        f"index {found.spec.qualified_name}: {count_text(found.rows, 'row')}, {found.queries}, recall@{found.k} at "
        f"least "
        f"{advice.floor:g} with confidence"
    )
    for sentence in advice.rejected:
        say(f"  not chosen: {sentence}")
    for left in found.left_out:
        say(f"  note: {left.sentence}")
    if advice.choice is None or advice.after is None:
        say("no configuration reaches this recall; the closest are listed above. Try a larger m or a lower floor.")
        return
    if not advice.is_whole:
        say(
            f"  note: measured on a sample of {count_text(advice.choice.curve.rows, 'row')}; --apply measures all "
            "rows, and rolls "
            "back if the recall is below the floor"
        )
    say(f"recommended: {advice.after.shape.words}")
    rows = [("", "before", "after"), *_compared(advice.before, advice.after)]
    for name, before, after in rows:
        say(f"  {name:<22} {before:>26}  {after:>26}")
    say(f"  build time from {advice.after.build_seconds_from}")
    if not advice.changes_index:
        say("the current index is already the cheapest; --apply makes searches use the tuned ef_search")
    print_points(advice.choice.curve, k=found.k, chosen=advice.choice.point.ef_search)


#: The figures compared between two configurations.
_FIGURES = (
    "index type", "index size", "build memory", "build time", "recall", "ef_search", "re-ranked",
    "median latency", "p95 latency",
)  # fmt: skip


def _compared(before: Cost | None, after: Cost) -> list[tuple[str, str, str]]:
    return list(zip(_FIGURES, _figures(before), _figures(after), strict=True))


def _figures(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["no index", *["–"] * (len(_FIGURES) - 1)]
    built = [
        cost.shape.key_type,
        f"{size_text(cost.index_bytes)}",
        f"{size_text(cost.build_memory_bytes)}",
        f"{cost.build_seconds:.0f} s",
    ]
    point = cost.point
    if point is None:
        return [*built, "not measured", *["–"] * (len(_FIGURES) - len(built) - 1)]
    return [
        *built,
        f"{point.recall:.3f} ({point.low:.3f} to {point.high:.3f})",
        str(point.ef_search),
        "–" if point.candidates is None else str(point.candidates),
        f"{point.median_ms:.1f} ms",
        f"{point.p95_ms:.1f} ms",
    ]


def print_applied(applied: Applied, k: int) -> None:
    say(f"applied: index {applied.curve.index} {applied.deployed.outcome.replace('-', ' ')}")
    for sentence in applied.deployed.did:
        say(f"  done: {sentence}")
    for warning in applied.deployed.warnings:
        say(f"  warning: {warning}")
    point = applied.point
    say(
        f"  over all rows recall@{k} is {point.recall:.3f} ({point.low:.3f} to {point.high:.3f}) at ef_search "
        f"{point.ef_search}, {point.median_ms:.1f} ms, with {size_text(applied.curve.size_bytes)}"
    )
    for each in applied.tuned.points:
        again = "" if each.candidates is None else f", {count_text(each.candidates, 'candidate')} re-ranked"
        say(f"  searches for {each.k}: ef_search {each.ef_search}{again}")
    if applied.deployed.outcome == "replaced":
        say(
            "  the previous generation is kept: everindex rollback  returns to it, rollback --forget  frees its disk "
            "space"
        )
