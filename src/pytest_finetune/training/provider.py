"""The seam to DSPy: a ``dspy.Provider`` whose jobs run through a `JobRunner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import TrainingError
from pytest_finetune.training.history import keep_history
from pytest_finetune.training.jobs import JobFacts, JobRequest, JobRunner
from pytest_finetune.training.steady import Interrupted

if TYPE_CHECKING:
    import dspy

PREFIX = "openai/"
"""In front of every id, fine-tuned ones included: so DSPy asks all of them by the same engine."""

FEWEST_ROWS = 10
"""OpenAI's own floor ("must have at least 10 examples"): below it a job fails after the upload."""

MakeFile = Callable[[Sequence[Mapping[str, Any]]], bytes]
MakeRequest = Callable[[str, bytes, Mapping[str, Any]], JobRequest]


def job_provider(runner: JobRunner, make_file: MakeFile, make_request: MakeRequest) -> dspy.Provider:
    """Give a provider for ``dspy.LM(…, provider=…)``.

    Its attribute ``outcomes`` lists a pair for each job that succeeded: the training file's bytes, and the
    `JobFacts`. Deep copies of an LM share it.

    Args:
        runner: Creates and follows the jobs.
        make_file: Turns rows into a training file that was checked.
        make_request: Turns a model's id, a training file, and the hyperparameters that DSPy was given as
            ``train_kwargs``, into a request.
    """
    import dspy

    class Job(dspy.TrainingJob):  # type: ignore[misc]  # dspy ships no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.thread is not None:
                self.thread.daemon = True  # Ctrl-C must not hang until the job ends

        def status(self) -> str:
            return "done" if self.done() else "running"

    class JobProvider(dspy.Provider):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.finetunable = True
            self.TrainingJob = Job
            self.outcomes: list[tuple[bytes, JobFacts]] = []

        def __deepcopy__(self, memo: dict[int, Any]) -> JobProvider:
            return self

        def finetune(
            self,
            job: Job,
            model: str,
            train_data: Sequence[Mapping[str, Any]],
            train_data_format: object,  # noqa: ARG002  # the rows are chats
            train_kwargs: Mapping[str, Any] | None = None,
        ) -> str:
            training, base = make_file(train_data), model.removeprefix(PREFIX)
            try:
                facts = runner.run(make_request(base, training, train_kwargs or {}))
            except Interrupted as left:
                job.set_result(left)
                raise SystemExit from None  # ends the thread: DSPy would log an error, of which there is none
            if facts.model == base:
                raise TrainingError(f"job {facts.id} gave back its base model {base!r}: nothing was trained")
            keep_history(runner, facts)
            self.outcomes.append((training, facts))
            return PREFIX + facts.model

    return JobProvider()
