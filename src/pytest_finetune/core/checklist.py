"""Should you fine-tune? What is known of a task, held against the field's checklist: findings, and one answer.

The questions, and that they come before any spend, are those of the skill ``ai-fine-tuning`` (GitHub repository
lebsral/dspy-programming-not-prompting-lms-skills, "Should you fine-tune?"): prompts first, 500 labelled rows, a
program above 50 %, quality or cost. The thresholds name their source in `Limits`. What is not known is said to be
unknown: it is never taken for good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pytest_finetune.core.evidence import MIN_ROWS
from pytest_finetune.core.pricing import CAP
from pytest_finetune.core.prospects import Facts, Limits, Scored


class State(str, Enum):
    """What a finding says."""

    OK = "ok"
    ADVICE = "advice"  # it can work, and another way is likely to be better
    STOP = "stop"  # it cannot work
    UNKNOWN = "unknown"

    __str__ = str.__str__


class Answer(str, Enum):
    """What to do."""

    QUALITY = "fine-tune for quality"
    COST = "fine-tune for cost"
    PROMPTS = "optimize prompts first"
    DATA = "collect data"
    RETRIEVAL = "retrieval instead"
    ENOUGH = "stop here: prompts already meet the goal"
    MEND = "mend the task first: as it is, it cannot work"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: What it says.
        evidence: What was seen.
        threshold: What it was held against.
        next_step: What to do; empty where nothing is.
    """

    name: str
    state: State
    evidence: str
    threshold: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Checklist:
    """What was found, and what follows.

    Attributes:
        task: The task's name.
        answer: What to do.
        because: The finding that decided.
        findings: All of them, in the order of the list.
    """

    task: str
    answer: Answer
    because: Finding
    findings: tuple[Finding, ...]

    @property
    def stops(self) -> tuple[Finding, ...]:
        """Why it cannot work."""
        return tuple(finding for finding in self.findings if finding.state is State.STOP)

    @property
    def advised(self) -> tuple[Finding, ...]:
        """What could be better; under a cap, also that a cost is unknown, so that nobody knows whether it holds."""

        def told(finding: Finding) -> bool:
            doubtful = finding.name == "cost" and finding.threshold != "" and finding.state is State.UNKNOWN
            return doubtful or finding.state is State.ADVICE

        return tuple(filter(told, self.findings))


def check(facts: Facts, limits: Limits) -> Checklist:
    """Hold what is known against the thresholds."""
    found = {name: look(facts, limits) for name, look in _LOOKS.items()}
    findings = tuple(
        Finding(name, state, evidence, threshold, step) for name, (state, evidence, threshold, step) in found.items()
    )
    named = {finding.name: finding for finding in findings}
    answer, because = _answer(facts, limits, named)
    return Checklist(facts.task, answer, named[because], findings)


def break_even(invested: float, saving: float, *, months: int, hosting: float = 0.0) -> int | None:
    """Calls per month from which on a cheaper call has paid for itself in so many months.

    Args:
        invested: US dollars, once.
        saving: US dollars that each call saves.
        months: How many.
        hosting: US dollars that it costs each month.

    Returns:
        ``None`` where no number of calls does: a call saves nothing.
    """
    if saving <= 0:
        return None
    return math.ceil((invested / months + hosting) / saving)


# --- the one answer -------------------------------------------------------------------------------------------


def _answer(facts: Facts, limits: Limits, found: dict[str, Finding]) -> tuple[Answer, str]:
    """What to do, and the name of the finding that decides it."""
    stops = [name for name, finding in found.items() if finding.state is State.STOP]
    if stops:
        return (Answer.DATA if stops[0] in ("training rows", "test split") else Answer.MEND), stops[0]
    if facts.prompts is None:
        return Answer.PROMPTS, "prompts first"
    pays = found["return"].state is State.OK
    if facts.prompts.mean >= facts.bar:
        return (Answer.COST, "return") if pays else (Answer.ENOUGH, "goal")
    if facts.prompts.mean < limits.score:
        if facts.outside is not None and facts.outside > limits.outside:
            return Answer.RETRIEVAL, "knowledge"
        if facts.teacher is not None and facts.teacher.mean < limits.score:
            return Answer.PROMPTS, "score"
    if facts.train < limits.rows:
        return Answer.DATA, "training rows"
    if facts.goal is None and pays:
        return Answer.COST, "return"
    return Answer.QUALITY, "score" if facts.prompts.mean < limits.score else "goal"


