"""Live endpoints. The sandbox is started when it is first needed, and knows the models that the lock pins.

On other endpoints, trained models are deployed for the length of the run, where the endpoint says how.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import EndpointError, LockError, MissingExtra
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import Version
from pytest_finetune.lock.tuned import Job
from pytest_finetune.training.contents import method_of
from pytest_finetune.workflow.serving import Deployments

if TYPE_CHECKING:
    from pytest_finetune.sandbox import Sandbox


@dataclass
class Connections:
    """The endpoints of one run.

    Args:
        state: Where the sandbox keeps its jobs, for a run that trains; ``None``: nowhere, for one that only asks.
        address: Of a sandbox that another process of the run has started.
        joins: Another process of the run deploys what is asked here.
    """

    state: Path | None = None
    address: str | None = None
    joins: bool = False
    deployments: Deployments = field(default_factory=Deployments)
    _sandbox: Sandbox | None = None
    _restored: set[str] = field(default_factory=set)

    def live(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with an address that answers.

        Raises:
            MissingExtra: If the sandbox is meant and not installed.
            EndpointError: If the key or a header is not to be had, or the sandbox does not start.
        """
        if endpoint.name == SANDBOX:
            return replace(endpoint, base_url=self.sandbox().base_url)
        endpoint.check()
        return endpoint

    def sandbox(self) -> Sandbox:
        """The run's sandbox, started if it is not running."""
        from pytest_finetune.sandbox import Sandbox, SandboxError, Settings

        if self._sandbox is None and self.address is not None:
            self._sandbox = Sandbox.at(self.address)
        if self._sandbox is None:
            sandbox = Sandbox(Settings(state_dir=self.state))
            try:
                sandbox.start()
            except SandboxError as error:
                kind = MissingExtra if "pip install" in str(error) else EndpointError
                raise kind(str(error)) from None
            self._sandbox = sandbox
        return self._sandbox

    def deploy(self, entry: Version, endpoint: Endpoint) -> None:
        """Make a trained model callable with the endpoint's commands, if it names any.

        Raises:
            EndpointError: If one of them fails.
        """
        for tuned in entry.models.values():
            if tuned.asked_as != entry.base and not self.joins:
                self.deployments.serve(endpoint, tuned.model, tuned.asked_as)

    def serve(self, entry: Version, endpoint: Endpoint, artifacts: Artifacts) -> None:
        """Make a pinned model callable: with the endpoint's commands, or by fitting it again in the sandbox.

        Raises:
            LockError: If the lock does not hold what the sandbox needs.
            EndpointError: If a command of the endpoint fails.
        """
        self.deploy(entry, endpoint)
        for predictor, tuned in entry.models.items():
            if entry.endpoint == SANDBOX and tuned.job is not None and tuned.model not in self._restored:
                self._restore(entry, tuned.model, tuned.job, entry.artifacts.trainings.get(predictor), artifacts)

    def _restore(self, entry: Version, model: str, job: Job, training: str | None, artifacts: Artifacts) -> None:
        if training is None:
            raise LockError(
                f"{entry.name}: the lock names no training file, so the sandbox cannot serve {model!r}:"
                f" pytest --ft-retrain --ft-task {entry.task}"
            )
        from pytest_finetune.sandbox import SandboxError

        file = artifacts.path(training)
        kind = method_of(artifacts.get_bytes(training))  # which checks its hash
        seed = entry.seed if job.seed is None else job.seed
        try:
            method = {"type": kind, kind: {"hyperparameters": dict(job.hyperparameters)}}
            self.sandbox().restore(model, file, model=entry.base, seed=seed, method=method)
        except SandboxError as error:
            raise EndpointError(f"{entry.name}: the sandbox cannot serve {model!r}: {error}") from None
        self._restored.add(model)

    def close(self) -> None:
        """Take down what was deployed, and stop the sandbox, if it was started."""
        self.deployments.close()
        if self._sandbox is not None:
            self._sandbox.stop()
            self._sandbox = None
