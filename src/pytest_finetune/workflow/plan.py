"""Planning a run: what the store lacks, what that costs, and what the rows can certify. Nothing is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean

from pytest_finetune import programs
from pytest_finetune.core import stats
from pytest_finetune.core.claims import LADDER_MARGIN, Claim, Reading, parse
from pytest_finetune.core.evidence import MIN_ROWS, pair_rows
from pytest_finetune.core.gate import signed_difference, stopping_test
from pytest_finetune.core.plan import (
    GUESSES,
    MARGINS,
    Asking,
    Design,
    Plan,
    RowsPlan,
    TaskPlan,
    Training,
    guess,
    outlooks_of,
    share_looked_at,
)
from pytest_finetune.core.pricing import MILLION, price_of, price_of_all
from pytest_finetune.core.records import Evidence, Measure, Policy, Row, Usage
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EvidenceError, LockError
from pytest_finetune.evaluate.stages import Question, StageRun
from pytest_finetune.lock.accepted import SettledClaim
from pytest_finetune.lock.model import Entry, Lock
from pytest_finetune.store import Store
from pytest_finetune.store.browse import Browser, Selection, browsing
from pytest_finetune.task import FINETUNED, HeldOut, Task
from pytest_finetune.training.fit import fit_rows
from pytest_finetune.workflow.estimates import tokens_of_a_row, training_tokens
from pytest_finetune.workflow.facts import model_of
from pytest_finetune.workflow.lockstep import LOOKS
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.run import STORE, Run
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage, accepted_on

Beside = Mapping[str, Sequence[Row]]
"""The rows beside the lock, by stage."""


def plan(run: Run, tasks: Sequence[str] = ()) -> Plan:
    """Say what a gated run takes, and what its rows can certify.

    The stages are those of the run's lock. Where there is no lock, or it does not fit any more, they are planned as
    they would be built.

    Args:
        run: Its settings say the lock, the repeats, the margin, and whether claims may stop early.
        tasks: Their names; empty: all.

    Raises:
        UsageError: If there is no such task, it has no endpoint, or its data or prompts cannot be used.
        LockError: If the lock, or what it holds of recorded rows, is damaged.
        EvidenceError: If the row store is.
    """
    settings = run.settings
    lock = run.locks.pinned
    with _stored(settings) as stored:
        planned = tuple(_Planner(run, run.tasks[name], lock, stored).plan() for name in tasks or run.tasks)
    name = ", ".join(map(run.locks.shown, run.locks.held)) if lock.models else None
    return Plan(planned, name, _margin(settings), settings.alpha, settings.stop_early)


def bar_of(claim: Claim) -> float | None:
    """The score that a claim holds the fine-tuned stage to, if that is what it does."""
    left, right = claim.left, claim.right
    scored = claim.measure is Measure.SCORE and left.factor == 1 and claim.relation == ">="
    return right if scored and left.stage == FINETUNED and not isinstance(right, Reading) else None


def _margin(settings: Settings) -> float:
    """No number of rows certifies a margin of 0 for equal stages, so that of a ladder is planned in its place."""
    return settings.margin or LADDER_MARGIN


@dataclass(frozen=True)
class _Known:
    """A claim that a task was locked with.

    Attributes:
        claim: What must hold.
        suite: On which rows; ``None``: on the test split.
        sliced: It must hold in every slice of them.
        margin: That it was judged with.
    """

    claim: Claim
    suite: str | None
    sliced: bool
    margin: float

    @classmethod
    def of(cls, settled: SettledClaim) -> _Known:
        """Read what the lock says."""
        text, _, suite = settled.claim.partition(" on ")
        text, _, by = text.partition(" by ")
        (claim,) = parse(text)
        return cls(claim, suite or None, bool(by), max(settled.margin, 0.0))

    @property
    def pair(self) -> tuple[str, str] | None:
        """The two stages of which it compares the scores."""
        left, right = self.claim.left, self.claim.right
        if self.claim.measure is not Measure.SCORE or not isinstance(right, Reading) or self.claim.uses_locked:
            return None
        return left.stage, right.stage


@dataclass
class _Planner:
    """Plans one task."""

    run: Run
    task: Task
    lock: Lock
    stored: _Stored
    _pinned: dict[str, PinnedStage] = field(default_factory=dict)

    def plan(self) -> TaskPlan:
        """The plan of the task."""
        task, drift = self.task, self._pin()
        sets = tuple(self._rows(suite) for suite in (None, *task.suites))
        return TaskPlan(
            task=task.id,
            endpoint=self.run.endpoint(task).name,
            locked=bool(self._pinned),
            drift=drift,
            sets=sets,
            training=self._training(next(stage for stage in sets[0].stages if stage.stage == FINETUNED)),
            judges=tuple(dict.fromkeys(judge.model for metric in task.metrics for judge in metric.judges)),
            bars=tuple(bar for known in self._claims if (bar := bar_of(known.claim)) is not None),
        )

    def _pin(self) -> str | None:
        """Load the stages of the lock; say why they do not fit, if so."""
        pinning = Pinning(self.run.settings, self.lock, self.run.locks)
        try:
            self._pinned = {
                name: pinning.stage(self.task, name) for name in self.task.stages if name in self._entries
            }
        except LockError as error:
            return str(error)
        return None

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.stage: entry for entry in self.lock.models if entry.task == self.task.id}

    @cached_property
    def _claims(self) -> list[_Known]:
        """What the task was locked with."""
        gates = (settled for entry in self._entries.values() for settled in entry.gate)
        return [_Known.of(settled) for settled in {settled.claim: settled for settled in gates}.values()]

    # --- one set of rows --------------------------------------------------------------------------------------

    def _rows(self, suite: str | None) -> RowsPlan:
        held, beside = self.task.held_out(suite), self._beside_the_lock(suite)
        claims = [known for known in self._claims if known.suite == suite]
        sizes = Counter(row.group or row.row_id for row in held.rows)
        design = self._design(len(held.rows), sizes)
        shares = self._shares(claims, held.rows, beside)
        judged = {stage for known in claims for stage in known.claim.stages}
        stages = []
        for name in self.task.stages:
            claimed = name in judged or not self._claims
            asking = self._asking(self._stage(name, held, suite), held, beside.get(name, ()), claimed=claimed)
            stages.append(asking.until(shares[name]))
        groups = len(sizes) if design.per_unit > 1 else None
        outlooks = outlooks_of(design, self._compared(claims, held.rows, beside))
        return RowsPlan(suite, len(held.rows), groups, tuple(stages), outlooks)

    def _design(self, rows: int, sizes: Mapping[str, int]) -> Design:
        settings = self.run.settings
        return Design(
            n=rows,
            alpha=settings.alpha,
            margins=tuple(sorted({*MARGINS, _margin(settings)})),
            per_unit=sum(size**2 for size in sizes.values()) / max(rows, 1),
            stop_early=settings.stop_early,
        )

    def _beside_the_lock(self, suite: str | None) -> Beside:
        artifacts = self.run.artifacts(self.task.id)
        refs = {name: accepted_on(entry, suite) for name, entry in self._entries.items()}
        return {name: artifacts.get_rows(found.rows, name) for name, found in refs.items() if found}

    def _compared(
        self, claims: Sequence[_Known], rows: Sequence[DataRow], beside: Beside
    ) -> dict[tuple[str, str], Evidence]:
        """Recorded rows of the stages that claims compare; of neighbours, where there is no such claim.

        The same model with the same program needs no rows to hold.
        """
        named = dict.fromkeys(known.pair for known in claims if known.pair is not None)
        pairs = list(named) or [(b, a) for a, b in pairwise(name for name in self.task.stages if name in beside)]
        served = {name: (entry.identity, entry.artifacts.program) for name, entry in self._entries.items()}
        found = {}
        for left, right in pairs:
            (claim,) = parse(f"{left} >= {right}")
            evidence = _evidence(claim, rows, beside)
            if len(evidence.pairs) >= MIN_ROWS and served[left] != served[right]:
                found[left, right] = evidence
        return found

    # --- stopping early ---------------------------------------------------------------------------------------

    def _shares(self, claims: Sequence[_Known], rows: Sequence[DataRow], beside: Beside) -> dict[str, float]:
        """For each stage, the share of the rows that is asked for: as long as a claim with it is open."""
        settings = self.run.settings
        if not settings.stop_early or not rows or any(row.group for row in rows):
            return dict.fromkeys(self.task.stages, 1.0)
        if not claims:
            test = stats.Sequential(horizon=len(rows), d0=-_margin(settings), alpha=settings.alpha)
            share = share_looked_at(test, guess(GUESSES[1]), len(rows), LOOKS)
            return dict.fromkeys(self.task.stages, share)
        shares = defaultdict[str, float](float)
        for known in claims:
            share = self._share(known, rows, beside)
            for stage in known.claim.stages:
                shares[stage] = max(shares[stage], share)
        return {stage: shares[stage] or 1.0 for stage in self.task.stages}

    def _share(self, known: _Known, rows: Sequence[DataRow], beside: Beside) -> float:
        """The share for one claim, if the rows differ as those that were recorded."""
        claim, policy = known.claim, Policy(margin=known.margin, alpha=self.run.settings.alpha)
        pairs = _evidence(claim, rows, beside).pairs
        test = stopping_test(claim, policy, len(rows))
        if known.sliced or not pairs or test is None:
            return 1.0
        return share_looked_at(test, [signed_difference(claim, pair) for pair in pairs], len(rows), LOOKS)

    # --- one stage --------------------------------------------------------------------------------------------

    def _stage(self, name: str, held: HeldOut, suite: str | None) -> StageRun:
        """The stage as it runs on these rows, or as much of it as is known before it is built."""
        task = self.task
        if name in self._pinned:
            pinned = self._pinned[name].on(held, suite)
            return StageRun(name, pinned.program, pinned.adapter, pinned.key, pinned.entry.model, task.id)
        model = model_of(task, name)
        program = (held.program or task.program)()
        tuned = f"ft:{model}" if name == FINETUNED else model
        return StageRun(name, program, task.make_adapter(), f"{name} of {task.id}, not built", tuned, task.id)

    def _models(self, stage: StageRun) -> list[str]:
        pinned = self._pinned.get(stage.name)
        return [tuned.model for tuned in pinned.entry.models.values()] if pinned else [stage.model]

    def _asking(self, stage: StageRun, held: HeldOut, beside: Sequence[Row], *, claimed: bool) -> Asking:
        """What the stage takes.

        Args:
            stage: What is run.
            held: On which rows.
            beside: Rows of it beside the lock.
            claimed: Whether a claim looks at it: only such stages are asked, and can share answers with others.
        """
        settings = self.run.settings
        wanted = _wanted(stage, held.rows, settings.repeats)
        known = self.stored.answers(wanted, held)
        lacking = wanted.keys() - known.keys() - self.stored.asked
        if claimed:
            self.stored.asked.update(lacking)
        used = {(row.row_id, row.repeat): row.usage for row in (*beside, *known.values())}
        usages = [usage for usage in used.values() if usage is not None]
        sent, received = _mean(usages) if usages else tokens_of_a_row(stage, held.rows)
        calls = self.stored.attempts(stage, known) or [len(programs.predictors(stage.program))]
        prompt, completion = round(len(lacking) * sent), round(len(lacking) * received)
        price = price_of_all(self._models(stage), settings.prices(self.run.endpoint(self.task)))
        cost = None if price is None else price.of(prompt, completion)
        return Asking(
            stage=stage.name,
            model=stage.model,
            answers=len(held.rows) * settings.repeats,
            asked=len(lacking),
            calls=round(len(lacking) * fmean(calls)),
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost=cost if lacking else 0.0,
            recorded=len(usages),
            claimed=claimed,
            sent=sent,
            received=received,
            scores=_scores([*(beside if stage.name in self._pinned else ()), *known.values()]),
        )

    # --- the next job -----------------------------------------------------------------------------------------

    def _training(self, tuned: Asking) -> Training:
        """What a retrain's job takes: what the last one took, else the gold answers for each epoch that is set."""
        entry = self._entries.get(FINETUNED)
        counts = [job.trained_tokens for job in entry.jobs] if entry is not None else []
        measured = sum(count for count in counts if count is not None) if counts and None not in counts else None
        tokens = training_tokens(self.task) if measured is None else measured
        price = price_of(self.task.student, self.run.settings.prices(self.run.endpoint(self.task)))
        rate = None if price is None else price.training
        cost = None if tokens is None or rate is None else tokens * rate / MILLION
        asked = fit_rows(self.task) if self.run.settings.diagnosis else 0
        tuned_price = price_of(tuned.model, self.run.settings.prices(self.run.endpoint(self.task)))
        asking = None if tuned_price is None else asked * tuned_price.of(tuned.sent, tuned.received)
        return Training(tokens, cost, measured is not None, asked, asking)


