"""The prompt-optimized stage: a DSPy optimizer, guarded."""

from __future__ import annotations

import importlib.util
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_finetune.core.fingerprint import source_fingerprint
from pytest_finetune.errors import FinetuneError, MissingExtra, TrainingError, UsageError
from pytest_finetune.programs import attach, dump_state, load_state, program_fingerprint
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.runs import LostCalls, Run, aloud, failure_note, mean_score, quiet, run_program

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.metrics import Metric
    from pytest_finetune.task import Task

TRAIN_ROWS = 300
"""Training rows that an optimizer is given: it draws a few dozen demonstrations, and reads some for its summary."""

DEV_ROWS = 200
"""Dev rows that an optimizer scores each candidate on; the final comparison is on all of them."""

MANY = 10**9  # errors that DSPy bears with: a failed row scores 0, and lost calls are noticed by `LostCalls`

Drawn = TypeVar("Drawn")
Optimizer = str | Callable[["Task"], Any]


@dataclass(frozen=True)
class Optimized:
    """The prompt-optimized program, or the baseline where nothing better was found.

    Attributes:
        program: With the LM attached that it was optimized for.
        kept_baseline: Whether it is the baseline, because dev did not rise.
        dev_baseline: Mean dev score of the baseline, higher better.
        dev_optimized: Mean dev score of the best program that the optimizer found.
        notes: Sentences for the report.
    """

    program: dspy.Module
    kept_baseline: bool
    dev_baseline: float
    dev_optimized: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """A built-in optimizer: its class in dspy, what it needs, and our defaults, constructor's and compile's alike."""

    name: str
    package: str | None
    defaults: Mapping[str, Any]


_KINDS = {
    # minibatches of 35 cannot tell candidates apart; few trials on all of DEV_ROWS can
    "miprov2": _Kind(
        "MIPROv2",
        "optuna",
        {
            "auto": None,
            "num_candidates": 6,
            "num_trials": 10,
            "minibatch": False,
            "max_bootstrapped_demos": 6,
            "max_labeled_demos": 16,
        },
    ),
    "gepa": _Kind("GEPA", "gepa", {"auto": "light"}),
    "bootstrap_random_search": _Kind(
        "BootstrapFewShotWithRandomSearch",
        None,
        {"num_candidate_programs": 6, "max_bootstrapped_demos": 6, "max_labeled_demos": 16},
    ),
    "labeled_few_shot": _Kind("LabeledFewShot", None, {"k": 16}),
}
_GEPA_BUDGETS = ("auto", "max_full_evals", "max_metric_calls")


def build_prompt_optimized(
    task: Task,
    lm: dspy.LM,
    *,
    trainset: Sequence[dspy.Example],
    devset: Sequence[dspy.Example],
    report: Callable[[str], None],
    concurrency: int = 16,
    prompt_lm: dspy.LM | None = None,
    optimizer: Optimizer | None = None,
    checkpoints: Checkpoints | None = None,
) -> Optimized:
    """Optimize the prompts of a task's program for an LM.

    Args:
        task: Its program, metric, adapter, optimizer, ``optimizer_options`` and seed are used.
        lm: The model that is prompted.
        trainset: Rows to take demonstrations from; at most `TRAIN_ROWS`, drawn by the task's seed, are used.
        devset: Rows to choose by; at most `DEV_ROWS` for each candidate, all of them for the last word.
        report: Is given ready sentences.
        concurrency: Calls at once.
        prompt_lm: Writes instructions (the teacher's, where there is one); ``None``: ``lm``.
        optimizer: In place of the task's, as for its teacher.
        checkpoints: Where the prompts that were found are kept, for a build that is run again.

    Raises:
        MissingExtra: If the optimizer's package is not installed; nothing was asked yet.
        UsageError: If there is no such optimizer or option; nothing was asked yet.
        TrainingError: If the endpoint or the optimizer failed.
    """
    search = Search.of(task, prompt_lm or lm, concurrency, optimizer)
    report, adapter = aloud(report), task.make_adapter()
    baseline = attach(task.program(), lm)
    before = mean_score(run_program(baseline, devset, adapter=adapter, concurrency=concurrency), task.scorer)
    report(f"Baseline: {before:.3f} on {len(devset):,} dev rows. Optimizing prompts with {search.name}.")
    parts = checkpoints and search.parts(baseline)
    state = checkpoints.get("prompts", parts) if checkpoints and parts else None
    if state is None:
        found = search.compile(baseline, draw(trainset, TRAIN_ROWS, task.seed), draw(devset, DEV_ROWS, task.seed))
        if checkpoints and parts:
            checkpoints.put("prompts", parts, dump_state(found))
    else:
        found = attach(load_state(task.program(), state), lm)
        report("Taking up the prompts that an earlier run has kept.")
    runs = run_program(found, devset, adapter=adapter, concurrency=concurrency)
    return _compared(search, baseline, found, before, runs, report)


