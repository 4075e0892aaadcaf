"""What ``models.lock`` says: one entry for each stage of each task.

An entry has two halves. What was asked for (`Facts`) follows from the tasks file and the data, and is compared with
them before every gate. What came of it (`Entry`) is the model that serves the stage, its artifacts, its score, and
the claims that let it in. Ids and dates that a server chose live in ``model``, ``job`` and ``previous`` alone, so
that two retrains of the same thing differ there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from pytest_finetune.core.fingerprint import plain
from pytest_finetune.core.records import Method, Outcome, Settlement, Verdict
from pytest_finetune.errors import LockError, UsageError

VERSION: Final = 1
_DECIMALS = 6


def _rounded(figure: float) -> float:
    return round(figure, _DECIMALS) + 0.0  # -0.0 becomes 0.0: both would be written differently


def _to_the_second(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def _storable(value: Any) -> Any:
    """Sort keys, and leave out what is None: TOML has no word for it."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in sorted(value.items()) if item is not None}
    if isinstance(value, list):
        if None in value:
            raise UsageError(f"{value!r} cannot be written to the lock: TOML lists hold no None; leave it out")
        return [_storable(item) for item in value]
    return value


Name = Annotated[str, Field(min_length=1)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArtifactRef = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Figure = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_rounded)]
Moment = Annotated[AwareDatetime, AfterValidator(_to_the_second)]
Settings = Annotated[dict[str, Any], BeforeValidator(lambda value: _storable(plain(value)))]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fingerprints(_Table):
    """What decides answers and scores, each as a SHA-256.

    Attributes:
        metric: of the metric's source and settings.
        program: of the program as the tasks file makes it, before any state is loaded into it.
        prompt: of the messages that the stage's own program sends for a few probe rows.
    """

    metric: Fingerprint
    program: Fingerprint
    prompt: Fingerprint


class Data(_Table):
    """The rows of each split: how many, and their fingerprint, whatever their order."""

    train: Fingerprint
    train_rows: int = Field(ge=0)
    dev: Fingerprint
    dev_rows: int = Field(ge=0)
    test: Fingerprint
    test_rows: int = Field(ge=0)
    salt: str = ""


class Facts(_Table):
    """What was asked for: everything that the tasks file and the data decide.

    Attributes:
        task: the task's name.
        stage: the stage's name.
        base: the id of the model that the stage starts from.
        endpoint: the identity of the endpoint; no key and no credentials.
        adapter: how prompts are written.
        recipe: how a fine-tuned stage was built.
        optimizer: how a prompt-optimized program was built.
        seed: of the optimizer and the job.
        fingerprints: of metric, program and prompts.
        data: of the three splits.
        decoding: parameters of every call; what is None counts as absent.
        params: of the recipe, the optimizer and the job; what is None counts as absent.
    """

    task: Name
    stage: Name
    base: Name
    endpoint: Name
    adapter: Name
    recipe: Name | None = None
    optimizer: Name | None = None
    seed: int = 0
    fingerprints: Fingerprints
    data: Data
    decoding: Settings = {}
    params: Settings = {}


class ScoredRows(_Table):
    """Accepted rows, and what decided their scores.

    Attributes:
        rows: one line for each row: what was answered, and its score.
        data: of the rows that were asked.
        metric: of what scored them.
        program: of the suite's own program; None where the stage's program was asked.
    """

    rows: ArtifactRef
    data: Fingerprint
    metric: Fingerprint
    program: Fingerprint | None = None


class ArtifactRefs(_Table):
    """The files beside the lock that belong to an entry.

    Attributes:
        program: the state of the program: instructions and demonstrations.
        rows: one line for each test row: what was answered, and its score.
        suites: the rows of each of the task's suites that a claim looked at.
        training: the file that was trained on.
        training_rows: how many rows that file has.
    """

    program: ArtifactRef
    rows: ArtifactRef | None = None
    training: ArtifactRef | None = None
    training_rows: int | None = Field(default=None, ge=0)
    suites: Mapping[str, ScoredRows] = Field(default_factory=dict)

    def refs(self) -> tuple[str, ...]:
        """All of them."""
        single = (self.program, self.rows, self.training)
        return (*(ref for ref in single if ref is not None), *(suite.rows for suite in self.suites.values()))


class Score(_Table):
    """What the stage scored on the test rows.

    Attributes:
        mean: of the metric, a format error counting 0.
        n: rows that have a score.
        format_errors: rows whose answer could not be parsed.
    """

    mean: Figure
    n: int = Field(ge=0)
    format_errors: int = Field(default=0, ge=0)


class Job(_Table):
    """The fine-tuning job, as the server tells it."""

    id: Name
    status: Name
    created_at: Moment | None = None
    finished_at: Moment | None = None
    training_file: str | None = None
    trained_tokens: int | None = None
    hyperparameters: Settings = {}