# --- the findings ---------------------------------------------------------------------------------------------

_Found = tuple[State, str, str, str]
_Look = Callable[[Facts, Limits], _Found]

_MEND_METRIC = "mend the metric: it must tell right from wrong"


def _rows(facts: Facts, limits: Limits) -> _Found:
    evidence, threshold = f"{facts.train:,} training rows", f"at least {limits.rows:,}, better {limits.better_rows:,}"
    step = f"label {limits.floor - facts.train:,} more at the least, and {limits.rows:,} in all"
    few = facts.train < limits.floor
    if facts.unfit:
        correct = "correct the data, which a build refuses"
        return State.STOP, f"{evidence}; {facts.unfit}", threshold, f"{correct}, and {step}" if few else correct
    if few:
        return State.STOP, evidence, f"at least {limits.floor:,}", step
    if facts.train < limits.rows:
        return State.ADVICE, evidence, threshold, f"label {limits.rows - facts.train:,} more"
    return State.OK, evidence, threshold, ""


def _test_split(facts: Facts, _: Limits) -> _Found:
    threshold = f"a margin of {facts.margin:g}"
    if facts.test < MIN_ROWS:
        step = "give the dataset a larger test split"
        return State.STOP, f"{facts.test:,} test rows", f"at least {MIN_ROWS}", step
    if facts.needed is None:
        return State.UNKNOWN, f"{facts.test:,} test rows", threshold, facts.trouble
    if facts.certifiable is not None and facts.certifiable <= facts.margin:
        return State.OK, f"{facts.test:,} test rows certify {_up(facts.certifiable)}", threshold, ""
    certify = "none" if facts.certifiable is None else _up(facts.certifiable)
    step = (
        f"about {facts.needed - facts.test:,} more test rows, or a larger margin: pytest-finetune plan {facts.task}"
    )
    return State.ADVICE, f"{facts.test:,} test rows certify {certify}", threshold, step


def _leaks(facts: Facts, _: Limits) -> _Found:
    seen, allowed = facts.seen, f"at most {facts.max_near:.1%}, max_near_leaks"
    share = f"{seen.train:,} of {facts.test:,} test rows are nearly in the training rows"
    step = "give the data a `group` field, which keeps in one split what belongs together, or take fresh test rows"
    if seen.train > facts.max_near * facts.test:
        return State.STOP, f"{share}: {seen.example}", allowed, step
    if seen.dev > facts.max_near * facts.test:
        evidence = f"{seen.dev:,} of {facts.test:,} test rows are nearly in the dev rows: {seen.example}"
        return State.ADVICE, evidence, allowed, step
    return State.OK, share, allowed, ""


def _metric(facts: Facts, _: Limits) -> _Found:
    threshold, probe = "other scores for other answers", facts.probe
    low, high = facts.recorded or (0.0, 0.0)
    if low < high:
        return State.OK, f"recorded scores go from {low:.3g} to {high:.3g}", threshold, ""
    if facts.recorded and (isinstance(probe, str) or probe.constant):
        return State.STOP, f"every recorded row of every stage scores {low:.3g}", threshold, _MEND_METRIC
    if isinstance(probe, str):
        return State.UNKNOWN, probe, threshold, "see that it gives wrong answers a lower score"
    evidence = f"gold answers score {probe.gold:.3g}, those of other rows {probe.shuffled:.3g}"
    if probe.constant:
        return State.STOP, evidence, threshold, _MEND_METRIC
    if facts.recorded:
        step = "take a harder test split: stages that all score the same cannot be compared"
        return State.ADVICE, f"every recorded row of every stage scores {low:.3g}", threshold, step
    if probe.gold <= probe.shuffled:
        return State.ADVICE, evidence, threshold, "see whether the metric looks at the gold answer at all"
    return State.OK, evidence, threshold, ""


