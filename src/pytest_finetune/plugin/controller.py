"""The process that reports: the only one without pytest-xdist, the controller with it.

It is registered as a plugin of its own, and only where models are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_finetune.core.claims import ScopedClaim
from pytest_finetune.core.records import Policy
from pytest_finetune.core.results import Result
from pytest_finetune.errors import FinetuneError, UsageError
from pytest_finetune.secrets import shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from pytest_finetune.plugin.session import FinetuneSession

PROPERTY = "ft_result"
NOTHING_ACCEPTED = "ft_nothing_accepted"
SHARE = "ft_share"


@dataclass
class Collected:
    """The claims of a run.

    Attributes:
        tasks: The task of each item that judges a claim, by node id.
        incomplete: Tasks of which a claim was collected and not selected.
        doubts: What is to be said before anything is evaluated.
        expected: The claims that will be judged, each on its rows, and how strictly.
    """

    tasks: dict[str, str] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)
    expected: list[tuple[ScopedClaim, Policy]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Hand the claims to the controller."""
        path.write_bytes(_as_text().dump_json(self))

    def read(self, path: Path) -> None:
        """Take what a worker handed over; every worker collects the same."""
        handed = _as_text().validate_json(path.read_bytes())
        self.tasks |= handed.tasks
        self.incomplete |= handed.incomplete
        self.doubts, self.expected = handed.doubts, handed.expected


def _as_text() -> TypeAdapter[Collected]:
    from pydantic import TypeAdapter

    return TypeAdapter(Collected)


