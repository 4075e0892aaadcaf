"""What the plugin knows during one run, and what it does at each of pytest's hooks."""

from __future__ import annotations

import contextlib
import gc
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_finetune.core.shell import typed
from pytest_finetune.errors import FinetuneError
from pytest_finetune.plugin import options
from pytest_finetune.plugin.controller import NOTHING_ACCEPTED, PROPERTY, SHARE, Collected, Controller
from pytest_finetune.plugin.markers import GatedClaim, claims_of, markers_of
from pytest_finetune.plugin.progress import ProgressLine

if TYPE_CHECKING:
    from pytest_finetune.core.results import Result
    from pytest_finetune.workflow.locks import Locks
    from pytest_finetune.workflow.run import Run

PARAMETER = "_ft_claim"
_SHOWN = 4  # locks that the header names
_UNGATED = (
    "its ft_ marker cannot take effect, so it would never be judged: put the marker on a test function or a plain"
    " test class, not on a unittest method, in pytest.param, or from a conftest"
)


@dataclass
class FinetuneSession:
    """One run of pytest, in one process."""

    config: pytest.Config
    claims: Collected = field(default_factory=Collected)
    _found: dict[str, str] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        """Whether models are evaluated in this run."""
        return options.is_asked_for(self.config)

    @cached_property
    def run(self) -> Run:
        """The run's settings, tasks, lock and gate."""
        from pytest_finetune.workflow.run import Run

        return Run(
            options.read(self.config),
            retrain=options.locks(self.config),
            shared=self._handover / "sandbox",
            joins=bool(self._shared),
            progress=ProgressLine(self.config),
        )

    @property
    def _shared(self) -> dict[str, Any]:
        """What the controller handed over, in a worker of pytest-xdist."""
        return dict(getattr(self.config, "workerinput", {}))

    def begin(self) -> None:
        """Make sure that the run can work at all, and register what reports.

        Raises:
            pytest.UsageError: If not.
        """
        try:
            self.run.check()
        except FinetuneError as error:
            raise pytest.UsageError(str(error)) from None
        # All that is imported by now stays, DSPy above all: no collection, pytest's last ones included, need walk it.
        gc.freeze()
        if not self._shared:
            self.config.pluginmanager.register(Controller(self), "finetune-controller")

    def header(self) -> list[str]:
        """What is gated, and each setting that is not the default, with where it came from."""
        from pytest_finetune.reports.header import given

        settings, called_from = self.run.settings, self.config.invocation_params.dir
        what = "building models, then gating them" if self.run.retrain else "gating"
        if self.config.getoption("ft_accept"):
            what = "gating the candidate, to be let in,"
        if settings.offline:
            what += " offline"
        if settings.stop_early:
            what += " with early stops"
        if settings.shard is not None:
            what = "evaluating share {}/{} of the rows, judging nothing,".format(*settings.shard)
        paths = self.run.locks.paths
        locks = [str(path.relative_to(called_from) if path.is_relative_to(called_from) else path) for path in paths]
        on = ", ".join(locks) if len(locks) <= _SHOWN else f"{len(locks)} locks"
        values = given({name: getattr(settings, name) for name in settings.origins}, settings.origins)
        return [f"finetune: {what} on {on}" + (f" ({values})" if values else "")]

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Make an item of each claim of a marked test.

        Raises:
            pytest.Collector.CollectError: If a marker is wrong.
        """
        try:
            claims = claims_of(markers_of(metafunc.definition), self._called(metafunc.definition.path))
            if self.enabled:
                settings = self.run.settings
                for _, gated in claims:
                    self.run.check_claim(gated.scoped(settings))
                    gated.policy(settings)  # refuses a margin or an alpha that is none
        except FinetuneError as error:
            raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
        metafunc.fixturenames.append(PARAMETER)
        metafunc.parametrize(
            PARAMETER, [claim for _, claim in claims], ids=[name for name, _ in claims], indirect=True
        )

    def _called(self, test: Path) -> Callable[[str], str]:
        """How the names of a test's markers are read: by the folders around it, once the tasks are loaded."""
        root = self.config.rootpath
        folder = test.parent.relative_to(root) if test.is_relative_to(root) else Path()
        return partial(self.run.tasks.called, folder=folder) if self.enabled else str

    def found(self, report: pytest.CollectReport, marked: Sequence[pytest.Item]) -> None:
        """Remember the claims of a report; turn it into a failure if an item is marked but carries no claim."""
        self._found |= {item.nodeid: gated.task for item in marked if (gated := claim_of(item)) is not None}
        ungated = [item.nodeid for item in marked if claim_of(item) is None]
        if ungated:
            report.outcome = "failed"
            report.longrepr = f"{ungated[0]}: {_UNGATED}"
            report.result = []

    def collected(self, items: Sequence[pytest.Item]) -> None:
        """Remember what will be judged; in a worker, hand it over."""
        claims = {item.nodeid: gated for item in items if (gated := claim_of(item)) is not None}
        self.claims.tasks |= {node_id: gated.task for node_id, gated in claims.items()}
        if self.enabled:
            settings = self.run.settings
            self.claims.expected = [(gated.scoped(settings), gated.policy(settings)) for gated in claims.values()]
            self.run.expect(self.claims.expected)
            self.claims.doubts = self._doubts()
        self.claims.incomplete |= {task for node_id, task in self._found.items() if node_id not in self.claims.tasks}
        if "ft_handover" in self._shared:
            self.claims.write(self.handover(self._shared["workerid"]))

    def _doubts(self) -> list[str]:
        from pytest_finetune.workflow.margins import doubt

        found = list[str]()
        for scoped, policy in self.claims.expected:
            with contextlib.suppress(FinetuneError):  # it is told where the claim is evaluated
                said = doubt(self.run.tasks[scoped.task], scoped, policy)
                if said is not None and said not in found:
                    found.append(said)
        return found

    @cached_property
    def _handover(self) -> Path:
        return Path(self._shared.get("ft_handover") or tempfile.mkdtemp(prefix="pytest-finetune-"))

    def handover(self, worker: str) -> Path:
        """The file in which a worker hands its claims over."""
        return self._handover / f"{worker}.json"

    def shared(self) -> dict[str, Any]:
        """What workers are told: where to hand claims over.

        Raises:
            pytest.UsageError: If the store of rows, which is made here before a worker opens it, cannot be used.
        """
        try:
            self.run.store  # noqa: B018
        except FinetuneError as error:
            raise pytest.UsageError(str(error)) from None
        return {"ft_handover": str(self._handover)}

    def share_sandbox(self) -> None:
        """Start the sandbox for all workers. Where that fails, the tests that need it say why."""
        with contextlib.suppress(FinetuneError):
            self.run.share_sandbox(dict.fromkeys(self.claims.tasks.values()))

    def deploy(self) -> None:
        """Deploy the models for all workers.

        Raises:
            FinetuneError: If that fails.
        """
        self.run.deploy(dict.fromkeys(self.claims.tasks.values()))

    def prepare(self, item: pytest.Item) -> None:
        """Evaluate what an item's claim needs; trouble here is an error of the setup."""
        gated = claim_of(item)
        if gated is None:
            pytest.fail(f"{item.nodeid}: {_UNGATED}", pytrace=False)
        if not self.enabled:
            self._leave_out(item)
        trouble = self._evaluate(item, gated)
        if trouble is not None:
            pytest.fail(trouble, pytrace=False)

    def _evaluate(self, item: pytest.Item, gated: GatedClaim) -> str | None:
        """Why a claim cannot be judged, if so; outside of ``except``, a failure drags no second traceback along."""
        from pytest_finetune.workflow.gate import NothingAccepted

        try:
            scoped = gated.scoped(self.run.settings)
            if self.run.settings.shard is not None:
                self._leave_to_the_others(item, self.run.evaluations.evaluate(scoped))
            self.run.gate.evidence(scoped)
        except NothingAccepted as error:
            if self.run.settings.require and not self.run.retrain:
                return f"{error} (ft_require is set)"
            item.user_properties.append((NOTHING_ACCEPTED, str(error)))
            pytest.skip(str(error))
        except FinetuneError as error:
            return str(error)
        return None

    def judge(self, item: pytest.Item) -> None:
        """Judge an item's claim; one that does not hold fails the item, without a traceback."""
        gated = claim_of(item)
        if gated is None:
            pytest.fail(f"{item.nodeid}: {_UNGATED}", pytrace=False)
        from pytest_finetune.plugin.transport import dump
        from pytest_finetune.reports.lines import failure

        result, trouble = self._judged(gated)
        if result is None:
            pytest.fail(trouble, pytrace=False)
        item.user_properties.append((PROPERTY, dump(result)))
        if result.settlement.blocking:
            pytest.fail("\n".join(failure(result)), pytrace=False)

    def _judged(self, gated: GatedClaim) -> tuple[Result | None, str]:
        """The result, or why there is none; outside of ``except``, a failure drags no second traceback along."""
        settings = self.run.settings
        try:
            return self.run.gate.judge(gated.scoped(settings), gated.policy(settings)), ""
        except FinetuneError as error:
            return None, str(error)

    def close(self) -> None:
        """Let go of the store, of the sandbox, and of what workers were told."""
        if "run" in self.__dict__:
            self.run.close()
        if "_handover" in self.__dict__ and not self._shared:
            shutil.rmtree(self._handover, ignore_errors=True)

    def _leave_to_the_others(self, item: pytest.Item, rows: int) -> None:
        """A share of the rows is evaluated, and cannot be judged."""
        number, of = self.run.settings.shard or (1, 1)
        item.user_properties.append((SHARE, str(rows)))
        pytest.skip(
            f"share {number}/{of} is evaluated ({rows} rows), and judged with the others: pytest-finetune merge, then"
            f" {self.run.locks.command} --ft-offline"
        )

    @cached_property
    def _locks(self) -> Locks:
        """The locks of the project, of a run that gates none."""
        from pytest_finetune.workflow.locks import Locks

        return Locks(options.read(self.config))

    def _leave_out(self, item: pytest.Item) -> None:
        reason, trouble = "", None
        try:
            lock = typed(self._locks.nearest(item.path))
            reason = f"models are evaluated on request: pytest --finetune-models={lock} '{item.nodeid}'"
            if self._locks.settings.require:
                trouble = f"{reason} (ft_require is set)"
        except (FinetuneError, pytest.UsageError) as error:
            trouble = str(error)
        if trouble is not None:
            pytest.fail(trouble, pytrace=False)
        pytest.skip(reason)


def claim_of(item: pytest.Item) -> GatedClaim | None:
    """The claim that an item judges."""
    parameters: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    claim = parameters.get(PARAMETER)
    return claim if isinstance(claim, GatedClaim) else None