def _prompts(facts: Facts, _: Limits) -> _Found:
    if facts.prompts is None:
        evidence = f"no score of the prompt-optimized program is recorded{facts.trouble and f' ({facts.trouble})'}"
        step = f"build its prompts, and no model: pytest-finetune train {facts.task} --prompts-only"
        return State.UNKNOWN, evidence, "", step
    return State.OK, _scored("prompt_optimized", facts.prompts), "", ""


def _score(facts: Facts, limits: Limits) -> _Found:
    threshold = f"at least {limits.score:g}"
    if facts.prompts is None:
        return State.UNKNOWN, "the prompt-optimized program has no score", threshold, ""
    evidence = _scored("prompt_optimized", facts.prompts)
    if facts.prompts.mean >= limits.score:
        return State.OK, evidence, threshold, ""
    if facts.teacher is not None and facts.teacher.mean < limits.score:
        step = "even the teacher fails: read the rows that it misses, and mend the instructions or the labels"
        return State.ADVICE, f"{evidence}; {_scored('teacher', facts.teacher)}", threshold, step
    step = "with good labels, this is where tuning pays most: recipe='labels', or 'distill' from a stronger teacher"
    return State.ADVICE, evidence, threshold, step


def _goal(facts: Facts, _: Limits) -> _Found:
    goal = "" if facts.goal is None else f"at least {facts.goal:g}"
    set_it = f"say what is good enough: {facts.command} --goal 0.9"
    if facts.prompts is None:
        return State.UNKNOWN, "the prompt-optimized program has no score", goal, set_it if facts.goal is None else ""
    evidence = _scored("prompt_optimized", facts.prompts)
    if facts.prompts.mean >= facts.bar:
        met = "the goal is met, certified" if facts.prompts.low >= facts.bar else "the goal is met, not certified"
        if facts.goal is None:
            met = "these test rows could show no gain"
        return State.ADVICE, f"{evidence}: {met}", goal, "serve the prompt-optimized program; tune only to save costs"
    if facts.goal is None:
        return State.UNKNOWN, evidence, goal, set_it
    return State.OK, f"{evidence}: {facts.goal - facts.prompts.mean:.3f} to gain", goal, ""


def _traces(facts: Facts, limits: Limits) -> _Found:
    threshold, traces = f"at least {limits.traces:,}", facts.traces
    if facts.labels:
        return State.OK, f"recipe 'labels' trains on all {facts.train:,} gold answers", "", ""
    if traces is None or not traces.asked:
        step = f"ask a few rows, priced before it is done: {facts.command} --sample 40"
        return State.UNKNOWN, "nothing tells how many answers would survive the metric", threshold, step
    expected = facts.train * traces.kept // traces.asked
    evidence = f"about {expected:,} expected: {traces.kept:,} of {traces.asked:,} {traces.source} survive the metric"
    if expected >= limits.traces:
        return State.OK, evidence, threshold, ""
    step = (
        "a stronger teacher (recipe='distill'), gold labels (recipe='labels'), or a more lenient metric for"
        " bootstrapping (metric.for_bootstrapping(threshold=…))"
    )
    return State.ADVICE, evidence, threshold, step


def _knowledge(facts: Facts, limits: Limits) -> _Found:
    threshold = f"at most {limits.outside:.0%}"
    if facts.outside is None:
        return State.UNKNOWN, "the dev rows have no answers to look at", threshold, ""
    evidence = (
        f"{facts.outside:.0%} of the dev answers have words that neither their inputs nor training answers have"
    )
    if facts.outside <= limits.outside:
        return State.OK, evidence, threshold, ""
    step = "put what the model must know into its inputs: tuning teaches how to answer, hardly new facts"
    return State.ADVICE, evidence, threshold, step