def _compared(
    search: Search,
    baseline: dspy.Module,
    found: dspy.Module,
    before: float,
    runs: Sequence[Run],
    report: Callable[[str], None],
) -> Optimized:
    after = mean_score(runs, search.task.scorer)
    kept = after <= before
    note = f"Prompt-optimized by {search.name}: {after:.3f} on dev, baseline {before:.3f}"
    if kept:
        note += "; dev did not rise, so the baseline is kept"
    notes = (f"{note}.", *failure_note(runs, "dev"))
    report("\n".join(notes))
    return Optimized(baseline if kept else found, kept, before, after, notes)


def check_optimizer(optimizer: Optimizer, options: Mapping[str, Any]) -> None:
    """Refuse what cannot work, before the first paid call.

    Raises:
        MissingExtra: If the optimizer's package is not installed.
        UsageError: If there is no such optimizer, or it has no such option.
    """
    import dspy

    if callable(optimizer):
        if options:
            raise UsageError("optimizer_options are for built-in optimizers: set them in your function")
        return
    if optimizer not in _KINDS:
        raise UsageError(f"there is no optimizer {optimizer!r}: use {', '.join(_KINDS)}, or a function")
    kind = _KINDS[optimizer]
    if kind.package and importlib.util.find_spec(kind.package) is None:
        raise MissingExtra(f"the optimizer {optimizer!r} needs {kind.package}: pip install {kind.package}")
    factory = getattr(dspy, kind.name)
    unknown = options.keys() - _parameters(factory.__init__) - _parameters(factory.compile)
    if unknown:
        raise UsageError(f"dspy.{kind.name} has no option {', '.join(sorted(unknown))}: see the task's options")


def draw(examples: Sequence[Drawn], most: int, seed: int) -> list[Drawn]:
    """At most so many examples, the same ones for the same seed."""
    return list(examples) if len(examples) <= most else random.Random(seed).sample(list(examples), most)  # noqa: S311


