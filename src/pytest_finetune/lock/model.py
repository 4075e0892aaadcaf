"""What ``models.lock`` says: one entry for each stage of each task.

An entry has two halves. What was asked for (`Facts`) follows from the tasks file and the data, and is compared with
them before every gate. What came of it (`Version`) is the model that serves the stage, its artifacts, its score, and
the claims that let it in. An `Entry` is the version that is pinned, with the earlier ones whole. Ids and dates that
a server chose live in ``model``, ``job``, ``previous``, and the keys that follow from ``model``, so that two retrains
of the same thing differ there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from pytest_finetune.core.fingerprint import digest
from pytest_finetune.errors import LockError
from pytest_finetune.lock.accepted import Score, SettledClaim
from pytest_finetune.lock.advice import retired
from pytest_finetune.lock.fields import ArtifactRef, Fingerprint, Moment, Name, Notes, Settings, Table
from pytest_finetune.lock.tuned import Job, Tuned

VERSION: Final = 1
State = Literal["candidate", "production", "deprecated", "rolled_back", "retired"]
"""Where a version is in its life: it passed the gate; it is what production runs; it was that before; it was left for
an earlier one; it must never serve again."""
Step = Literal["rolled_back", "production", "retired"]
"""What is done to a version, in the order in which steps of one moment are taken; all other states follow."""


class Fingerprints(Table):
    """What decides answers and scores, each as a SHA-256.

    Attributes:
        metric: of the metric's source and settings.
        program: of the program as the tasks file makes it, before any state is loaded into it.
        prompt: of the messages that the stage's own program sends for a few probe rows.
    """

    metric: Fingerprint
    program: Fingerprint
    prompt: Fingerprint


class Data(Table):
    """The rows of each split: how many, and their fingerprint, whatever their order."""

    train: Fingerprint
    train_rows: int = Field(ge=0)
    dev: Fingerprint
    dev_rows: int = Field(ge=0)
    test: Fingerprint
    test_rows: int = Field(ge=0)
    salt: str = ""


class Facts(Table):
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
    decoding: Settings = Field(default_factory=dict)
    params: Settings = Field(default_factory=dict)


class ScoredRows(Table):
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


class ArtifactRefs(Table):
    """The files beside the lock that belong to an entry.

    Attributes:
        program: the state of the program: instructions and demonstrations.
        rows: one line for each test row: what was answered, and its score.
        suites: the rows of each of the task's suites that a claim looked at.
        training: the file that was trained on.
        predictors: the file of each predictor, where each has its own model.
        training_rows: how many rows were trained on.
        data: the fingerprints of the rows of all splits, so that it can be said which have changed.
    """

    program: ArtifactRef
    rows: ArtifactRef | None = None
    training: ArtifactRef | None = None
    predictors: Mapping[str, ArtifactRef] = Field(default_factory=dict)
    training_rows: int | None = Field(default=None, ge=0)
    data: ArtifactRef | None = None
    suites: Mapping[str, ScoredRows] = Field(default_factory=dict)

    @property
    def trainings(self) -> Mapping[str, str]:
        """What each model was trained on, by its predictor; ``""`` stands for all predictors."""
        return self.predictors or ({"": self.training} if self.training else {})

    def refs(self) -> tuple[str, ...]:
        """All of them."""
        single = (ref for ref in (self.program, self.rows, self.data) if ref is not None)
        return (*single, *self.trainings.values(), *(suite.rows for suite in self.suites.values()))


class Event(Table):
    """A step in the life of a stage's models, which somebody took.

    Attributes:
        what: the state that the version came to.
        model: its id.
        version: its `Version.key`.
        at: when; no two decisions about a stage have the same moment.
        by: who, as git or the system knows them.
        commit: of the project, at that moment.
        reason: as it was given.
    """

    what: Step
    model: Name
    version: Fingerprint
    at: Moment
    by: Name
    commit: str | None = None
    reason: str | None = None


class Version(Facts):
    """What a stage is, or once was: what is pinned, where it came from, what it scored.

    Attributes:
        model: the id of the model that serves the stage, as its endpoint names it; the ids of several, with commas.
        served_as: the name it is asked by, where that is not its id; likewise.
        served_models: the other names that its endpoint gave to what answered, when it was accepted; for information.
        state: where it is in its life.
        score: None where the stage was not evaluated.
        artifacts: files beside the lock.
        job: the fine-tuning job, for stages that have one.
        predictors: the model of each predictor, where each has its own; see `models`.
        gate: the claims that it was accepted on.
        env: versions it was made with; for information, never compared.
    """

    model: Name
    served_as: Name | None = None
    served_models: tuple[Name, ...] = ()
    state: State = "candidate"
    score: Score | None = None
    artifacts: ArtifactRefs
    job: Job | None = None
    predictors: Mapping[str, Tuned] = Field(default_factory=dict)
    gate: tuple[SettledClaim, ...] = ()
    env: Notes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _joined(self) -> Self:
        """What is said of several models together is what is said of each."""
        if self.predictors:
            parts = self.predictors.values()
            names = [",".join(part.model for part in parts), ",".join(part.asked_as for part in parts)]
            if names != [self.model, self.asked_as] or self.artifacts.predictors.keys() != self.predictors.keys():
                raise LockError(
                    f"{self.name}: its predictors have other models, or training files, than it says: take back the"
                    " committed lock with git checkout"
                )
        return self

    @property
    def models(self) -> Mapping[str, Tuned]:
        """What serves it, by the predictors that ask; ``""`` stands for all predictors."""
        return self.predictors or {"": Tuned(model=self.model, served_as=self.served_as, job=self.job)}

    @property
    def names(self) -> frozenset[str]:
        """The ids of its models, and the names that they are asked by."""
        return frozenset(name for tuned in self.models.values() for name in (tuned.model, tuned.asked_as))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that its models came from."""
        return tuple(tuned.job for tuned in self.models.values() if tuned.job is not None)

    @property
    def trained_at(self) -> datetime | None:
        """When the last of its jobs ended."""
        return max((job.finished_at for job in self.jobs if job.finished_at is not None), default=None)

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.task}/{self.stage}"

    @property
    def asked_as(self) -> str:
        """The name by which the endpoint is asked for the model."""
        return self.served_as or self.model

    @property
    def identity(self) -> str:
        """What answers: the model, and the name it is served as where that is another; both change answers."""
        return self.model if self.served_as is None else f"{self.model} as {self.served_as}"

    @property
    def key(self) -> str:
        """What tells it from the stage's other versions: the digest of all that decides its answers."""
        models = {name: [tuned.model, tuned.asked_as] for name, tuned in self.models.items()}
        sent = [self.fingerprints.program, self.artifacts.program, self.adapter, self.decoding]
        return digest([models, self.endpoint, sent])


