"""The change of the embedding model of one instance, from its plan to the end of the old vectors.

`run` is one loop over what is lacking: vectors, the index, its proof, the verdict, the cut. Each step looks at the catalog, so a
run that was killed anywhere is continued by the next one, and a finished one does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from everindex.articles.embedding import Embedder
from everindex.articles.embedding.choose import embedder_at_own_width, embedder_named
from everindex.articles.ingest.generation_vectors import read_coverage
from everindex.articles.model_switch.cutting import KNOWN_AFTER_SECONDS, Cut, cut_over, drop_generation, roll_back
from everindex.articles.model_switch.filling import NO_LIMITS, Filled, Limits, analyze, fill
from everindex.articles.model_switch.planning import SwitchPlan, plan_switch
from everindex.articles.model_switch.state import Progress, begin, list_generations, read_progress
from everindex.articles.model_switch.verdict import Compared, Search, Thresholds, Verdict, ask, judge
from everindex.articles.search.query_vectors import QueryEmbedder
from everindex.articles.search.request.search_request import require_width
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import VerdictAgainst
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import DEPLOY
from everindex.index.recall.proof import Proof
from everindex.index.recall.verify import prove_all
from everindex.index.reporter import Reporter
from everindex.index.tuning.apply import apply_advice
from everindex.index.tuning.recommendation import advise
from everindex.index.tuning.survey_result import Budget
from everindex.pg import own_schema
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, connect
from everindex.pg.locks import advisory_lock
from everindex.pg.vector_type import register_all_types
from everindex.settings import Settings

#: Titles that are asked as queries where nobody gave any.
TITLES = 40
#: How long old vectors are kept.
KEEP_HOURS = 7 * 24.0
#: Searches that began before a cut have ended by then, and every process knows the cut.
LEAST_KEEP_HOURS = 1.0

#: Judged queries as text → (nDCG of the old answers, of the new ones), where somebody has judged.
JudgeAnswers = Callable[[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a run did."""

    model: str
    generation: int
    filled: Filled
    progress: Progress
    verdict: Verdict | None = None
    cut: Cut | None = None
    stopped: str | None = None
    """Why the new model does not serve yet; None where it does."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model, "generation": self.generation, "texts": self.filled.texts, "stored": self.filled.stored,
            "failed": self.filled.failed, "seconds": round(self.filled.seconds, 2),
            "texts_in_all_runs": self.progress.texts, "tokens_in_all_runs": self.progress.tokens,
            "verdict": None if self.verdict is None else self.verdict.as_dict(),
            "cut": None if self.cut is None else self.cut.as_dict(), "stopped": self.stopped,
        }  # fmt: skip


class ModelSwitch:
    """Changes the embedding model of one instance."""

    def __init__(
        self,
        addresses: Addresses,
        settings: Settings,
        *,
        query_embedder: QueryEmbedder,
        search: Search,
        invalidate: Callable[[], None],
    ) -> None:
        self._conninfo = addresses.main
        self._direct_conninfo = addresses.direct
        self._settings = settings
        self._query_embedder = query_embedder
        self._search = search
        self._invalidate = invalidate
        self.known_after_seconds = KNOWN_AFTER_SECONDS
        """How long after its beginning a generation may serve; less only where no other process searches."""

    def generations(self) -> list[dict[str, Any]]:
        """The generations of vectors; empty where the model was never changed. Reads only."""
        with self._connection() as connection:
            return list_generations(connection)

    def plan(
        self,
        name: str,
        *,
        dimensions: int | None = None,
        price: float | None = None,
        texts_per_second: float | None = None,
    ) -> SwitchPlan:
        """What a switch to the model `name` takes, and why it cannot end where it cannot. Embeds a sample; changes nothing.
        `price`: of a million tokens. Raises EmbeddingModelUnusable where there is no such model."""
        with self._connection() as connection:
            table = read_table(connection)
            embedder = self._embedder(name, table, dimensions)
            return plan_switch(connection, table, embedder, price=price, texts_per_second=texts_per_second)

    def run(
        self,
        name: str,
        *,
        dimensions: int | None = None,
        limits: Limits = NO_LIMITS,
        thresholds: Thresholds | None = None,
        queries: Sequence[str] = (),
        judge_answers: JudgeAnswers | None = None,
        confirm: Callable[[Verdict], bool] = lambda verdict: True,
        keep_hours: float = KEEP_HOURS,
        reporter: Reporter | None = None,
        on_rows: Callable[[int], None] = lambda rows: None,
        say: Callable[[str], None] = lambda text: None,
        stop: threading.Event | None = None,
    ) -> Switched:
        """Switches to the model `name`: writes its vectors beside those that serve, builds and proves their index, compares the
        answers, and makes it serve if the verdict is go and `confirm` agrees.

        One run at a time (advisory lock `model`); searches and writes continue. Raises ModelSwitchRefused, EmbeddingFailed,
        VerdictAgainst, LockNotObtained, and what `deploy` raises; whatever was made is kept, and the next run continues.
        """
        thresholds = thresholds or Thresholds(least_recall=self._settings.recall_floor)
        own_schema.ensure(self._direct_conninfo)
        with advisory_lock(self._direct_conninfo, "model", wait_seconds=1.0), self._connection() as connection:
            embedder = self._embedder(name, read_table(connection), dimensions)
            plan = plan_switch(connection, read_table(connection), embedder)
            if plan.refusals:
                raise plan.refusals[0]
            table = begin(self._direct_conninfo, connection, embedder, name=name)
            filled = fill(connection, table, embedder, limits=limits, on_rows=on_rows, say=say, stop=stop)
            done = Switched(
                model=embedder.model, generation=table.number, filled=filled,
                progress=read_progress(connection, table.number), stopped=filled.reason,
            )  # fmt: skip
            if filled.reason is not None:
                return done
            analyze(connection, table)
            self._build(table, thresholds, reporter, say)
            verdict = self._verdict(connection, table, thresholds, queries, judge_answers)
            connection.execute(
                "UPDATE everindex_meta.model_generation SET verdict = %s WHERE number = %s",
                (Jsonb(verdict.as_dict()), table.number),
            )
            if not verdict.is_go:
                raise _against(verdict, name, table.number)
            if not confirm(verdict):
                return replace(done, verdict=verdict, stopped="nobody agreed to the change")
            cut = cut_over(
                connection,
                embedder,
                keep_hours=max(keep_hours, LEAST_KEEP_HOURS),
                known_after_seconds=self.known_after_seconds,
            )
        self._invalidate()
        return replace(done, verdict=verdict, cut=cut, stopped=None)

    def rollback(self) -> Cut:
        """Makes the old vectors serve again, within seconds. Raises ModelSwitchRefused where they are gone."""
        with self._connection() as connection:
            cut = roll_back(connection, self._query_embedder.of_table, keep_hours=KEEP_HOURS)
        self._invalidate()
        return cut

    def drop(self, generation: int) -> str:
        """Drops the vectors of a generation that does not serve; returns what was done. Raises ModelSwitchRefused."""
        with advisory_lock(self._direct_conninfo, "model", wait_seconds=1.0), self._connection() as connection:
            done = drop_generation(connection, generation)
        self._invalidate()
        return done

    # --- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with connect(self._conninfo, application_name="everindex model") as connection:
            register_all_types(connection)
            yield connection

    def _embedder(self, name: str, table: CollectionTable, dimensions: int | None) -> Embedder:
        width = require_width(table)
        if dimensions is not None:
            return embedder_named(name, self._settings, width=dimensions)
        known = next((each for each in table.generations if each.state == "filling" and each.name == name), None)
        if known is not None:
            return embedder_named(name, self._settings, width=known.dimensions)
        return embedder_at_own_width(name, self._settings, width=width)

    def _build(
        self, table: CollectionTable, thresholds: Thresholds, reporter: Reporter | None, say: Callable[[str], None]
    ) -> None:
        """Builds the index of the new vectors online, and chooses the search settings with which it reaches the floor."""
        with self._connection() as connection:
            spec = effective_spec(connection, replace(table.index, recall_floor=thresholds.least_recall))
        deploy(self._direct_conninfo, spec, reporter=reporter, policy=DEPLOY)
        if self._recall_holds(table, thresholds):
            return
        say("the index does not reach the floor at the usual settings: tuning it")
        budget = Budget(sample_rows=0, max_seconds=120.0)
        advice = advise(self._direct_conninfo, spec, floor=thresholds.least_recall, budget=budget, say=say)
        if advice.choice is not None:
            apply_advice(self._direct_conninfo, table.index, advice, budget=budget, reporter=reporter, say=say)

    def _recall_holds(self, table: CollectionTable, thresholds: Thresholds) -> bool:
        return all(proof.holds for proof in self._proofs(table, thresholds))

    def _proofs(self, table: CollectionTable, thresholds: Thresholds) -> tuple[Proof, ...]:
        with self._connection() as connection:
            spec = effective_spec(connection, replace(table.index, recall_floor=thresholds.least_recall))
            return prove_all(connection, spec, samples=50, max_seconds=20.0)

    def _verdict(
        self,
        connection: Connection,
        table: CollectionTable,
        thresholds: Thresholds,
        queries: Sequence[str],
        judge_answers: JudgeAnswers | None,
    ) -> Verdict:
        current = read_table(connection)
        asked, source = list(queries), f"{len(queries)} queries that were given"
        if not asked:
            asked = _titles(connection, table)
            source = f"{len(asked)} titles of articles, asked as queries"
        self._invalidate()
        old, new = (self._ask(asked, each) for each in (current, table))
        return judge(
            old,
            new,
            proofs=(self._proofs(current, thresholds), self._proofs(table, thresholds)),
            coverage=(read_coverage(connection, current), read_coverage(connection, table)),
            ndcg=None if judge_answers is None else judge_answers(old.keys, new.keys),
            thresholds=thresholds,
            source=source,
        )

    def _ask(self, queries: Sequence[str], table: CollectionTable) -> Compared:
        return ask(self._search, queries, generation=table.number)


def _titles(connection: Connection, table: CollectionTable) -> list[str]:
    """Titles of some articles, drawn at random, each once."""
    rows = connection.execute(
        sql.SQL(
            "SELECT DISTINCT t.title FROM (SELECT pg_catalog.left(a.title::text, 200) AS title FROM {} a "
            "WHERE a.title <> '' ORDER BY random() LIMIT {}) AS t"
        ).format(table.identifier, sql.Literal(TITLES))
    ).fetchall()
    return [row[0] for row in rows if row[0].strip()]


def _against(verdict: Verdict, name: str, number: int) -> VerdictAgainst:
    return VerdictAgainst(
        f"the new model does not serve: {verdict.against}.",
        why="a threshold of the verdict is not reached; nothing was changed for searches.",
        next_step=f"run  everindex model switch {name}  again with another threshold, or  everindex model drop {number}  to "
        "remove the new vectors.",
    )