@dataclass
class Controller:
    """Follows the reports of claims, trains before the first test, and writes the lock after the last."""

    session: FinetuneSession
    outcomes: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    _trained: set[str] = field(default_factory=set)
    _built: bool = False
    _told: bool = False
    _deployed: bool = False

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say before anything is spent what cannot be certified."""
        return self.session.claims.doubts

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Train, where there are no workers and collection went well."""
        if not session.config.option.collectonly and not _distributes(session.config):
            self._train(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Train when the first worker has collected; blocking here holds the tests back."""
        self.session.claims.read(self.session.handover(node.workerinput["workerid"]))
        if not self._told:
            self._told = True
            for doubt in self.session.claims.doubts:
                self._say(doubt)
            self.session.run.expect(self.session.claims.expected)
        self._train(node.config.pluginmanager.getplugin("session"))
        self.session.share_sandbox()
        self._deploy()

    def _deploy(self) -> None:
        """Deploy once, for all workers; where it fails, the tests that need the model fail too."""
        if self._deployed:
            return
        self._deployed = True
        try:
            self.session.deploy()
        except FinetuneError as error:
            self._say(f"ERROR: {error}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember how each claim ended; of several attempts the last one counts."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                self._follow(report.nodeid, str(value))
        if report.nodeid in self.session.claims.tasks and (report.when == "call" or report.outcome != "passed"):
            self.outcomes[report.nodeid] = _end(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Lock what holds; a run in which no claim was judged is an error."""
        troubles = self.session.run.take_down()
        if troubles:
            self.said += [f"ERROR: {trouble}" for trouble in troubles]
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        if session.config.option.collectonly or exitstatus == pytest.ExitCode.INTERRUPTED:
            return
        try:
            if self._trained:
                self._lock(session)
        except FinetuneError as error:
            self.said.append(f"ERROR: {error}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._refuse_silence(session)

    def _refuse_silence(self, session: pytest.Session) -> None:
        """Claims without a verdict, or that do not hold, must not leave a run green because no test failed."""
        self._name_unjudged_locks(session)
        silent = [node_id for node_id, end in self.outcomes.items() if end == "not held"]
        if not self.session.claims.tasks:
            self.said.append(
                "ERROR: no claim was selected, so nothing was judged: mark a test with ft_ladder or ft_claim"
            )
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif silent:
            self.said.append(
                f"ERROR: {len(silent)} claims were skipped or xfailed, the first of them {silent[0]}: a claim that is"
                " not to block takes tier='advisory', or leaves the test file"
            )
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif not (self.results or self.session.run.retrain or self.session.run.settings.shard):
            self.said.append(
                "ERROR: every claim compares with what was accepted, and nothing was: no claim was judged"
            )
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _name_unjudged_locks(self, session: pytest.Session) -> None:
        """Of several locks, one on which nothing was claimed: an error where it was asked for in so many words."""
        run = self.session.run
        idle = [] if run.retrain else run.locks.without_claim(self.session.claims.tasks.values())
        for path in idle if len(run.locks.paths) > 1 else []:
            said = f"{run.locks.shown(path)} was given and not judged, since no claim on its tasks was selected"
            if run.settings.origins["models"] == "option":
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
                said = f"ERROR: {said}"
            self.said.append(said)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell the verdicts."""
        from pytest_finetune.reports.summary import summary

        unevaluated = [node_id for node_id, end in self.outcomes.items() if end == "not held"]
        unevaluated = [node_id for node_id in unevaluated if node_id not in self.results]
        if self.results or self.said or unevaluated:
            terminalreporter.write_sep("=", "fine-tuned models")
        explain = terminalreporter.config.get_verbosity() > 0
        for line in summary(list(self.results.values()), len(unevaluated), explain=explain):
            terminalreporter.write_line(line)
        for line in [*self._diagnosis(), *self.said]:
            terminalreporter.write_line(shown(line), red=line.startswith("ERROR"))

    def _diagnosis(self) -> list[str]:
        """What keeps the models back that this run has built."""
        if not self._trained:
            return []
        from pytest_finetune.workflow.diagnosis import after_the_gate

        return list(after_the_gate(self.session.run.observed, list(self.results.values())))

    def _follow(self, node_id: str, text: str) -> None:
        from pytest_finetune.plugin.transport import load

        self.results[node_id] = load(text)

    def _train(self, session: pytest.Session) -> None:
        if self._built or not self.session.run.retrain:
            return
        if session.testsfailed:
            raise session.Interrupted(f"errors during collection ({session.testsfailed}): nothing was built")
        self._built = True
        claimed = list(dict.fromkeys(self.session.claims.tasks.values()))
        wanted = self.session.run.settings.rebuild
        unclaimed = [task for task in wanted if task not in claimed]
        if unclaimed or not claimed:
            raise pytest.UsageError(_nothing_to_train(unclaimed, claimed))
        tasks = [task for task in claimed if not wanted or task in wanted]
        try:
            if session.config.getoption("ft_accept"):
                tasks = self._built_before(tasks)
            else:
                self._build(tasks)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        except FinetuneError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)
        self._trained = set(tasks)

    def _build(self, tasks: Sequence[str]) -> None:
        from pytest_finetune.workflow.build import build_candidate

        build_candidate(self.session.run, tasks, report=self._say)

    def _built_before(self, tasks: Sequence[str]) -> list[str]:
        """Those of the tasks that the candidate has otherwise than the lock."""
        from pytest_finetune.workflow.accept import changed_tasks, check_candidate

        changed = changed_tasks(self.session.run)
        found = [task for task in tasks if task in changed]
        if not found:
            raise UsageError(
                f"--ft-accept: {self.session.run.candidate} has nothing new of {', '.join(tasks)}: build one with"
                " pytest-finetune train, or adopt a model with pytest-finetune jobs adopt"
            )
        check_candidate(self.session.run, found)
        return found

    def _lock(self, session: pytest.Session) -> None:
        from pytest_finetune.workflow.accept import accept

        claims = self.session.claims
        for task in sorted(self._trained):
            items = [node_id for node_id, owner in claims.tasks.items() if owner == task]
            reason = self._objection(task, items)
            if reason is None:
                results = [self.results[node_id] for node_id in items if node_id in self.results]
                self.said += accept(self.session.run, task, results)
            else:
                session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
                self.said.append(
                    f"ERROR: {task}: not locked, since {reason}. The lock is as it was; what was built is kept in"
                    f" {self.session.run.candidate}"
                )

    def _objection(self, task: str, items: Sequence[str]) -> str | None:
        """Why a candidate must not be locked, if so."""
        ended = {self.outcomes.get(node_id) for node_id in items}
        if "not held" in ended:
            return "a claim does not hold"
        if None in ended or task in self.session.claims.incomplete:
            return "not every claim of it was run"
        return None

    def _say(self, sentence: str) -> None:
        reporter = self.session.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(shown(sentence))


def _end(report: pytest.TestReport) -> str:
    """How a claim's item ended; one that others judge, or that has nothing to compare with yet, stops nothing."""
    if report.skipped and any(name in (NOTHING_ACCEPTED, SHARE) for name, _ in report.user_properties):
        return "excused"
    passed = report.when == "call" and report.outcome == "passed" and not hasattr(report, "wasxfail")
    return "held" if passed else "not held"


def _distributes(config: pytest.Config) -> bool:
    """Whether pytest-xdist runs the tests in workers."""
    return bool(config.pluginmanager.hasplugin("dsession"))


def _nothing_to_train(unclaimed: list[str], claimed: list[str]) -> str:
    if unclaimed:
        return f"--ft-task {unclaimed[0]}: no collected claim names it; claimed are: {', '.join(claimed) or 'none'}"
    return (
        "--ft-retrain: no claim was collected, so there is nothing to train: mark a test with ft_ladder or ft_claim"
    )