class Entry(Version):
    """One stage of one task: the version that is pinned, and those before it.

    Attributes:
        previous: what was pinned before, the latest first, each whole, so that one can go back to it.
        history: what was done to its versions, the latest first.
    """

    previous: tuple[Version, ...] = ()
    history: tuple[Event, ...] = ()

    @property
    def version(self) -> Version:
        """What is pinned, without what came before."""
        return Version(**{name: getattr(self, name) for name in Version.model_fields})

    @property
    def versions(self) -> tuple[Version, ...]:
        """All of them, the pinned one first."""
        return self.version, *self.previous

    def in_state(self, state: State) -> Version | None:
        """The version that came to a state last; of candidates the pinned one alone, which took the others' place."""
        if state == "candidate":
            return self.version if self.state == state else None
        return self.last(version for version in self.versions if version.state == state)

    def last(self, versions: Iterable[Version]) -> Version | None:
        """Of these versions the one that something was done to last, by the history; else the first."""
        order = {event.version: place for place, event in reversed([*enumerate(self.history)])}
        return min(versions, key=lambda version: order.get(version.key, len(order)), default=None)

    @property
    def bereft(self) -> bool:
        """Whether something was in production, and nothing is: after a merge with its retirement."""
        served = any(event.what == "production" for event in self.history)
        return served and self.in_state("production") is None

    def replacing(self, old: Entry | None) -> Entry:
        """Give the entry with what was pinned before behind it: new to the stage, it is a candidate.

        Raises:
            LockError: If it, or its fine-tuned model under another name or decoding, was retired.
        """
        if old is None:
            return self
        states: dict[str, State] = {version.key: version.state for version in old.versions}
        for version in old.versions:
            again = version.key == self.key or (self.key not in states and version.model == self.model != self.base)
            if version.state == "retired" and again:
                raise LockError(retired(old, version))
        before = tuple(version for version in old.versions if version.key != self.key)
        kept = {"state": states.get(self.key, "candidate"), "previous": before, "history": old.history}
        return self.model_copy(update=kept)


class Lock(Table):
    """Everything that is pinned, made with ``Lock(model=entries)``, as the file calls them.

    Attributes:
        version: of the format.
        models: the entries, sorted by task and stage, no two for the same stage.

    Raises:
        LockError: If a stage has two entries, two versions in production, or versions of another stage.
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
        for entry in ordered:
            _check_versions(entry)
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
            meant = [each for each in self.tasks if each.endswith(f"/{task}")]
            hint = f"name one by its id: {', '.join(meant)}" if meant else f"pytest --ft-retrain --ft-task {task}"
            raise LockError(f"the lock has no task {task!r} (it has {known}): {hint}")
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

    def with_stage(self, entry: Entry) -> Lock:
        """Give the lock with this entry, as it is, in the place of its stage's."""
        kept = (one for one in self.models if one.name != entry.name)
        return Lock(model=(*kept, entry))

    def with_entries(self, entries: Iterable[Entry]) -> Lock:
        """Give the lock with these entries in it; what they replace goes into their history.

        Raises:
            LockError: If one was retired.
        """
        old = {(entry.task, entry.stage): entry for entry in self.models}
        new = {(entry.task, entry.stage): entry.replacing(old.get((entry.task, entry.stage))) for entry in entries}
        return Lock(model=tuple((old | new).values()))


def _check_versions(entry: Entry) -> None:
    """One version of a stage serves at a time, and all are of that stage."""
    restore = "take back the committed lock with git checkout"
    strange = [version.name for version in entry.previous if version.name != entry.name]
    if strange:
        raise LockError(f"{entry.name}: one of its [[model.previous]] is of {strange[0]}: {restore}")
    serving = [version.model for version in (entry, *entry.previous) if version.state == "production"]
    if len(serving) > 1:
        raise LockError(
            f"{entry.name}: {' and '.join(serving)} are both in production, where one version may be: {restore}, or"
            ' write state = "deprecated" with the one that is not to serve'
        )
