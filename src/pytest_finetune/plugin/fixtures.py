"""The fixtures that tests can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.core.results import StageScore
    from pytest_finetune.dataset import Dataset
    from pytest_finetune.metrics import Metric
    from pytest_finetune.plugin.markers import GatedClaim
    from pytest_finetune.sandbox import Sandbox
    from pytest_finetune.task import Task
    from pytest_finetune.workflow.run import Run

T = TypeVar("T")


@pytest.fixture
def _ft_claim(request: pytest.FixtureRequest) -> GatedClaim:
    claim: GatedClaim = request.param
    return claim


@pytest.fixture(scope="session")
def _ft_run(pytestconfig: pytest.Config) -> Run:
    from pytest_finetune.plugin import session_of

    return session_of(pytestconfig).run


@pytest.fixture(scope="session")
def ft_tasks(_ft_run: Run) -> Mapping[str, Task]:
    """The tasks of the tasks files, by id: ``ft_tasks["tickets"]``. No model is called for it."""
    return _told(lambda: _ft_run.tasks)


@pytest.fixture
def ft_task(request: pytest.FixtureRequest, ft_tasks: Mapping[str, Task]) -> Task:
    """The task of the test's own claim: for tests that are marked with ``ft_ladder`` or ``ft_claim``."""
    from pytest_finetune.plugin.session import claim_of

    gated = claim_of(request.node)
    if gated is None:
        pytest.fail(
            f"{request.node.nodeid}: ft_task is the task of a test's claim, and this test has none: mark it with"
            " ft_ladder or ft_claim, or take a task by its name: ft_tasks['tickets']",
            pytrace=False,
        )
    return ft_tasks[gated.task]


@pytest.fixture
def ft_dataset(ft_task: Task) -> Dataset:
    """The rows of the test's task, as ``dspy.Example`` objects: ``.train``, ``.dev`` and ``.test``."""
    return ft_task.dataset


@pytest.fixture
def ft_metric(ft_task: Task) -> Metric:
    """The metric of the test's task: ``ft_metric(example, prediction)`` gives a score in [0, 1]."""
    return ft_task.scorer


@pytest.fixture
def ft_student_lm(_ft_run: Run, ft_task: Task) -> dspy.LM:
    """The model that the test's task tunes, before it is tuned, on the task's endpoint."""
    return _told(lambda: _ft_run.lm(ft_task, ft_task.student))


@pytest.fixture
def ft_teacher_lm(_ft_run: Run, ft_task: Task) -> dspy.LM:
    """The stronger model of the test's task, on the task's endpoint."""
    teacher = ft_task.teacher
    if teacher is None:
        pytest.fail(f"task {ft_task.id!r} has no teacher: give it one with Task(teacher='MODEL')", pytrace=False)
    return _told(lambda: _ft_run.lm(ft_task, teacher))


@pytest.fixture
def ft_baseline(_ft_run: Run, ft_task: Task) -> dspy.Module:
    """The plain program of the test's task with the student: ``ft_baseline(text="…")`` calls the model."""
    return _program(_ft_run, ft_task, "baseline")


@pytest.fixture
def ft_prompt_optimized(_ft_run: Run, ft_task: Task) -> dspy.Module:
    """The prompt-optimized program as the lock pins it: ``ft_prompt_optimized(text="…")`` calls the model."""
    return _program(_ft_run, ft_task, "prompt_optimized")


@pytest.fixture
def ft_finetuned(_ft_run: Run, ft_task: Task) -> dspy.Module:
    """The program with the fine-tuned model that the lock pins: ``ft_finetuned(text="…")`` calls the model."""
    return _program(_ft_run, ft_task, "finetuned")


@pytest.fixture
def ft_scores(request: pytest.FixtureRequest, _ft_run: Run, ft_task: Task) -> Mapping[str, StageScore]:
    """How the stages of the test's own claim did on the rows that it is about: ``ft_scores["finetuned"].mean``.

    A score has ``mean``, ``lower`` and ``upper`` (its 95 % interval), ``n``, ``format_errors``, ``errors`` and the
    ``model`` that answered.
    """
    from pytest_finetune.plugin.session import claim_of
    from pytest_finetune.workflow.evaluations import Bench, stages_of

    gated = claim_of(request.node)
    if gated is None:
        return {}
    bench = Bench(ft_task.id, gated.on)
    return {stage: _ft_run.evaluations.score(bench, stage) for stage in stages_of(gated.claim)}


@pytest.fixture(scope="session")
def ft_sandbox() -> Iterator[Sandbox]:
    """A local OpenAI-shaped server that learns from the files it is given: no key, no network, no cost.

    ``ft_sandbox.base_url`` is the address for an OpenAI client or a ``dspy.LM``; any key will do. Its models are
    ``sandbox-small`` and ``sandbox-large``. ``ft_sandbox.set_faults(...)`` makes it fail as a provider may fail.
    Needs the extra ``[sandbox]``.
    """
    from pytest_finetune.sandbox import Sandbox, SandboxError

    sandbox = Sandbox()
    try:
        sandbox.start()
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)
    yield sandbox
    sandbox.stop()


def _program(run: Run, task: Task, stage: str) -> dspy.Module:
    return _told(lambda: run.evaluations.program(task.id, stage))


def _told(make: Callable[[], T]) -> T:
    """What ``make`` gives; what this package refuses is one message, without a traceback."""
    from pytest_finetune.errors import FinetuneError

    try:
        return make()
    except FinetuneError as error:
        message = str(error)
    pytest.fail(message, pytrace=False)
