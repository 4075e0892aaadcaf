"""The calls of a build: retried, recorded, replayed, and never lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import Report, make_rows, make_task
from tests.training.refusing import refusing
from tests.training.test_recipes import build

from pytest_finetune.calls import Budget, Calling, Line, OverBudget, Retries, Traffic
from pytest_finetune.calls.records import Replay
from pytest_finetune.core.pricing import SANDBOX_PRICES
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import attach
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.store import Calls, Spending, Store
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.optimizers import build_prompt_optimized
from pytest_finetune.training.runs import run_program

FAULTS = [
    Fault(kind=kind, operation="create_chat_completion", rate=0.05, seconds=seconds)
    for kind, seconds in (
        (FaultKind.RATE_LIMIT, 0.05),
        (FaultKind.SERVER_ERROR, 0.0),
        (FaultKind.DROP, 0.0),
        (FaultKind.HANG, 20.0),
    )
]


def line_to(endpoint: Endpoint, calls: Calls, budget: Budget | None = None, timeout: float = 10.0) -> Line:
    quick = Retries(first=0.02)
    return Line.to(endpoint, Calling(Traffic(32), quick, timeout, budget or Budget(), Replay(calls, "training")))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "rows.sqlite"
    Store.create(path).close()
    return path


@pytest.fixture
def calls(store: Path) -> Iterator[Calls]:
    with Calls(store) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _counted_anew(sandbox: Sandbox) -> None:
    sandbox.forget_requests()


def chats(sandbox: Sandbox) -> int:
    count: int = sandbox.request_counts()["total"]
    return count


def test_faults_while_bootstrapping_leave_the_training_file_as_it_was(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, calls: Calls, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=11)
    calm = build(task, endpoint, journal, report)
    sandbox.set_faults(*FAULTS)
    elsewhere = journal.parent / "elsewhere" / "jobs.jsonl"
    stormy = build(task, line_to(endpoint, calls, timeout=0.5), elsewhere, report, concurrency=32)
    assert stormy.models[""].training_file == calm.models[""].training_file
    assert stormy.models[""].job.validation_file == calm.models[""].job.validation_file  # found by what is in it


@pytest.mark.parametrize("optimizer", ["labeled_few_shot", "bootstrap_random_search", "miprov2"])
def test_a_search_that_is_run_again_asks_nothing_again(
    sandbox: Sandbox, endpoint: Endpoint, store: Path, report: Report, optimizer: str
) -> None:
    options = {"num_trials": 2, "num_candidates": 2} if optimizer == "miprov2" else {}
    task = make_task(optimizer=optimizer, optimizer_options=options, seed=12)

    def search() -> Any:
        with Calls(store) as calls:
            lm = line_to(endpoint, calls).lm(task.student, **task.decoding())
            return build_prompt_optimized(
                task, lm, trainset=task.dataset.train, devset=task.dataset.dev, report=report, concurrency=1
            )

    first = search()
    assert chats(sandbox) > 0
    before = chats(sandbox)
    again = search()
    assert chats(sandbox) == before
    assert (again.dev_baseline, again.dev_optimized) == (first.dev_baseline, first.dev_optimized)


SCRIPT = """
import sys; from pathlib import Path
from pytest_finetune.endpoints import Endpoint; from pytest_finetune.store import Calls
from tests.training.conftest import make_task; from tests.training.test_calls import line_to
from tests.training.test_recipes import build
with Calls(Path(sys.argv[2])) as calls:
    line = line_to(Endpoint("sandbox", sys.argv[1]), calls)
    build(make_task(recipe_options={"source": "baseline"}, seed=13), line, Path(sys.argv[3]), print, concurrency=4)
