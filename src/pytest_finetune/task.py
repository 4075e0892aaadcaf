"""`Task`: a DSPy program, its dataset, its metric and its models: the thing that is tuned."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.fingerprint import data_fingerprint
from pytest_finetune.core.text import encoded
from pytest_finetune.dataset import ALL, DataRow, Dataset
from pytest_finetune.errors import UsageError
from pytest_finetune.metrics import Metric, as_metric

if TYPE_CHECKING:
    import dspy

BASELINE = "baseline"
PROMPT_OPTIMIZED = "prompt_optimized"
FINETUNED = "finetuned"
TEACHER = "teacher"

ADAPTERS = ("chat", "json", "xml")

Program = Callable[[], "dspy.Module"]


@dataclass(frozen=True)
class Suite:
    """Another dataset that a task's stages are held to: what they must not forget, or must never do.

    Args:
        dataset: All of its rows are asked, whatever their split: nothing is built from them.
        metric: As the task's; ``None``: the task's own.
        program: Makes another program, which each stage's model runs as it is; ``None``: each stage's own program,
            with its prompts.
    """

    dataset: Dataset
    metric: Metric | Callable[..., Any] | None = None
    program: Program | None = None


@dataclass(frozen=True)
class Mix:
    """Rows of other work that a model is trained on too, so that it does not forget it.

    They are drawn by the task's seed, hold the dataset's own answers, and count as training rows in the lock. Rows
    that a suite holds are refused when the suite is judged.

    Args:
        dataset: All of its rows may be drawn, whatever their split.
        share: Of the training file, between 0 and 1, as far as there are rows. Rehearsing a hundredth of the earlier
            data was enough for Scialom et al., Fine-tuned Language Models are Continual Learners, EMNLP 2022.
        program: Makes the program that the rows are written for; ``None``: the task's own.
    """

    dataset: Dataset
    share: float = 0.1
    program: Program | None = None


@dataclass(frozen=True)
class HeldOut:
    """Rows that claims look at, and what scores them.

    Attributes:
        rows: In salted hash order.
        metric: Scores the answers.
        program: What each stage's model runs in the place of its own program; ``None``: its own.
    """

    rows: Sequence[DataRow]
    metric: Metric
    program: Program | None

    @property
    def fingerprint(self) -> str:
        """Of the rows, whatever their order."""
        return data_fingerprint(row.row_id for row in self.rows)


@dataclass(frozen=True)
class Task:
    """What is tuned, and how.

    Making one costs nothing: no file is read and nothing is imported before it is used.

    Args:
        program: Makes the DSPy program, afresh each time.
        dataset: The rows, with their splits.
        metric: One of `pytest_finetune.metrics`, or any ``(example, prediction, trace=None)`` that gives a bool, a
            float in [0, 1] or a ``dspy.Prediction(score=…)``.
        student: The id of the model that is tuned, as its endpoint names it.
        teacher: The id of a stronger model, for the stage ``teacher`` and the recipe ``distill``.
        endpoint: The endpoint's name; ``None``: the setting ``ft_endpoint``.
        name: What markers call the task, without a ``/``; ``None``: the variable's name.
        optimizer: How the prompt-optimized stage is built: ``miprov2``, ``gepa``, ``bootstrap_random_search``,
            ``labeled_few_shot``, or a function that takes the task and gives a DSPy teleprompter.
        recipe: How the fine-tuned stage is built: ``bootstrap``, ``labels``, ``distill``, ``dpo``,
            ``better_together``, or a function that takes the task and gives a DSPy teleprompter that fine-tunes; see
            ``docs/recipes.md``.
        recipe_options: Parameters of a named recipe, such as ``{"source": "baseline"}``; ``{"multitask": False}``
            trains a model for each predictor.
        optimizer_options: Parameters of the optimizer, in DSPy's names.
        teacher_optimizer: As ``optimizer``, for the teacher's program; ``None``: the teacher is asked as it is.
        adapter: How prompts are written: ``chat``, ``json`` or ``xml``. It is pinned, since DSPy's default changes.
        temperature: Of every call; 0 asks for the likeliest answer.
        max_tokens: The longest answer, in tokens; ``None``: the endpoint's own limit.
        hyperparameters: Of the fine-tuning job, such as ``{"n_epochs": 3}``.
        suffix: What the fine-tuned model's id is to contain; ``None``: the task's name.
        seed: Of the optimizer and the job.
        seeds: Of several jobs, in place of ``seed``: a model for each, of which the best on dev is kept, and their
            spread told. Every job is paid for.
        mix: Rows of other work to be trained on too, against forgetting: a `Mix`, or a dataset alone.
        suites: Other datasets by name, for claims with ``on=``: a `Suite`, or a dataset alone.

    Attributes:
        folder: That of its tasks file, from the rootdir; empty: the rootdir itself.

    Raises:
        UsageError: If an argument is of the wrong kind.
    """

    program: Program
    dataset: Dataset
    metric: Metric | Callable[..., Any]
    student: str
    teacher: str | None = None
    endpoint: str | None = None
    name: str | None = None
    optimizer: str | Callable[[Task], Any] = "miprov2"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | Callable[[Task], Any] = "bootstrap"
    recipe_options: Mapping[str, Any] = field(default_factory=dict)
    teacher_optimizer: str | Callable[[Task], Any] | None = None
    adapter: str = "chat"
    temperature: float | None = 0.0
    max_tokens: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    suffix: str | None = None
    seed: int = 0
    seeds: Sequence[int] = ()
    mix: Mix | Dataset | None = None
    suites: Mapping[str, Dataset | Suite] = field(default_factory=dict)
    folder: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        encoded(f"{self.name} {self.student}")  # what no lock can hold is refused before anything is built
        who = f"Task {self.name!r}" if self.name else "Task"
        if "/" in (self.name or ""):
            raise UsageError(f"{who}: a name holds no '/': the folder of its tasks file stands before it by itself")
        if not callable(self.program):
            raise UsageError(
                f"{who}: program must be a function that makes the program: program=lambda: YourModule()"
            )
        if not isinstance(self.dataset, Dataset):
            raise UsageError(f"{who}: dataset must be a Dataset: Dataset.from_file('data.jsonl', inputs=[…])")
        if self.adapter not in ADAPTERS:
            raise UsageError(f"{who}: adapter {self.adapter!r} is not one of {', '.join(ADAPTERS)}")
        if self.recipe == "distill" and self.teacher is None:
            raise UsageError(f"{who}: the recipe 'distill' needs a teacher: teacher='MODEL'")
        for name, suite in self._named_suites().items():
            if not isinstance(suite.dataset, Dataset):
                raise UsageError(f"{who}: suite {name!r} must be a Dataset, or a Suite with one")
        self._check_training(who)
        if not isinstance(self.metric, Metric):
            object.__setattr__(self, "metric", as_metric(self.metric))

    def _check_training(self, who: str) -> None:
        if isinstance(self.mix, Dataset):
            object.__setattr__(self, "mix", Mix(self.mix))
        if self.mix is not None and not (isinstance(self.mix, Mix) and isinstance(self.mix.dataset, Dataset)):
            raise UsageError(f"{who}: mix must be a Dataset, or a Mix with one")
        if self.mixed is not None and not 0 < self.mixed.share < 1:
            raise UsageError(f"{who}: mix: share={self.mixed.share!r} is a share of the training file: give 0.1")
        seeds = list(self.seeds)
        if len(set(seeds)) < len(seeds) or not all(type(seed) is int for seed in seeds):
            raise UsageError(f"{who}: seeds={seeds!r}: give different whole numbers, as seeds=(0, 1, 2)")

    def bind(self, name: str, root: Path, folder: str) -> None:
        """Called when the tasks file is read: a name for a task that has none, and the folder of its data.

        In place, since tests that import the tasks file must find the same object.

        Args:
            name: Its variable's.
            root: The project.
            folder: That of the tasks file, from there; empty: the project itself.
        """
        if self.name is None:
            object.__setattr__(self, "name", name)
        object.__setattr__(self, "folder", folder)
        here = root / folder
        object.__setattr__(self, "dataset", self.dataset.resolve(here))
        found = {
            name: replace(suite, dataset=suite.dataset.resolve(here)) for name, suite in self._named_suites().items()
        }
        object.__setattr__(self, "suites", found)
        if self.mixed is not None:
            object.__setattr__(self, "mix", replace(self.mixed, dataset=self.mixed.dataset.resolve(here)))

    @property
    def mixed(self) -> Mix | None:
        """What is mixed in, as a `Mix`, also where a dataset alone was given."""
        assert not isinstance(self.mix, Dataset)  # noqa: S101  # made one when the task was
        return self.mix

    @property
    def recipe_name(self) -> str:
        """The recipe's name, or its function's."""
        chosen = self.recipe
        return chosen if isinstance(chosen, str) else str(getattr(chosen, "__name__", type(chosen).__name__))

    @property
    def scorer(self) -> Metric:
        """The metric as a `Metric`, also where a plain function was given."""
        assert isinstance(self.metric, Metric)  # noqa: S101  # made so above
        return self.metric

    @property
    def id(self) -> str:
        """What tells the task from all others of the project: its name, behind the folder of its tasks file.

        Raises:
            UsageError: If it has none yet.
        """
        if self.name is None:
            raise UsageError("this Task has no name: give it name=…, or assign it to a variable of the tasks file")
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def stages(self) -> tuple[str, ...]:
        """The names that claims on this task may use."""
        return (BASELINE, PROMPT_OPTIMIZED, FINETUNED, *([TEACHER] if self.teacher else []))

    def held_out(self, suite: str | None = None) -> HeldOut:
        """The rows of the test split, or of a suite.

        Raises:
            UsageError: If there is no such suite.
            DatasetError: If the data cannot be read.
        """
        if suite is None:
            return HeldOut(self.dataset.rows("test"), self.scorer, None)
        suites = self._named_suites()
        if suite not in suites:
            close = difflib.get_close_matches(suite, suites, n=1)
            hint = f": did you mean {close[0]!r}?" if close else f"; there are: {', '.join(suites) or 'none'}"
            raise UsageError(f"task {self.id!r} has no suite {suite!r}{hint}")
        chosen = suites[suite]
        metric = self.scorer if chosen.metric is None else as_metric(chosen.metric)
        return HeldOut(chosen.dataset.rows(ALL), metric, chosen.program)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its metric, and those of its suites."""
        own = [suite.metric for suite in self._named_suites().values() if suite.metric is not None]
        return (self.scorer, *map(as_metric, own))

    def _named_suites(self) -> dict[str, Suite]:
        return {name: suite if isinstance(suite, Suite) else Suite(suite) for name, suite in self.suites.items()}

    def decoding(self) -> dict[str, Any]:
        """The decoding parameters that are set, in DSPy's names."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in given.items() if value is not None}

    def make_adapter(self) -> dspy.Adapter:
        """A new adapter of the pinned kind."""
        return adapter_of(self.adapter)


def adapter_of(kind: str) -> dspy.Adapter:
    """A new adapter.

    An answer that it cannot read is a format error: DSPy's second call, in JSON, would hide what the model does.

    Args:
        kind: One of `ADAPTERS`.
    """
    import dspy

    if kind == "json":
        return dspy.JSONAdapter()
    return {"chat": dspy.ChatAdapter, "xml": dspy.XMLAdapter}[kind](use_json_adapter_fallback=False)
