"""Live endpoints. The sandbox is started when it is first needed, and knows the models that the lock pins."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import EndpointError, LockError, MissingExtra
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import Entry

if TYPE_CHECKING:
    from pytest_finetune.sandbox import Sandbox


@dataclass
class Connections:
    """The endpoints of one run.

    Args:
        state: Where the sandbox keeps its jobs, for a run that trains; ``None``: nowhere, for one that only asks.
        address: Of a sandbox that another process of the run has started.
    """

    state: Path | None = None
    address: str | None = None
    _sandbox: Sandbox | None = None
    _restored: set[str] = field(default_factory=set)

    def live(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with an address that answers.

        Raises:
            MissingExtra: If the sandbox is meant and not installed.
            EndpointError: If the key is not set, or the sandbox does not start.
        """
        if endpoint.name == SANDBOX:
            return replace(endpoint, base_url=self.sandbox().base_url)
        endpoint.key()
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

    def serve(self, entry: Entry, artifacts: Artifacts) -> None:
        """Make a pinned model callable: only the sandbox needs it, and fits it again from its training file.

        Raises:
            LockError: If the lock does not hold what that takes.
        """
        if entry.endpoint != SANDBOX or entry.job is None or entry.model in self._restored:
            return
        if entry.artifacts.training is None:
            raise LockError(
                f"{entry.name}: the lock names no training file, so the sandbox cannot serve {entry.model!r}:"
                f" pytest --ft-retrain --ft-task {entry.task}"
            )
        from pytest_finetune.sandbox import SandboxError

        training = artifacts.path(entry.artifacts.training)
        artifacts.get_bytes(entry.artifacts.training)  # its hash is checked
        try:
            self.sandbox().restore(
                entry.model, training, model=entry.base, seed=entry.seed, hyperparameters=entry.job.hyperparameters
            )
        except SandboxError as error:
            raise EndpointError(f"{entry.name}: the sandbox cannot serve {entry.model!r}: {error}") from None
        self._restored.add(entry.model)

    def close(self) -> None:
        """Stop the sandbox, if it was started."""
        if self._sandbox is not None:
            self._sandbox.stop()
            self._sandbox = None