def _evidence(claim: Claim, rows: Sequence[DataRow], beside: Beside) -> Evidence:
    """The rows beside the lock, as far as they are still in the data."""
    left, right = claim.left, claim.right
    return pair_rows(
        claim,
        beside.get(left.stage, ()),
        beside.get(right.stage, ()) if isinstance(right, Reading) else (),
        row_ids=[row.row_id for row in rows],
        groups={row.row_id: row.group for row in rows if row.group is not None},
    )


def _scores(rows: Sequence[Row]) -> tuple[float, ...]:
    """Those of the rows that have one, each row once."""
    found = {(row.row_id, row.repeat): row.value(Measure.SCORE) for row in rows}
    return tuple(score for score in found.values() if score is not None)


def _mean(usages: Sequence[Usage]) -> tuple[float, float]:
    return fmean(usage.prompt_tokens for usage in usages), fmean(usage.completion_tokens for usage in usages)


def _wanted(stage: StageRun, rows: Sequence[DataRow], repeats: int) -> dict[str, set[str]]:
    """The keys of the answers that a stage has to give, each with the rows that it is scored against."""
    wanted: dict[str, set[str]] = {}
    for row in rows:
        for repeat in range(repeats):
            wanted.setdefault(Question(stage, row, repeat).key, set()).add(row.row_id)
    return wanted