class SettledClaim(_Table):
    """A claim that the entry was accepted on; the figures are those of `Verdict`."""

    claim: Name
    outcome: Outcome
    held: bool
    method: Method
    estimate: Figure
    lower: Figure
    upper: Figure
    margin: Figure
    alpha: Figure
    n: int

    @classmethod
    def of(cls, claim: str, verdict: Verdict, settlement: Settlement) -> SettledClaim:
        """Note what was decided about a claim.

        Args:
            claim: the claim's text, as its test item shows it.
            verdict: what the statistics said.
            settlement: what that meant for the test.
        """
        kept = ("outcome", "method", "estimate", "lower", "upper", "margin", "alpha", "n")
        return cls(claim=claim, held=settlement.held, **{name: getattr(verdict, name) for name in kept})


class Previous(_Table):
    """What served the stage before, with what it takes to go back."""

    model: Name
    served_as: Name | None = None
    program: ArtifactRef
    rows: ArtifactRef | None = None
    finished_at: Moment | None = None


class Entry(Facts):
    """One stage of one task: what is pinned, where it came from, what it scored.

    Attributes:
        model: the id of the model that serves the stage, as its endpoint names it.
        served_as: the name it is asked by, where that is not its id.
        score: None where the stage was not evaluated.
        artifacts: files beside the lock.
        job: the fine-tuning job, for stages that have one.
        gate: the claims that the entry was accepted on.
        previous: what served the stage before, the latest first.
        env: versions it was made with; for information, never compared.
    """

    model: Name
    served_as: Name | None = None
    score: Score | None = None
    artifacts: ArtifactRefs
    job: Job | None = None
    gate: tuple[SettledClaim, ...] = ()
    previous: tuple[Previous, ...] = ()
    env: Annotated[dict[str, str], AfterValidator(_storable)] = {}

    @property
    def name(self) -> str:
        """How messages call the entry."""
        return f"{self.task}/{self.stage}"

    @property
    def asked_as(self) -> str:
        """The name by which the endpoint is asked for the model."""
        return self.served_as or self.model

    @property
    def identity(self) -> str:
        """What answers: the model, and the name it is served as where that is another; both change answers."""
        return self.model if self.served_as is None else f"{self.model} as {self.served_as}"

    def replacing(self, old: Entry | None) -> Entry:
        """Give the entry with what served before in its history; nothing is added where the same thing serves."""
        if old is None:
            return self
        served = (old.identity, old.artifacts.program)
        if served == (self.identity, self.artifacts.program):
            return self.model_copy(update={"previous": old.previous})
        last = Previous(
            model=old.model,
            served_as=old.served_as,
            program=old.artifacts.program,
            rows=old.artifacts.rows,
            finished_at=old.job.finished_at if old.job else None,
        )
        return self.model_copy(update={"previous": (last, *old.previous)})


class Lock(_Table):
    """Everything that is pinned, made with ``Lock(model=entries)``, as the file calls them.

    Attributes:
        version: of the format.
        models: the entries, sorted by task and stage, no two for the same stage.

    Raises:
        LockError: If a stage has two entries.
    """

    version: Literal[1] = VERSION
    models: tuple[Entry, ...] = Field(default=(), alias="model")

    @field_validator("models")
    @classmethod
    def _sorted(cls, models: tuple[Entry, ...]) -> tuple[Entry, ...]:
        ordered = sorted(models, key=lambda entry: (entry.task, entry.stage))
        for one, next_one in pairwise(ordered):
            if (one.task, one.stage) == (next_one.task, next_one.stage):
                raise LockError(f"two [[model]] blocks are for task {one.task!r}, stage {one.stage!r}: delete one")
        return tuple(ordered)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that have entries."""
        return tuple(dict.fromkeys(entry.task for entry in self.models))

    def of_task(self, task: str) -> tuple[Entry, ...]:
        """Give the entries of a task, sorted by stage.

        Raises:
            LockError: If it has none.
        """
        found = tuple(entry for entry in self.models if entry.task == task)
        if not found:
            known = ", ".join(self.tasks) or "no task at all"
            raise LockError(f"the lock has no task {task!r} (it has {known}): pytest --ft-retrain --ft-task {task}")
        return found

    def entry(self, task: str, stage: str) -> Entry:
        """Give the entry of a stage.

        Raises:
            LockError: If there is none.
        """
        entries = self.of_task(task)
        for entry in entries:
            if entry.stage == stage:
                return entry
        known = ", ".join(entry.stage for entry in entries)
        raise LockError(
            f"the lock has no stage {stage!r} of task {task!r} (it has {known}): pytest --ft-retrain --ft-task {task}"
        )

    def with_entries(self, entries: Iterable[Entry]) -> Lock:
        """Give the lock with these entries in it; what they replace goes into their history."""
        old = {(entry.task, entry.stage): entry for entry in self.models}
        new = {(entry.task, entry.stage): entry.replacing(old.get((entry.task, entry.stage))) for entry in entries}
        return Lock(model=tuple((old | new).values()))
