from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import Report, make_program, make_reasoning_program, make_task

from pytest_finetune import metrics
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import dump_state
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.task import Task
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.optimizers import Optimized, build_prompt_optimized

FEW = {"num_candidate_programs": 1, "max_bootstrapped_demos": 2}
SMALL: dict[str, dict[str, Any]] = {
    "miprov2": {"num_trials": 2, "num_candidates": 3, "max_bootstrapped_demos": 2},
    "gepa": {"max_metric_calls": 40, "auto": None},
    "bootstrap_random_search": FEW,
    "labeled_few_shot": {"k": 8},
}


def optimize(task: Task, endpoint: Endpoint, report: Report, **more: Any) -> Optimized:
    lm = endpoint.lm(task.student, **task.decoding())
    return build_prompt_optimized(
        task, lm, trainset=task.dataset.train, devset=task.dataset.dev, report=report, concurrency=8, **more
    )


def test_rows_that_failed_are_told_of(endpoint: Endpoint, report: Report) -> None:
    optimize(make_task(optimizer_options={"k": 17}), endpoint, report)
    assert "30 dev rows gave no usable answer, the first: ContextWindowExceededError" in report.text


@pytest.mark.parametrize("optimizer", sorted(SMALL))
def test_every_optimizer_gives_a_program_that_can_be_asked(
    endpoint: Endpoint, report: Report, capfd: pytest.CaptureFixture[str], optimizer: str
) -> None:
    task = make_task(optimizer=optimizer, optimizer_options=SMALL[optimizer])
    found = optimize(task, endpoint, report)
    assert found.program.get_lm().model == "openai/sandbox-small"
    assert found.dev_optimized >= found.dev_baseline or found.kept_baseline
    assert found.kept_baseline == (found.dev_optimized <= found.dev_baseline)
    assert [name for name, _ in found.program.named_predictors()] == ["self"]
    assert report[0].startswith(f"Baseline: {found.dev_baseline:.3f} on 30 dev rows. Optimizing prompts with ")
    out, err = capfd.readouterr()
    assert (out, [line for line in err.splitlines() if "Model metadata" not in line]) == ("", [])


def test_demonstrations_help(endpoint: Endpoint, report: Report) -> None:
    found = optimize(make_task(optimizer_options={"k": 16}), endpoint, report)
    assert found.dev_optimized > found.dev_baseline
    assert len(found.program.predictors()[0].demos) == 16


def test_the_same_seed_finds_the_same_program(endpoint: Endpoint, report: Report) -> None:
    task = make_task(optimizer="miprov2", optimizer_options=SMALL["miprov2"], program=make_reasoning_program, seed=3)
    first, second = (optimize(task, endpoint, report).program.predictors()[0] for _ in range(2))
    assert second.signature.instructions == first.signature.instructions
    assert [dict(demo) for demo in second.demos] == [dict(demo) for demo in first.demos]


def test_prompts_that_were_found_are_kept_for_the_next_run(
    sandbox: Sandbox, endpoint: Endpoint, report: Report, tmp_path: Path
) -> None:
    task, kept = (
        make_task(optimizer="bootstrap_random_search", optimizer_options=FEW, seed=4),
        Checkpoints(tmp_path, endpoint),
    )
    first = optimize(task, endpoint, report, checkpoints=kept)
    sandbox.forget_requests()
    second = optimize(task, endpoint, report, checkpoints=kept)
    assert sandbox.request_counts()["by_model"] == {"sandbox-small": 60}  # dev, by the baseline and by what was found
    assert "Taking up the prompts that an earlier run has kept." in report
    assert (second.dev_optimized, second.notes) == (first.dev_optimized, first.notes)
    assert dump_state(second.program) == dump_state(first.program)
    optimize(
        make_task(optimizer="bootstrap_random_search", optimizer_options=FEW, seed=5),
        endpoint,
        report,
        checkpoints=kept,
    )
    assert report.text.count("Taking up") == 1


class DoesNothing:
    """A user's teleprompter that gives back what it got, without its LM."""

    def compile(self, student: Any, *, trainset: Any) -> Any:
        assert len(trainset) == 60
        student.set_lm(None)
        return student


def test_a_user_s_own_that_finds_nothing_keeps_the_baseline(endpoint: Endpoint, report: Report) -> None:
    found = optimize(make_task(optimizer=lambda _: DoesNothing()), endpoint, report)
    assert found.kept_baseline
    assert found.dev_optimized == found.dev_baseline
    assert found.program.get_lm().model == "openai/sandbox-small"
    assert "dev did not rise, so the baseline is kept" in report.text


class Breaks:
    def compile(self, student: Any) -> Any:
        raise RuntimeError(f"no luck with {type(student).__name__}")


def test_an_optimizer_that_fails_is_named(endpoint: Endpoint, report: Report) -> None:
    def my_own(_: Task) -> Breaks:
        return Breaks()

    with pytest.raises(TrainingError, match="the optimizer my_own failed: RuntimeError: no luck with Predict"):
        optimize(make_task(optimizer=my_own), endpoint, report)


class LosesCalls:
    """Hides what it meets, as DSPy's own do."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def compile(self, student: Any, *, trainset: Any) -> Any:
        self.sandbox.set_shutdown("sandbox-small", "2020-01-01")
        try:
            student(thing=trainset[0].thing)
        except Exception:  # noqa: BLE001
            return student
        finally:
            self.sandbox.set_shutdown("sandbox-small", None)


def test_calls_that_an_optimizer_lost_are_an_error(sandbox: Sandbox, endpoint: Endpoint, report: Report) -> None:
    with pytest.raises(TrainingError, match=r"1 calls of the optimizer .* were lost to the endpoint"):
        optimize(make_task(optimizer=lambda _: LosesCalls(sandbox)), endpoint, report)


def test_an_endpoint_that_is_away_from_the_start_is_an_error(
    sandbox: Sandbox, endpoint: Endpoint, report: Report
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR))
    task = make_task()
    lm = endpoint.lm(task.student, num_retries=0)
    with pytest.raises(TrainingError, match="the endpoint failed while a row was asked"):
        build_prompt_optimized(task, lm, trainset=task.dataset.train, devset=task.dataset.dev, report=report)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "magic"}, "there is no optimizer 'magic': use miprov2, gepa, "),
        ({"optimizer": "gepa", "optimizer_options": {"speed": 3}}, "dspy.GEPA has no option speed"),
        ({"optimizer": DoesNothing, "optimizer_options": {"k": 3}}, "optimizer_options are for built-in optimizers"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    report: Report, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        optimize(make_task(**changes), Endpoint("nowhere", "http://127.0.0.1:9/v1"), report)


def test_where_lower_is_better_the_optimizer_goes_down(endpoint: Endpoint, report: Report) -> None:
    def wrong(row: Any, prediction: Any, _: Any = None) -> bool:
        return bool(row.colour != prediction.colour)

    upwards = optimize(make_task(optimizer_options={"k": 16}), endpoint, report)
    metric = metrics.as_metric(wrong, higher_is_better=False, binary=True)
    downwards = optimize(make_task(metric=metric, optimizer_options={"k": 16}), endpoint, report)
    assert (downwards.dev_baseline, downwards.dev_optimized) == (upwards.dev_baseline, upwards.dev_optimized)
    assert make_program().demos == []
