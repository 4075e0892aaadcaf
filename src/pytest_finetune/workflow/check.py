"""Whether a task is worth fine-tuning: what the data, the lock and the row store tell. Only a sample asks a model."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_finetune import programs
from pytest_finetune.calls.traffic import Stopped
from pytest_finetune.core.checklist import Checklist
from pytest_finetune.core.checklist import check as held_against
from pytest_finetune.core.claims import LADDER_MARGIN
from pytest_finetune.core.leaks import Texts, find_leaks
from pytest_finetune.core.plan import Asking, TaskPlan
from pytest_finetune.core.pricing import AS_OF, price_of
from pytest_finetune.core.prospects import Costs, Facts, Probe, Scored, Seen, Traces
from pytest_finetune.core.stats import score_interval
from pytest_finetune.dataset import DataRow
from pytest_finetune.endpoints import SANDBOX, Endpoint, scrub
from pytest_finetune.errors import DatasetError, EvidenceError, LockError, NotEvaluated, UsageError
from pytest_finetune.metrics import Metric
from pytest_finetune.task import BASELINE, FINETUNED, PROMPT_OPTIMIZED, TEACHER, Task
from pytest_finetune.training.runs import judge, run_program
from pytest_finetune.workflow.facts import check_data, model_of
from pytest_finetune.workflow.judging import Judging
from pytest_finetune.workflow.lines import TRAINING
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.plan import bar_of, plan
from pytest_finetune.workflow.run import Run

if TYPE_CHECKING:
    import dspy

Report = Callable[[str], None]

_PROBED = 50  # training rows that the metric is tried on; they are in salted hash order, so any are like the others
_WORD = re.compile(r"\w+")
_SOURCES = {"bootstrap": PROMPT_OPTIMIZED, "better_together": PROMPT_OPTIMIZED, "distill": TEACHER}
"""Whose answers a recipe trains on."""


def check(run: Run, tasks: Sequence[str] = (), *, sample: int = 0, report: Report) -> tuple[Checklist, ...]:
    """Hold tasks against the checklist.

    Args:
        run: Its settings say the thresholds, the margin, the lock and the cap.
        tasks: Their names; empty: all.
        sample: Ask the model whose answers are trained on about so many training rows; 0: ask nothing.
        report: Is given sentences on what is asked.

    Raises:
        UsageError: If there is no such task, it has no endpoint, or its data cannot be used.
        NotEvaluated: If the sample would pass the cap.
        TrainingError: If the endpoint failed while it was asked.
    """
    names = tasks or tuple(run.tasks)
    gathered = [_Gathering(run, run.tasks[name], sample, report).facts() for name in names]
    return tuple(held_against(facts, run.settings.limits) for facts in gathered)


@dataclass
class _Gathering:
    """Gathers the facts of one task."""

    run: Run
    task: Task
    sample: int
    report: Report

    def facts(self) -> Facts:
        """All that is known."""
        settings, test = self.run.settings, self.task.dataset.rows("test")
        margin = settings.margin or LADDER_MARGIN
        deciding = None if self._plan is None else self._plan.sets[0].deciding
        return Facts(
            task=self.task.id,
            train=len(self.task.dataset.rows("train")),
            test=len(test),
            margin=margin,
            certifiable=deciding.certifiable if deciding else None,
            needed=deciding.needed[margin] if deciding else None,
            seen=_seen(self.task),
            max_near=settings.max_near_leaks,
            probe=probe(self.task),
            recorded=_spread([stage.scores for stage in self._stages.values()]),
            labels=self.task.recipe == "labels",
            traces=self._sampled() if self.sample else self._recorded_traces(),
            prompts=self._scored(PROMPT_OPTIMIZED),
            teacher=self._scored(TEACHER),
            goal=self._goal(),
            outside=outside(self.task),
            costs=self._costs(),
            receivers=tuple(dict.fromkeys(scrub(each.base_url) for each in self._endpoints() if not _is_local(each))),
            trouble=self._trouble,
            unfit=_unfit(self.task),
        )

    @cached_property
    def _planned(self) -> tuple[TaskPlan | None, str]:
        """The plan of the task, or why there is none: a damaged lock must not hide what the data tell."""
        try:
            return plan(self.run, [self.task.id]).tasks[0], ""
        except (LockError, EvidenceError) as error:
            return None, str(error)

    @property
    def _plan(self) -> TaskPlan | None:
        return self._planned[0]

    @property
    def _trouble(self) -> str:
        plan, trouble = self._planned
        return (plan.drift or "") if plan else trouble

    @cached_property
    def _stages(self) -> Mapping[str, Asking]:
        """The stages on the test split."""
        return {} if self._plan is None else {stage.stage: stage for stage in self._plan.sets[0].stages}

    def _scored(self, stage: str) -> Scored | None:
        scores = self._stages[stage].scores if stage in self._stages else ()
        if not scores:
            return None
        low, _ = score_interval(scores, confidence=1 - 2 * self.run.settings.alpha)
        return Scored(fmean(scores), len(scores), low)

    def _goal(self) -> float | None:
        """As it is set; else the highest score that claims ask of the fine-tuned stage."""
        given = self.run.settings.limits.goal
        if given is not None:
            return given
        announced = [bar_of(scoped.claim) for scoped, _ in self.run.expected if scoped.task == self.task.id]
        bars = [bar for bar in announced if bar is not None] or (self._plan.bars if self._plan else ())
        return max(bars, default=None)

    def _endpoints(self) -> list[Endpoint]:
        """Those that rows would be sent to."""
        judges = [judge for metric in self.task.metrics for judge in metric.judges]
        named = [self.task.endpoint, *(judge.endpoint or self.task.endpoint for judge in judges)]
        return [self.run.settings.endpoint_named(name, self.task.id) for name in named]

    # --- traces -----------------------------------------------------------------------------------------------

    @property
    def _source(self) -> str | None:
        """The stage whose answers are trained on; ``None``: a recipe of the user's own, so that it is not known."""
        source = _SOURCES.get(self.task.recipe) if isinstance(self.task.recipe, str) else None
        chosen = self.task.recipe_options.get("source")
        return BASELINE if source == PROMPT_OPTIMIZED and chosen == BASELINE else source

    def _recorded_traces(self) -> Traces | None:
        """How many recorded answers would be trained on, had they been given to training rows."""
        metric, source = self.task.scorer, self._source
        if source is None or source not in self._stages or metric.bootstrap is not None:
            return None
        scores = self._stages[source].scores
        return Traces(sum(_passes(metric, score) for score in scores), len(scores), f"recorded answers of {source}")

    def _sampled(self) -> Traces | None:
        """Ask about a few training rows; what is answered is kept, and not asked again by a build."""
        source, task = self._source, self.task
        if source is None:
            return None
        model = model_of(task, source)
        examples = task.dataset.train[: self.sample]
        each = self._price_of_a_call(source)
        price = "at a price that is unknown" if each is None else f"for about ${each * len(examples):,.4f}"
        self.report(f"{task.id}: asking {model} about {len(examples):,} training rows, {price}.")
        self.run.check_prices(task, [model])
        lm = self.run.lines.line(self.run.endpoint(task), TRAINING).lm(model, **task.decoding())
        program = programs.attach(self._program(source), lm)
        adapter, concurrency = task.make_adapter(), self.run.settings.concurrency
        try:
            runs = run_program(program, examples, adapter=adapter, concurrency=concurrency)
            kept = sum(judge(each, task.scorer).accepted for each in runs)
        except Stopped:  # of the cap in whichever thread: nothing else stops a sample
            raise NotEvaluated(
                f"the sample might pass the cap of ${self.run.settings.max_cost:g}: raise --max-cost, or ask about"
                " fewer rows. What was answered is kept"
            ) from None
        return Traces(kept, len(runs), f"sampled answers of {source}")

    def _program(self, stage: str) -> dspy.Module:
        """The stage's program as the lock pins it, else the plain one."""
        settings, locks = self.run.settings, self.run.locks
        if any(path.exists() for path in locks.paths):
            try:
                return Pinning(settings, locks.pinned, locks).stage(self.task, stage).program
            except LockError as error:
                self.report(f"{self.task.id}: the plain program is asked, since {error}")
        return self.task.program()

    @property
    def _judging(self) -> Judging:
        return Judging(self.run, self.task)

    # --- costs ------------------------------------------------------------------------------------------------

    def _costs(self) -> Costs:
        job = self._plan.training.cost if self._plan else None
        prompts = self._stages.get(PROMPT_OPTIMIZED)
        return Costs(
            traces=self._cost_of_traces(),
            job=None if job is None else job * max(len(self.task.seeds), 1),
            evaluation=self._cost_of_evaluation(),
            as_of=AS_OF,
            cap=self.run.settings.max_cost,
            finetuned=self._price_of_a_call(FINETUNED),
            prompts=self._price_of_a_call(PROMPT_OPTIMIZED) if prompts and prompts.recorded else None,
            teacher=self._price_of_a_call(TEACHER),
            missing="; ".join(self._missing()),
        )

    def _missing(self) -> Iterator[str]:
        """What to set so that all costs are known."""
        if self._plan is None:
            return
        unpriced = [stage.model for stage in self._plan.stages if self._price_of(stage, stage) is None]
        training = self._plan.training
        if training.tokens is None:
            yield "set n_epochs in the task's hyperparameters"
        elif training.cost is None:
            unpriced.append(f"{self.task.student} (training)")
        yield from self._judging.missing()
        if unpriced:
            yield f"set the prices of {', '.join(dict.fromkeys(unpriced))} in [tool.pytest-finetune.prices]"

    def _cost_of_traces(self) -> float | None:
        if self.task.recipe == "labels":
            return 0.0
        if self._source is None or self.task.recipe == "better_together":  # whose prompt steps ask on top
            return None
        each, judged = self._price_of_a_call(self._source), self._judging.of_an_answer()
        return None if each is None or judged is None else (each + judged) * len(self.task.dataset.rows("train"))

    def _cost_of_evaluation(self) -> float | None:
        """Every stage on every row, and their judges, as if nothing were stored: a build makes them anew."""
        if self._plan is None:
            return None
        costs: list[float | None] = []
        for rows in self._plan.sets:
            judged = self._judging.of_an_answer(rows.suite)
            for stage in rows.stages:
                asked = self._price_of(stage, stage)
                costs.append(None if asked is None or judged is None else (asked + judged) * stage.answers)
        known = [cost for cost in costs if cost is not None]
        return math.fsum(known) if len(known) == len(costs) else None

    def _price_of_a_call(self, stage: str) -> float | None:
        """US dollars for a row; of a model that is yet to be tuned, with the tokens of the plain program."""
        asking = self._stages.get(stage)
        if asking is None:
            return None
        untuned = stage == FINETUNED and not asking.recorded
        return self._price_of(asking, self._stages[BASELINE] if untuned else asking)

    def _price_of(self, stage: Asking, tokens: Asking) -> float | None:
        price = price_of(stage.model, self.run.settings.prices(self.run.endpoint(self.task)))
        return None if price is None else price.of(tokens.sent, tokens.received)


