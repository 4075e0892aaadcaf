"""The rows that a task was accepted on, beside its lock: claims are judged on them once more, and nobody is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_finetune.core.claims import ScopedClaim
from pytest_finetune.core.records import Evidence, Row
from pytest_finetune.errors import LockError
from pytest_finetune.lock.accepted import SettledClaim
from pytest_finetune.lock.model import Entry, Lock, Version
from pytest_finetune.task import Task
from pytest_finetune.workflow.evaluations import Bench, stages_of
from pytest_finetune.workflow.gate import NothingAccepted, Pairing
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.stages import PinnedStage, accepted_on


@dataclass(frozen=True)
class KeptRows:
    """What verdicts rest on.

    Args:
        tasks: The tasks of today.
        pinning: The stages of the lock.
    """

    tasks: Mapping[str, Task]
    pinning: Pinning

    def evidence(self, scoped: ScopedClaim, settled: SettledClaim) -> Evidence:
        """The evidence that a claim was settled on, paired as the gate does.

        Args:
            scoped: The claim, and on which rows.
            settled: How many of these it was settled on, and which accepted rows it was compared with.

        Raises:
            EvidenceError: If no verdict may rest on it.
            LockError: If rows are missing or damaged, or what they were asked has changed.
        """
        accepted = self._accepted(scoped, settled) if scoped.claim.uses_locked else Lock()
        source = _Beside(self.tasks, self.pinning, settled)
        try:
            return Pairing(source, accepted, self.pinning.locks).evidence(scoped)
        except NothingAccepted as error:
            raise LockError(f"{scoped.task}: the claim {settled.claim!r} cannot be judged again: {error}") from None

    def _accepted(self, scoped: ScopedClaim, settled: SettledClaim) -> Lock:
        """The lock as it was, as far as the claim looked at it: the version whose rows stood for ``locked``."""
        stage = next(iter(stages_of(scoped.claim)))
        for version in self.pinning.lock.entry(scoped.task, stage).versions:
            before = Entry(**{name: getattr(version, name) for name in Version.model_fields})
            rows = accepted_on(before, scoped.scope.suite)
            if rows is not None and rows.rows == settled.locked:
                return Lock(model=(before,))
        raise LockError(
            f"{scoped.task}/{stage}: the claim {settled.claim!r} was compared with rows that no version in the lock"
            f" was accepted on: gate it again with pytest --ft-retrain --ft-task {scoped.task}"
        )


@dataclass(frozen=True)
class _Beside:
    """The rows of stages, beside the lock."""

    tasks: Mapping[str, Task]
    pinning: Pinning
    settled: SettledClaim

    def stage(self, bench: Bench, name: str) -> PinnedStage:
        task = self.tasks[bench.task]
        return self.pinning.stage(task, name).on(task.held_out(bench.suite), bench.suite)

    def rows(self, bench: Bench, stage: str) -> tuple[Row, ...]:
        pinned = self.stage(bench, stage)
        if not pinned.recorded:
            where = "the test split" if bench.suite is None else f"suite {bench.suite!r}"
            raise LockError(
                f"{pinned.entry.name}: what it was accepted on has changed: the rows of {where}, their metric or"
                f" their program: gate it again with pytest --ft-retrain --ft-task {bench.task}"
            )
        (ref,) = pinned.recorded
        return pinned.artifacts.get_rows(ref, stage)

    def seen(self, scoped: ScopedClaim) -> int | None:  # noqa: ARG002  # it is of one claim
        return self.settled.seen if self.settled.planned is not None else None
