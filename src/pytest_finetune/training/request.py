"""What a fine-tuning job is made from, and what comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_finetune.core.fingerprint import digest
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import UsageError
from pytest_finetune.training.contents import tokens_of_file
from pytest_finetune.training.remote import Checkpoint, Loss

if TYPE_CHECKING:
    from pytest_finetune.task import Task

_EPOCHS, _SEEN, _MOST_EPOCHS = 3, 100, 25

CHECKPOINT = "checkpoint"
"""Among a task's hyperparameters, it says which of a job's models is taken; it is not sent."""
PREDICTOR = "predictor"
"""Among a job's hyperparameters, it says whose rows they are, where each predictor has a job; it is not sent."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is made from: equal requests are one job.

    Attributes:
        model: The id of the model to tune, as the endpoint names it.
        training: The training file's bytes, JSON Lines.
        validation: The validation file's bytes.
        seed: Of the training.
        suffix: What the new model's id is to contain, at most 64 characters.
        hyperparameters: Of the method, in the endpoint's names.
        method: ``"supervised"``: the files hold chats; ``"dpo"``: they hold pairs of answers, one preferred.
        checkpoint: Which of the job's models is taken: the ``"last"``, or the ``"best"`` on the validation file.
            It does not count for equality: either way it is the same job.
        predictor: Whose model it is, for messages, where each predictor has one.
        task: What its task is known by, to be kept in the job's metadata; see `mark_of`.
    """

    model: str
    training: bytes
    validation: bytes | None = None
    seed: int = 0
    suffix: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    method: Literal["supervised", "dpo"] = "supervised"
    checkpoint: Literal["last", "best"] = field(default="last", compare=False)
    predictor: str = field(default="", compare=False)
    task: str = field(default="", compare=False)

    def key(self, endpoint: Endpoint) -> str:
        """The hash of the request and of the endpoint it goes to, in 32 hexadecimal digits."""
        files = [content and hashlib.sha256(content).hexdigest() for content in (self.training, self.validation)]
        settings = [self.method, self.seed, self.suffix, dict(self.hyperparameters), dict(endpoint.extra_body)]
        return digest([endpoint.identity, self.model, files, settings])[:32]

    @property
    def whose(self) -> str:
        """Which predictor's it is, to be put behind a noun."""
        return f" (predictor {self.predictor!r})" if self.predictor else ""

    @property
    def tokens(self) -> int:
        """About how many tokens each epoch trains on; see `tokens_of_file`."""
        return tokens_of_file(self.training)

    @property
    def most_epochs(self) -> int:
        """As they are set; else the most that "auto" comes to.

        OpenAI's rule ("Data preparation and analysis for chat model fine-tuning", in its cookbook) is three epochs;
        under 34 rows as many as make 100 rows, at most 25; over 8,333 rows fewer, which is not counted on here. What
        other endpoints choose is not published by all of them: under a cap, it is better set.
        """
        asked = self.hyperparameters.get("n_epochs")
        rows = max(1, self.training.count(b"\n"))
        return asked if isinstance(asked, int) else min(_MOST_EPOCHS, max(_EPOCHS, _SEEN // rows))

    def files(self) -> dict[str, bytes]:
        """The files, by the name that the endpoint has for their roles."""
        given = {"training_file": self.training, "validation_file": self.validation}
        return {role: content for role, content in given.items() if content is not None}


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job that succeeded, as the endpoint told of it.

    Attributes:
        id: The job's id.
        key: The hash of what it is made from; see ``JobRequest.key``.
        status: ``"succeeded"``.
        model: The id of the model that came of it: of the checkpoint that was asked for.
        base: The id of the model that was tuned.
        created_at: Unix seconds.
        finished_at: Unix seconds.
        training_file: The file's id.
        validation_file: The file's id, if there was one.
        trained_tokens: As the endpoint counted, and bills, them.
        seed: As the endpoint echoes it.
        hyperparameters: As the endpoint resolved them.
        losses: The loss curve, by step; empty where the endpoint tells no losses.
        checkpoints: The models after the last epochs, by step; empty where the endpoint keeps none.
    """

    id: str
    key: str
    status: str
    model: str
    base: str
    created_at: int
    finished_at: int | None
    training_file: str
    validation_file: str | None
    trained_tokens: int | None
    seed: int | None
    hyperparameters: Mapping[str, Any]
    losses: tuple[Loss, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


def mark_of(task: Task) -> str:
    """What the jobs of a task are known by before their files are, in 32 hexadecimal digits.

    It tells them from those of others who use the endpoint too, and from those on rows that have changed since.
    """
    return digest([task.id, task.student, task.dataset.fingerprint("train")])[:32]


def check_checkpoint(hyperparameters: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that there is none of.

    Raises:
        UsageError: If the hyperparameters ask for it.
    """
    asked = hyperparameters.get(CHECKPOINT, "last")
    if asked not in ("last", "best"):
        raise UsageError(f'hyperparameters={{"{CHECKPOINT}": {asked!r}}}: use "last", or "best" (on the dev split)')


def file_name(content: bytes) -> str:
    """The name under which a file is uploaded, and found again: it says what is in it."""
    return f"pytest-finetune-{hashlib.sha256(content).hexdigest()[:32]}.jsonl"