def _spread(stages: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The lowest and the highest score; ``None`` where one stage alone has one score: it may be perfect."""
    known = [scores for scores in stages if scores]
    every = [score for scores in known for score in scores]
    if not every or (len(known) < 2 and min(every) == max(every)):
        return None
    return min(every), max(every)


def _passes(metric: Metric, score: float) -> bool:
    """As `Metric.accepts` decides, by a score that is known; more is better."""
    if metric.threshold is None:
        return score >= (1.0 if metric.binary else 0.5)
    return score >= (metric.threshold if metric.higher_is_better else 1 - metric.threshold)


def _is_local(endpoint: Endpoint) -> bool:
    """Whether what is sent to it stays on this machine."""
    if endpoint.name == SANDBOX:
        return True
    host = urlsplit(endpoint.base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- what the data tell ---------------------------------------------------------------------------------------


def _unfit(task: Task) -> str:
    """The first problem for which a build would refuse the data; empty if there is none."""
    try:
        check_data(task)
    except DatasetError as error:
        return str(error).splitlines()[1].strip()
    return ""


def probe(task: Task) -> Probe | str:
    """What the metric gives to gold answers, and to those of other rows: no model is asked.

    Returns:
        A text where that cannot be known: the metric asks a model or fails on a gold answer, or all answers are the
        same.
    """
    import dspy

    metric, rows = task.scorer, task.dataset.rows("train")[:_PROBED]
    if metric.judges:
        return f"{metric.name} asks a model, which is not done here"
    outputs = [name for name in programs.output_fields(task.program()) if all(name in row.fields for row in rows)]
    if not outputs:
        return "the data hold no gold answers"
    answers = [{name: row.fields[name] for name in outputs} for row in rows]
    others = [other for at in range(len(answers)) if (other := _another(answers, at)) is not None]
    if not others:
        return "the training rows hold one and the same answer"
    examples = task.dataset.train[:_PROBED]
    try:
        gold = [metric(row, dspy.Prediction(**answer)) for row, answer in zip(examples, answers, strict=True)]
        shuffled = [metric(row, dspy.Prediction(**other)) for row, other in zip(examples, others, strict=True)]
    except UsageError as error:
        return f"{str(error).splitlines()[0]} (on a gold answer)"
    return Probe(fmean(gold), fmean(shuffled), constant=len({*gold, *shuffled}) == 1)


def _another(answers: Sequence[Mapping[str, object]], at: int) -> Mapping[str, object] | None:
    """The next answer that differs."""
    return next((other for other in (*answers[at + 1 :], *answers[:at]) if other != answers[at]), None)


def outside(task: Task) -> float | None:
    """The share of dev rows whose answer has a word that is neither in the row's inputs nor in a training answer."""
    outputs = programs.output_fields(task.program())
    learnt = {word for row in task.dataset.rows("train") for word in _words(row, outputs)}
    answered = [row for row in task.dataset.rows("dev") if _words(row, outputs)]
    if not answered:
        return None
    return fmean(bool(_words(row, outputs) - _words(row, row.inputs) - learnt) for row in answered)


def _words(row: DataRow, fields: Iterable[str]) -> set[str]:
    return {word for name in fields if name in row.fields for word in _WORD.findall(str(row.fields[name]).casefold())}


def _seen(task: Task) -> Seen:
    """Test rows that are nearly in other splits; those that are there word for word are refused with the data."""
    texts = {split: _texts(task, split) for split in ("train", "dev", "test")}
    times = Counter(texts["test"].values())
    wanted = {name: asked for name, asked in texts["test"].items() if times[asked] == 1}
    train = find_leaks(wanted, texts["train"])
    built = (*train.exact, *train.near)
    rest = {name: asked for name, asked in wanted.items() if name not in {leak.row_id for leak in built}}
    dev = find_leaks(rest, texts["dev"])
    tuned = (*dev.exact, *dev.near)
    example = next((f"{leak.row_id} and {leak.where}" for leak in (*built, *tuned)), "")
    return Seen(len(built), len(tuned), example)


def _texts(task: Task, split: str) -> dict[str, Texts]:
    """What the rows of a split ask, by file and line: those of their inputs that the program reads."""
    rows = task.dataset.rows(split)
    parts = programs.predictors(task.program()).values()
    read = {name for part in parts for name in part.signature.input_fields}
    fields = sorted({name for row in rows for name in row.inputs} & read)
    return {f"{split} row {row.where}": tuple(str(row.fields.get(name, "")) for name in fields) for row in rows}
