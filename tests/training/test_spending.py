"""A job under a cap: its cost is set aside before its file is uploaded, and not asked for twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.conftest import Report, make_rows, make_task
from tests.training.test_fit import observed
from tests.training.test_jobs import COMEBACK, asked, on_server, runner
from tests.training.test_per_predictor import KILLED, jobs_of, make_seen
from tests.training.test_per_predictor import build as build_seen
from tests.training.test_recipes import build

from pytest_finetune.calls import Budget, Calling, Line, Traffic
from pytest_finetune.core.pricing import SANDBOX_PRICES, Prices
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.store import Spending, Store
from pytest_finetune.training.jobs import JobRequest
from pytest_finetune.training.remote import KEY, TASK
from pytest_finetune.training.request import file_name, mark_of

__all__ = ["asked"]

RATE = 3.0 / 1e6  # US dollars for each token that sandbox-small is trained on


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Spending]:
    path = tmp_path / "rows.sqlite"
    Store.create(path).close()
    with Spending(path, "run") as opened:
        yield opened


def capped(endpoint: Endpoint, ledger: Spending, cap: float, prices: Prices = (SANDBOX_PRICES,)) -> Line:
    return Line.to(endpoint, Calling(Traffic(8), budget=Budget(prices, cap=cap, ledger=ledger)))


def cost(asked: JobRequest) -> float:
    return asked.tokens * asked.most_epochs * RATE


def test_a_job_that_would_pass_the_cap_is_refused_before_its_file_is_uploaded(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending
) -> None:
    ledger.reserve(0.001, cap=1.0)
    line = capped(endpoint, ledger, 0.001 + cost(asked) * 0.99)
    with pytest.raises(TrainingError) as refused:
        runner(line, journal, report).run(asked)
    assert str(refused.value) == (
        f"a job for sandbox-small on endpoint 'sandbox' would pass the cap: about {asked.tokens:,} tokens times 2 "
        f"epochs cost ${cost(asked):.4f}, and $0.0010 of ${0.001 + cost(asked) * 0.99:g} are spent or set aside. "
        "Nothing was begun for it, and what was answered is kept. Next: raise the cap (--ft-max-cost; of train: "
        f'--max-cost), or set fewer epochs (hyperparameters={{"n_epochs": 1}} in the task), then run: {COMEBACK}'
    )
    assert on_server(endpoint, asked) == ([], 0)
    assert ledger.spent() == pytest.approx(0.001)


def test_what_the_job_was_billed_takes_the_place_of_what_was_set_aside(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending
) -> None:
    facts = runner(capped(endpoint, ledger, cost(asked) * 1.01), journal, report).run(asked)
    assert facts.trained_tokens is not None
    assert ledger.spent() == pytest.approx(facts.trained_tokens * RATE)
    assert ledger.spent() == pytest.approx(cost(asked), rel=0.05)  # as the sandbox counts


@pytest.mark.parametrize("journal_lost", [False, True])
def test_a_job_that_is_paid_for_is_taken_up_under_any_cap(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending, journal_lost: bool
) -> None:
    paid = runner(endpoint, journal, report).run(asked)
    if journal_lost:
        journal.unlink()
    for prices in ((SANDBOX_PRICES,), ()):
        assert runner(capped(endpoint, ledger, 0.0, prices), journal, report).run(asked) == paid
    assert (on_server(endpoint, asked), ledger.spent()) == ((["succeeded"], 1), 0.0)


def test_so_is_one_that_is_known_by_its_file_alone(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending
) -> None:
    with endpoint.client() as client:
        file = client.files.create(file=(file_name(asked.training), asked.training), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id, seed=asked.seed)
    assert runner(capped(endpoint, ledger, 0.0), journal, report).run(asked).id == job.id
    with pytest.raises(TrainingError, match="would pass the cap"):
        runner(capped(endpoint, ledger, 0.0), journal, report).run(replace(asked, seed=asked.seed + 1))
    assert ledger.spent() == 0.0


def test_where_nobody_knows_what_training_costs_a_cap_refuses_it(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending
) -> None:
    with pytest.raises(UsageError, match=r'price of training .sandbox-small., .*prices."sandbox-small"\] with'):
        runner(capped(endpoint, ledger, 100.0, ()), journal, report).run(asked)
    assert on_server(endpoint, asked) == ([], 0)


def test_a_job_that_the_endpoint_refuses_costs_nothing(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, ledger: Spending
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.TRAINING_NOT_AVAILABLE, times=1))
    with pytest.raises(TrainingError, match="may not train there"):
        runner(capped(endpoint, ledger, 1.0), journal, report).run(asked)
    assert ledger.spent() == 0.0


def test_each_of_several_seeds_is_set_aside(
    endpoint: Endpoint, journal: Path, report: Report, ledger: Spending
) -> None:
    once = {"recipe": "labels", "hyperparameters": {"n_epochs": 1}}
    build(make_task(**once, seed=370), capped(endpoint, ledger, 1.0), journal, report)
    one = ledger.spent()
    with pytest.raises(TrainingError, match="would pass the cap"):
        build(make_task(**once, seeds=(371, 372)), capped(endpoint, ledger, 2.5 * one), journal, report)
    assert ledger.spent() == pytest.approx(one)
    assert jobs_of(endpoint, 371) == []
    build(make_task(**once, seeds=(371, 372)), capped(endpoint, ledger, 3.5 * one), journal, report)
    assert ledger.spent() == pytest.approx(3 * one, rel=0.1)  # each is asked about dev, too


def test_the_jobs_of_all_predictors_are_set_aside_before_the_first_is_begun(
    endpoint: Endpoint, journal: Path, report: Report, ledger: Spending
) -> None:
    build_seen(make_seen(recipe="labels", seed=323), capped(endpoint, ledger, 100.0), journal, report)
    both = ledger.spent()
    with pytest.raises(TrainingError, match=r"would pass the cap: .* Nothing was begun for it, and"):
        build_seen(make_seen(recipe="labels", seed=324), capped(endpoint, ledger, both * 1.75), journal, report)
    assert (ledger.spent(), jobs_of(endpoint, 324)) == (both, [])
    build_seen(make_seen(recipe="labels", seed=324), capped(endpoint, ledger, both * 2.25), journal, report)
    assert ledger.spent() == pytest.approx(both * 2)


def test_a_job_bears_the_mark_of_its_task_which_is_another_for_other_rows(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", seed=374, hyperparameters={"n_epochs": 1})
    (trained,) = build(task, endpoint, journal, report).models.values()
    with endpoint.client() as client:
        job = client.fine_tuning.jobs.retrieve(trained.job.id)
    assert job.metadata == {KEY: trained.job.key, TASK: mark_of(task)}
    splits = {"train": make_rows(60, 9), "dev": make_rows(30, 2), "test": make_rows(30, 3)}
    others = make_task(dataset=Dataset.from_examples(splits, inputs=["thing"]))
    assert len({mark_of(one) for one in (task, others, make_task(name="lights"), make_task(student="large"))}) == 4


def test_a_model_that_is_paid_for_is_not_lost_to_the_cap_that_its_diagnosis_would_pass(
    endpoint: Endpoint, journal: Path, report: Report, ledger: Spending
) -> None:
    task = make_task(recipe="labels", seed=373, hyperparameters={"n_epochs": 1})
    tuned = build(task, capped(endpoint, ledger, 1.0), journal, report)
    nothing_left = capped(endpoint, ledger, ledger.spent())
    seen = observed(
        task,
        replace(tuned, program=attach(tuned.program, nothing_left.lm(tuned.model))),
        endpoint,
        journal.parent,
        report,
    )
    assert (seen.train, seen.dev) == (None, None)
    assert seen.losses
    assert report[-1].startswith(f"{tuned.model} is not diagnosed by its answers: the next request may cost $")


def test_a_job_of_one_predictor_that_was_begun_before_is_not_set_aside_again(
    endpoint: Endpoint, journal: Path, report: Report, ledger: Spending
) -> None:
    command = [sys.executable, "-c", KILLED.replace("303", "325"), endpoint.base_url, str(journal)]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=dict(os.environ), check=False)
    (first,) = jobs_of(endpoint, 325)
    build_seen(make_seen(recipe="labels", seed=326), capped(endpoint, ledger, 100.0), journal, report)
    both = ledger.spent()
    build_seen(make_seen(recipe="labels", seed=325), capped(endpoint, ledger, both * 1.75), journal, report)
    (second,) = (job for job in jobs_of(endpoint, 325) if job.id != first.id)
    assert ledger.spent() == pytest.approx(both + second.trained_tokens * RATE)


@pytest.mark.parametrize(("rows", "epochs"), [(10, 10), (12, 8), (33, 3), (34, 3), (200, 3), (10_000, 3), (1, 25)])
def test_nobody_sets_the_epochs_so_the_most_that_auto_comes_to_is_counted(rows: int, epochs: int) -> None:
    assert JobRequest("small", b"{}\n" * rows).most_epochs == epochs
    assert JobRequest("small", b"{}\n" * rows, hyperparameters={"n_epochs": "auto"}).most_epochs == epochs
    assert JobRequest("small", b"{}\n" * rows, hyperparameters={"n_epochs": 2}).most_epochs == 2
