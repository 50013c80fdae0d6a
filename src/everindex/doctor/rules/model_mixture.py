"""Do vectors of several models stand in one table?"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Answer, Fix, Rule, finding, good

#: Models that are told apart, and rows that are counted of each.
MODELS = 10
COUNTED = 1000


def ask(examined: Examined) -> Iterator[Answer]:
    if not examined.row("SELECT to_regclass('everindex_meta.embedding_record') IS NOT NULL")[0]:
        return
    models = examined.rows(
        # From model to model along the index, instead of through every row.
        """
        WITH RECURSIVE found(model, number) AS (
            (SELECT model, 1 FROM everindex_meta.embedding_record ORDER BY model LIMIT 1)
            UNION ALL
            SELECT (SELECT r.model FROM everindex_meta.embedding_record r WHERE r.model > f.model ORDER BY r.model LIMIT 1),
                   f.number + 1
            FROM found f WHERE f.model IS NOT NULL AND f.number < %(models)s
        )
        SELECT f.model, (SELECT count(*) FROM (SELECT FROM everindex_meta.embedding_record r WHERE r.model = f.model
                                               LIMIT %(counted)s) AS counted)
        FROM found f WHERE f.model IS NOT NULL
        """,
        {"models": MODELS, "counted": COUNTED},
    )
    if not models:
        return
    named = ", ".join(f"{model} ({count if count < COUNTED else f'{COUNTED} or more'} rows)" for model, count in models)
    if len(models) == 1:
        yield good(f"all recorded vectors are of one model: {named}")
        return
    yield finding(
        f"vectors of {len(models)} models are recorded: {named}",
        fix=Fix(
            advice="`everindex embed` makes the others anew with the current model; it can be interrupted. Records of deleted "
            "articles count too: DELETE FROM everindex_meta.embedding_record those whose uri has no article."
        ),
    )


RULE = Rule(
    slug="model-mixture",
    severity="critical",
    title="all vectors are of one model",
    reason="each model has a space of its own: distances between vectors of two mean nothing, and searches silently return the "
    "wrong rows (vectorize-io/hindsight#1884, ZJU-REAL/Polaris#208).",
    ask=ask,
)