"""


def test_a_build_that_is_killed_repeats_nothing_that_it_paid_for(
    sandbox: Sandbox, endpoint: Endpoint, store: Path, journal: Path
) -> None:
    command = [sys.executable, "-c", SCRIPT, endpoint.base_url, str(store), str(journal)]
    root = Path(__file__).parents[2]
    sandbox.set_faults(Fault(kind=FaultKind.SLOW, operation="create_chat_completion", seconds=0.1))
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while chats(sandbox) < 20 and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    sandbox.set_faults()
    assert 20 <= chats(sandbox) < 60
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    assert chats(sandbox) <= 60 + 4  # what was in flight, at most


def test_a_cap_stops_a_build_and_what_was_answered_is_kept(
    sandbox: Sandbox, endpoint: Endpoint, store: Path, journal: Path, calls: Calls, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=14)
    with Spending(store, "one") as ledger:
        line = line_to(endpoint, calls, Budget([SANDBOX_PRICES], cap=0.002, ledger=ledger))
        with pytest.raises(OverBudget, match=r"of the cap of \$0\.002"):
            build(task, line, journal, report, concurrency=4)
        assert 0 < ledger.spent() <= 0.002
    asked = chats(sandbox)
    build(task, line_to(endpoint, calls), journal, report)
    assert 0 < asked < 60
    assert chats(sandbox) == 60


@pytest.mark.parametrize("recipe", ["bootstrap", "dpo"])
def test_an_endpoint_that_refuses_every_row_is_not_trained_on(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, recipe: str
) -> None:
    task = make_task(recipe=recipe)
    told = r"the endpoint refused 8 rows in a row, .*Next: see what"
    asked: list[str] = []
    refuses = refusing(sandbox, "POST", "/chat/completions", status=400, refused=asked)
    with refuses as base_url, pytest.raises(TrainingError, match=told):
        build(task, replace(endpoint, base_url=base_url), journal, report, concurrency=4)
    assert not journal.exists()  # no job was begun
    assert 8 <= len(asked) < 20  # and what was in flight, of 60


@pytest.mark.parametrize(("code", "refused"), [("", 7), ("content_filter", 20)])
def test_rows_that_are_refused_for_their_own_sake_are_left_out(
    sandbox: Sandbox, endpoint: Endpoint, code: str, refused: int
) -> None:
    task, spared = make_task(), range(refused, 60)
    with refusing(sandbox, "POST", "/chat/completions", status=400, code=code, spared=spared) as base_url:
        program = attach(task.program(), replace(endpoint, base_url=base_url).lm(task.student))
        runs = run_program(program, task.dataset.train, adapter=task.make_adapter(), concurrency=1)
    assert [run.prediction is None for run in runs] == [True] * refused + [False] * (60 - refused)


def test_a_program_that_hides_refusals_does_not_hide_the_endpoint_s_fault(
    sandbox: Sandbox, endpoint: Endpoint, calls: Calls
) -> None:
    import dspy

    task = make_task()

    class Guess(dspy.Module):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.name = task.program()

        def forward(self, **inputs: Any) -> Any:
            try:
                return self.name(**inputs)
            except Exception:  # noqa: BLE001  # as programs do
                return dspy.Prediction(colour="red")

    with refusing(sandbox, "POST", "/chat/completions", status=400) as base_url:
        program = attach(Guess(), line_to(replace(endpoint, base_url=base_url), calls).lm(task.student))
        with pytest.raises(TrainingError, match="the endpoint refused 8 rows in a row"):
            run_program(program, task.dataset.train, adapter=task.make_adapter(), concurrency=1)


@pytest.mark.parametrize(("dev", "spared"), [(10, {*range(10), *range(30, 1000)}), (5, range(5))])
def test_prompts_that_were_found_while_the_endpoint_refused_calls_are_not_kept(
    sandbox: Sandbox, endpoint: Endpoint, tmp_path: Path, report: Report, dev: int, spared: Container[int]
) -> None:
    splits = {"train": make_rows(60, 1), "dev": make_rows(dev, 2), "test": make_rows(10, 3)}
    data = Dataset.from_examples(splits, inputs=["thing"])
    task = make_task(dataset=data, optimizer="bootstrap_random_search")
    rows: Any = {"trainset": data.train, "devset": data.dev}
    told = r"calls of the optimizer bootstrap_random_search were lost to the endpoint, first by LMInvalidRequestError"
    with refusing(sandbox, "POST", "/chat/completions", status=400, spared=spared) as base_url:
        lm, kept = replace(endpoint, base_url=base_url).lm(task.student), Checkpoints(tmp_path, endpoint)
        with pytest.raises(TrainingError, match=told):
            build_prompt_optimized(task, lm, **rows, report=report, concurrency=1, checkpoints=kept)
    assert list(tmp_path.iterdir()) == []