@dataclass(frozen=True)
class Search:
    """A DSPy optimizer that leaves its student alone, keeps the student's LM, and loses no call unnoticed.

    Args:
        task: Whose metric, adapter and seed are used.
        optimizer: A built-in's name, or a function that takes the task and gives a teleprompter.
        options: Of a built-in, in DSPy's names.
        prompt_lm: Writes instructions.
        concurrency: Threads.
    """

    task: Task
    optimizer: Optimizer
    options: Mapping[str, Any]
    prompt_lm: dspy.LM
    concurrency: int

    @classmethod
    def of(cls, task: Task, prompt_lm: dspy.LM, concurrency: int, other: Optimizer | None = None) -> Search:
        """The task's own optimizer with the task's options; or another one, with its defaults.

        Raises:
            MissingExtra: If its package is not installed.
            UsageError: If there is no such optimizer or option.
        """
        chosen, options = (task.optimizer, task.optimizer_options) if other is None else (other, {})
        check_optimizer(chosen, options)
        return cls(task, chosen, options, prompt_lm, concurrency)

    @property
    def name(self) -> str:
        """The optimizer's name, or its function's."""
        chosen = self.optimizer
        return chosen if isinstance(chosen, str) else str(getattr(chosen, "__name__", type(chosen).__name__))

    def parts(self, student: dspy.Module) -> list[Any] | None:
        """All that the outcome is made from; None for a user's function whose source cannot be read."""
        task, chosen = self.task, self.optimizer
        try:
            name = chosen if isinstance(chosen, str) else source_fingerprint(chosen)
        except UsageError:
            return None
        models = [student.get_lm().model, self.prompt_lm.model]
        data = [task.dataset.fingerprint(split) for split in ("train", "dev")]
        asked = [program_fingerprint(student), task.scorer.fingerprint(), task.adapter, task.decoding()]
        return [name, dict(self.options), models, data, asked, task.seed]

    def compile(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        """Give the optimized copy of a program whose predictors share one LM.

        Raises:
            TrainingError: If the endpoint or the optimizer failed.
        """
        import dspy

        lm, lost = student.get_lm(), LostCalls(f"the optimizer {self.name}")
        # DSPy remembers the last 10,000 prompts: with many demonstrations, that is a gigabyte.
        context = {"lm": lm, "adapter": self.task.make_adapter(), "disable_history": True}
        with quiet(), dspy.context(callbacks=[lost.callback()], **context):
            try:
                found = self._compile(attach(student, lm), list(trainset), list(valset), lost)
            except FinetuneError:
                raise
            except Exception as error:
                lost.check()
                raise TrainingError(f"the optimizer {self.name} failed: {type(error).__name__}: {error}") from error
        lost.check()
        return attach(found, lm)

    def _compile(self, student: dspy.Module, trainset: list[Any], valset: list[Any], lost: LostCalls) -> dspy.Module:
        offered = {"trainset": trainset, "valset": valset}
        if callable(self.optimizer):
            teleprompter = self.optimizer(self.task)
        else:
            options = self._options(_KINDS[self.optimizer], lost)
            factory = getattr(_dspy(), _KINDS[self.optimizer].name)
            teleprompter = factory(**taken(factory.__init__, options))
            offered |= taken(factory.compile, options)
        return teleprompter.compile(student, **taken(teleprompter.compile, offered))

    def _options(self, kind: _Kind, lost: LostCalls) -> dict[str, Any]:
        ours = {
            "metric": for_gepa(self.task.scorer, lost) if kind.name == "GEPA" else for_dspy(self.task.scorer, lost),
            "num_threads": self.concurrency,
            "max_errors": MANY,
            "prompt_model": self.prompt_lm,
            "task_model": _dspy().settings.lm,
            "reflection_lm": self.prompt_lm,
            "seed": self.task.seed,
            **kind.defaults,
            **self.options,
        }
        if kind.name == "GEPA" and any(name in self.options for name in _GEPA_BUDGETS[1:]):
            ours.pop("auto")
        return ours


def for_dspy(metric: Metric, lost: LostCalls) -> Callable[..., float]:
    """The metric as DSPy's optimizers ask it: with a trace, they want to know what may become a demonstration.

    DSPy takes a metric that fails for a score of 0, so that a judge's failure is noted in ``lost``.
    """

    def judge(example: Any, prediction: Any, trace: Any = None) -> float:
        with lost.noted():
            return metric(example, prediction) if trace is None else metric.accepts(example, prediction, trace)

    return judge


def for_gepa(metric: Metric, lost: LostCalls) -> Callable[..., Any]:
    """The metric as GEPA asks it: five arguments, and a score with words on what was wrong.

    The words are the ``feedback`` of the metric's own ``dspy.Prediction``, where it gives one; else what was
    expected is said.
    """

    def judge(gold: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:  # noqa: ARG001  # GEPA's signature
        given: list[Any] = []

        def listened(example: Any, answer: Any, trace: Any = None) -> Any:
            given.append(metric.function(example, answer, trace))
            return given[-1]

        with lost.noted():
            score = replace(metric, function=listened)(gold, prediction)
        expected = ", ".join(f"{name}={value!r}" for name, value in gold.labels().items())
        feedback = getattr(given[-1], "feedback", None) or f"Score {score:g}. Expected: {expected}."
        return _dspy().Prediction(score=score, feedback=feedback)

    return judge


def _dspy() -> Any:
    import dspy

    return dspy


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def taken(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """What of the offered arguments a function takes."""
    return {name: value for name, value in offered.items() if name in _parameters(function)}