# --- what is stored -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """What need not be asked for: what is in the row store, and what is asked for under another name.

    Attributes:
        store: The rows; ``None``: there are none yet.
        browser: The same, by what they are of.
        asked: Keys of answers that the run asks for once, and that stages and tasks share.
    """

    store: Store | None = None
    browser: Browser | None = None
    asked: set[str] = field(default_factory=set)

    def answers(self, wanted: Mapping[str, Collection[str]], held: HeldOut) -> dict[str, Row]:
        """Those that a run would not ask for again, with the scores that are known."""
        if self.store is None:
            return {}
        metric = held.metric.fingerprint()
        found = self.store.read(wanted, metric)
        scores = self.store.scores(list(found), metric)
        return {key: replace(row, score=scores.get((key, row.row_id))) for key, (row, _) in found.items()}

    def attempts(self, stage: StageRun, known: Collection[str]) -> list[int]:
        """Requests that each of these answers took."""
        if self.browser is None or not known:
            return []
        rows = self.browser.rows(Selection(task=stage.task, stage=stage.name))
        return [row.attempts for row in rows if row.key in known and row.attempts]


@contextmanager
def _stored(settings: Settings) -> Iterator[_Stored]:
    """Look at the store as a run would find it, and do not make one."""
    path = settings.folder / STORE
    if not path.is_file():
        yield _Stored()
        return
    with ExitStack() as opened:
        store = opened.enter_context(Store.create(path, oldest=settings.oldest_row, text=settings.store_text))
        browser = None
        with suppress(EvidenceError):  # nothing is in it: what else can be wrong with it was said above
            browser = opened.enter_context(browsing(path, text=settings.store_text))
        yield _Stored(store, browser)
