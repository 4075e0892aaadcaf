"""What is known of a task before it is fine-tuned, and the thresholds that it is held against."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds, ``[tool.pytest-finetune.check]``.

    Attributes:
        rows: Training rows that are advised (the skill named above: with fewer, fine-tuning usually overfits).
        better_rows: What is better still, the double.
        floor: Training rows below which it cannot work (OpenAI's guide "Supervised fine-tuning", on the right number
            of examples: improvements show from 50 to 100 on).
        score: What the prompt-optimized program should score (the skill named above).
        traces: Answers of the program that should survive the metric, where it is they that are trained on. A rule
            of thumb from practice, with no published study behind it.
        outside: The share of rows whose answers lie outside their inputs and the training data, above which a weak
            program lacks knowledge. Fine-tuning teaches that badly (Ovadia et al. 2023, "Fine-Tuning or Retrieval?",
            arXiv:2312.05934); the share itself is our choice.
        goal: The score that is good enough; ``None``: the highest that claims ask of the fine-tuned stage.
        calls_per_month: The expected volume; ``None``: unknown.
        months: In how many months the model is to pay for itself.
        hosting: US dollars a month that serving the fine-tuned model costs, however often it is called.
    """

    rows: int = 500
    better_rows: int = 1000
    floor: int = 50
    score: float = 0.5
    traces: int = 200
    outside: float = 0.5
    goal: float | None = None
    calls_per_month: int | None = None
    months: int = 3
    hosting: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What a stage scored on rows that are recorded.

    Attributes:
        mean: Higher is better: where that is not so of the metric, 1 - score is meant.
        n: Rows.
        low: The lower confidence bound of the mean.
    """

    mean: float
    n: int
    low: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What the metric gives to gold answers of training rows, and to those of other rows in their place.

    Attributes:
        gold: The mean score of the gold answers; higher is better.
        shuffled: Of the others, likewise.
        constant: Each single score was the same.
    """

    gold: float
    shuffled: float
    constant: bool


@dataclass(frozen=True, slots=True)
class Traces:
    """How many answers of the program are expected to survive the metric.

    Attributes:
        kept: Answers that survived.
        asked: Answers that were looked at.
        source: Whose answers these are, for messages.
    """

    kept: int
    asked: int
    source: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Test rows that other splits hold, word for word or nearly so.

    Attributes:
        train: How many the training rows hold.
        dev: How many only the dev rows hold.
        example: One of them, for messages; empty where there is none.
    """

    train: int
    dev: int
    example: str = ""


@dataclass(frozen=True, slots=True)
class Costs:
    """What building takes, and what a call costs, in US dollars; ``None`` is unknown.

    Attributes:
        traces: Of the answers that are trained on.
        job: Of training.
        evaluation: Of the gate.
        as_of: The date of our price table.
        cap: What the run may cost; ``None``: there is no limit.
        finetuned: A call of the fine-tuned model: measured, or with the tokens of the plain program.
        prompts: A call of the prompt-optimized program, by its recorded rows.
        teacher: A call of the teacher.
        missing: What to set so that all is known; empty if it is.
    """

    traces: float | None
    job: float | None
    evaluation: float | None
    as_of: str
    cap: float | None = None
    finetuned: float | None = None
    prompts: float | None = None
    teacher: float | None = None
    missing: str = ""

    @property
    def known(self) -> float:
        """What is known of the costs of building: they are at least that."""
        return math.fsum(cost or 0.0 for cost in (self.traces, self.job, self.evaluation))

    @property
    def total(self) -> float | None:
        """What building costs."""
        return None if None in (self.traces, self.job, self.evaluation) else self.known


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a task.

    Attributes:
        task: Its name.
        train: Training rows.
        test: Test rows.
        margin: What a stage may lose without being called worse.
        certifiable: The smallest margin that the test rows certify; ``None``: they certify none.
        needed: Test rows that ``margin`` takes; ``None``: unknown.
        seen: Test rows that are in other splits.
        max_near: The share of test rows that the training rows may hold nearly.
        probe: What the metric gives to gold answers; a text: why that is not known.
        recorded: The lowest and the highest recorded score; ``None``: nothing is recorded.
        labels: The recipe trains on gold answers, and needs no traces.
        traces: What survives the metric; ``None``: unknown.
        prompts: What the prompt-optimized program scores; ``None``: unknown.
        teacher: What the teacher scores; ``None``: there is none, or it is unknown.
        goal: The score that is good enough; ``None``: unknown.
        outside: The share of dev rows whose answer has words that are neither in the inputs nor in a training answer;
            ``None``: unknown.
        costs: What it costs.
        receivers: Addresses outside this machine that rows would be sent to.
        trouble: Why what is recorded cannot be read; empty if it can.
        unfit: Why a build would refuse the data; empty if it would not.
    """

    task: str
    train: int
    test: int
    margin: float
    certifiable: float | None
    needed: int | None
    seen: Seen
    max_near: float
    probe: Probe | str
    recorded: tuple[float, float] | None
    labels: bool
    traces: Traces | None
    prompts: Scored | None
    teacher: Scored | None
    goal: float | None
    outside: float | None
    costs: Costs
    receivers: tuple[str, ...]
    trouble: str = ""
    unfit: str = ""

    @property
    def bar(self) -> float:
        """The goal; without one, the score from which on these rows could show no gain."""
        return 1 - self.margin if self.goal is None else self.goal

    @property
    def command(self) -> str:
        """The command that looks again."""
        return f"pytest-finetune check {self.task}"
