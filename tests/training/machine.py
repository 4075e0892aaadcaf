"""A build in a process of its own, which may be killed: it loads no more than that takes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.training.jobs import JobRequest, JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.remote import KEY
from pytest_finetune.training.request import file_name
from pytest_finetune.training.steady import Patience

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from multiprocessing.synchronize import Barrier

COMEBACK = "pytest-finetune train colours"
PRELOADED = ["openai", "openai.resources.files", "openai.resources.fine_tuning.jobs", "pytest_finetune.training.jobs"]


class Watched(Journal):
    """A journal that notes its boundaries, of which a line has two, before and after it, and calls at each."""

    def __init__(self, path: Path, at_boundary: Callable[[str], None] | None = None) -> None:
        super().__init__(path)
        self.passed: list[str] = []
        self.at_boundary = at_boundary

    def write(self, key: str, state: str, **facts: Any) -> None:
        self._pass(f"before {state}")
        super().write(key, state, **facts)
        self._pass(f"after {state}")

    def _pass(self, boundary: str) -> None:
        self.passed.append(boundary)
        if self.at_boundary is not None:
            self.at_boundary(boundary)


@dataclass
class Fate:
    """What happens to a build.

    Attributes:
        killed_at: The number of the boundary at which it is killed, from 1; 0: it is not.
        rivalled: Once its job is created, another machine creates the same one, and dies.
        start: All builds that wait here start at once.
    """

    killed_at: int = 0
    rivalled: bool = False
    start: Barrier | None = None


def build(endpoint: Endpoint, request: JobRequest, journal: Path, fate: Fate) -> list[str]:
    """Run the job, write its model's id beside the journal, and give the boundaries that were passed."""
    patience = Patience(first=0.01, longest=0.1, settling=1.2 if fate.start else 0.05)
    watched = Watched(journal)
    runner = JobRunner(endpoint, watched, report=lambda _: None, comeback=COMEBACK, patience=patience)

    def meet(boundary: str) -> None:
        if len(watched.passed) == fate.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if fate.rivalled and boundary == "after created":
            fate.rivalled = False
            rival(endpoint, request)

    watched.at_boundary = meet
    if fate.start is not None:
        fate.start.wait(60)
    facts = runner.run(request)
    (journal.parent / "model.txt").write_text(facts.model, encoding="utf-8")
    return watched.passed


def rival(endpoint: Endpoint, request: JobRequest) -> None:
    """Leave behind what another machine does that was a second later, and died: copies, and a job that is paused."""
    time.sleep(1.1)
    with endpoint.client() as client:
        files = [
            client.files.create(file=(file_name(content), content), purpose="fine-tune").id
            for content in request.files().values()
        ]
        job = client.fine_tuning.jobs.create(
            model=request.model,
            training_file=files[0],
            validation_file=files[1],
            seed=request.seed,
            metadata={KEY: request.key(endpoint)},
        )
        client.fine_tuning.jobs.pause(job.id)


class Machines:
    """Starts builds cheaply: each is a fork of a process that has loaded what they need."""

    def __init__(self) -> None:
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)

    def start(self, endpoint: Endpoint, request: JobRequest, journal: Path, fate: Fate) -> ForkServerProcess:
        """Start a build."""
        process = self.context.Process(target=build, args=(endpoint, request, journal, fate))
        process.start()
        return process