def _cost(facts: Facts, _: Limits) -> _Found:
    costs = facts.costs
    parts = {"traces": costs.traces, "job": costs.job, "evaluation": costs.evaluation}
    evidence = ", ".join(f"{name} {_dollars(cost)}" for name, cost in parts.items())
    evidence += f"; your own prices, and ours of {costs.as_of}"
    threshold = "" if costs.cap is None else f"at most ${costs.cap:g}"
    if costs.cap is not None and costs.known > costs.cap:
        return State.STOP, evidence, threshold, f"raise the cap ({CAP}), or train on fewer rows"
    if costs.total is not None:
        return State.OK, evidence, threshold, ""
    return State.UNKNOWN, evidence, threshold, costs.missing


def _return(facts: Facts, limits: Limits) -> _Found:
    costs, volume = facts.costs, limits.calls_per_month
    threshold = "" if volume is None else f"{volume:,} calls a month, paid back in {limits.months} months"
    others = {"prompt_optimized": costs.prompts, "teacher": costs.teacher}
    known = {name: cost for name, cost in others.items() if cost is not None}
    if costs.finetuned is None or costs.total is None or not known:
        missing = "what building costs" if costs.total is None else "what a call of the other stages costs"
        return State.UNKNOWN, f"{missing} is unknown{_ratios(costs.finetuned, known)}", threshold, ""
    needed = {name: _break_even(costs.finetuned, costs.total, cost, limits) for name, cost in known.items()}
    said = [
        f"never against {name}" if calls is None else f"from {calls:,} calls a month on against {name}"
        for name, calls in needed.items()
    ]
    evidence = f"pays {', '.join(said)}{_ratios(costs.finetuned, known)}"
    if volume is None:
        return (
            State.UNKNOWN,
            evidence,
            threshold,
            f"say how many calls you expect: {facts.command} --calls-per-month N",
        )
    if any(calls is not None and calls <= volume for calls in needed.values()):
        return State.OK, evidence, threshold, ""
    return State.ADVICE, evidence, threshold, "tune for quality, or not at all: it saves no money at this volume"


def _break_even(call: float, invested: float, other: float, limits: Limits) -> int | None:
    return break_even(invested, other - call, months=limits.months, hosting=limits.hosting)


def _privacy(facts: Facts, _: Limits) -> _Found:
    if not facts.receivers:
        return State.OK, "no row leaves this machine", "", ""
    evidence = f"rows of every split would be sent to {', '.join(facts.receivers)}, training and dev rows as files"
    return State.ADVICE, evidence, "", "see that this is allowed, and how long files are kept there"


_LOOKS: dict[str, _Look] = {
    "training rows": _rows,
    "test split": _test_split,
    "leaks": _leaks,
    "metric": _metric,
    "cost": _cost,
    "prompts first": _prompts,
    "score": _score,
    "goal": _goal,
    "traces": _traces,
    "knowledge": _knowledge,
    "return": _return,
    "privacy": _privacy,
}


# --- figures --------------------------------------------------------------------------------------------------


def _scored(stage: str, scored: Scored) -> str:
    return f"{stage} scores {scored.mean:.3f} on {scored.n:,} rows"


def _ratios(finetuned: float | None, others: dict[str, float]) -> str:
    """How many times a call of each other stage costs: computed, never assumed."""
    if not finetuned:
        return ""
    said = [f"{name}'s costs {cost / finetuned:.2g} times the fine-tuned model's" for name, cost in others.items()]
    return f"; a call of {', of '.join(said)}" if said else ""


def _up(margin: float) -> str:
    """Rounded up, so that no more is promised than holds."""
    return f"{math.ceil(margin * 1000) / 1000:.3f}"


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:,.4f}"
