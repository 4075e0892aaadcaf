from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.training.conftest import Report, hurried, make_program, make_reasoning_program, make_rows, make_task

from pytest_finetune import metrics
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.task import Task
from pytest_finetune.training.optimizers import Optimized, build_prompt_optimized
from pytest_finetune.training.recipes import Finetuned, build_finetuned
from pytest_finetune.training.rows import NO_REASONING
from pytest_finetune.training.runs import mean_score, run_program


def plain(task: Task, endpoint: Endpoint) -> Optimized:
    """A prompt-optimized stage that was not optimized."""
    return Optimized(attach(task.program(), endpoint.lm(task.student, **task.decoding())), True, 0.0, 0.0)


def build(task: Task, endpoint: Endpoint, journal: Path, report: Report, **more: Any) -> Finetuned:
    optimized = more.pop("optimized", None) or plain(task, endpoint)
    return build_finetuned(task, endpoint, optimized, journal=journal, report=report, patience=hurried(), **more)


def score(task: Task, program: Any) -> float:
    return mean_score(
        run_program(program, task.dataset.test, adapter=task.make_adapter(), concurrency=8), task.scorer
    )


def rows_of(content: bytes) -> list[Any]:
    return [json.loads(line)["messages"] for line in content.splitlines()]


def asked_as_served(task: Task, built: Finetuned) -> set[str]:
    """The system prompts that the served program sends."""
    with dspy.context(adapter=task.make_adapter()):
        built.program(**task.dataset.test[0].inputs())
    history = built.program.predictors()[0].lm.history
    return {entry["messages"][0]["content"] for entry in history}


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_labels_are_learnt_and_served_as_they_were_trained(
    endpoint: Endpoint, journal: Path, report: Report, adapter: str
) -> None:
    task = make_task(recipe="labels", adapter=adapter, hyperparameters={"n_epochs": 4})
    built = build(task, endpoint, journal, report)
    assert score(task, built.program) > score(task, plain(task, endpoint).program) + 0.2
    assert built.model == built.job.model
    assert built.model.startswith("ft:sandbox-small:sandbox:colours:")
    assert built.job.hyperparameters["n_epochs"] == 4
    trained = rows_of(built.training_file)
    assert asked_as_served(task, built) == {messages[0]["content"] for messages in trained}
    assert [message["role"] for message in trained[0]] == ["system", "user", "assistant"]
    assert built.validation_file is not None
    assert (len(trained), len(rows_of(built.validation_file))) == (60, 30)
    counts = Counter(row.label for row in task.dataset.rows("train"))
    assert built.kept == {label: (count, count) for label, count in sorted(counts.items())}


def test_labels_of_a_program_that_reasons_hold_the_same_few_words(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", program=make_reasoning_program)
    built = build(task, endpoint, journal, report)
    answers = [messages[-1]["content"] for messages in rows_of(built.training_file)]
    assert all(
        answer.startswith(f"[[ ## reasoning ## ]]\n{NO_REASONING}\n\n[[ ## colour ## ]]") for answer in answers
    )
    runs = run_program(built.program, task.dataset.test, adapter=task.make_adapter(), concurrency=8)
    assert {run.prediction.reasoning for run in runs if run.prediction} == {NO_REASONING}
    assert mean_score(runs, task.scorer) > 0.8


def test_bootstrap_trains_on_accepted_traces_without_demonstrations(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task()
    lm = endpoint.lm(task.student, **task.decoding())
    optimized = build_prompt_optimized(
        task, lm, trainset=task.dataset.train, devset=task.dataset.dev, report=report, concurrency=8
    )
    demos = len(optimized.program.predictors()[0].demos)
    built = build(task, endpoint, journal, report, optimized=optimized)
    trained = rows_of(built.training_file)
    gold = {row.fields["thing"]: row.fields["colour"] for row in task.dataset.rows("train")}
    for _, user, assistant in trained:
        thing = user["content"].partition("[[ ## thing ## ]]\n")[2].partition("\n")[0]
        assert gold[thing] in assistant["content"]
    kept, total = (sum(counts) for counts in zip(*built.kept.values(), strict=True))
    assert (kept, total) == (len(trained), 60)
    assert built.program.predictors()[0].demos == []
    assert len(optimized.program.predictors()[0].demos) == demos  # the stage before is left as it was
    assert asked_as_served(task, built) == {messages[0]["content"] for messages in trained}
    assert f"Kept {kept} of 60 training rows per label:" in report.text
    assert "Kept" in report.text
    assert "%|" not in report.text


def test_the_teacher_answers_and_the_student_s_instruction_is_trained(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="distill", teacher="sandbox-large", recipe_options={"source": "baseline"})
    teacher = attach(task.program(), endpoint.lm("sandbox-large", **task.decoding()))
    predictor = teacher.predictors()[0]
    predictor.signature = predictor.signature.with_instructions("You are a professor of colours.")
    predictor.demos = list(task.dataset.train[:8])
    sandbox.forget_requests()
    built = build(task, endpoint, journal, report, teacher=teacher)
    assert sandbox.request_counts()["by_model"] == {"sandbox-large": 60}
    systems = {messages[0]["content"] for messages in rows_of(built.training_file)}
    assert systems == asked_as_served(task, built)
    assert "professor" not in "".join(systems)
    assert {len(messages) for messages in rows_of(built.training_file)} == {3}


def test_the_same_inputs_give_the_same_bytes_and_the_same_job(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=5)
    first = build(task, endpoint, journal, report, concurrency=1)
    second = build(task, endpoint, journal.parent / "elsewhere" / "jobs.jsonl", report, concurrency=16)
    assert second.training_file == first.training_file
    assert second.job == first.job


def test_a_build_that_is_run_again_asks_nothing_again(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=6)
    sandbox.set_faults(Fault(kind=FaultKind.JOB_FAILS, times=1))
    with pytest.raises(TrainingError):
        build(task, endpoint, journal, report)
    sandbox.forget_requests()
    built = build(task, endpoint, journal, report)
    assert sandbox.request_counts()["by_model"] == {}
    assert "Taking up the answers of sandbox-small that an earlier run has kept." in report
    kept, total = (sum(counts) for counts in zip(*built.kept.values(), strict=True))
    assert (kept, total) == (len(rows_of(built.training_file)), 60)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=1))
    script = (
        "import sys; from pathlib import Path; from pytest_finetune.endpoints import Endpoint;"
        "from tests.training.conftest import make_task, Report; from tests.training.test_recipes import build;"
        "tell = lambda sentence: print(sentence, flush=True);"
        "build(make_task(recipe='labels', seed=8), Endpoint('sandbox', sys.argv[1]), Path(sys.argv[2]), tell)"
    )
    command = [sys.executable, "-c", script, endpoint.base_url, str(journal)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root) as process:
        assert process.stdout
        for line in process.stdout:
            if "paused" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        process.wait(20)
    assert rest.strip().endswith("come back with: pytest-finetune train colours")
    assert process.returncode != 0
    job_id = rest.partition("Job ")[2].partition(" ")[0]
    with endpoint.client() as client:
        assert str(client.fine_tuning.jobs.resume(job_id).status) == "queued"
    assert build(make_task(recipe="labels", seed=8), endpoint, journal, report).job.id == job_id


class TwoSteps:
    """Makes a program of two predictors, the first of which is asked twice."""

    def __call__(self) -> Any:

        step = make_program()
        last = dspy.Predict(step.signature.append("hint", dspy.InputField(), type_=str))

        class Both(dspy.Module):  # type: ignore[misc]  # dspy ships no types
            def __init__(self) -> None:
                super().__init__()
                self.step, self.last = step, last

            def forward(self, thing: str) -> Any:
                hints = [self.step(thing=thing).colour, self.step(thing=f"{thing}, again").colour]
                return self.last(thing=thing, hint=" ".join(hints))

        return Both()


def test_all_predictors_share_one_model_and_keep_their_own_rows(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(program=TwoSteps(), recipe_options={"source": "baseline"})
    built = build(task, endpoint, journal, report)
    kept = sum(count for count, _ in built.kept.values())
    users = [messages[1]["content"] for messages in rows_of(built.training_file)]
    assert Counter("## hint ##" in user for user in users) == {False: 2 * kept, True: kept}
    assert {predictor.lm.model for predictor in built.program.predictors()} == {f"openai/{built.model}"}
    assert built.validation_file is None  # the data have no hint


def test_failing_rows_do_not_end_the_build(endpoint: Endpoint, journal: Path, report: Report) -> None:

    def particular(row: Any, prediction: Any, _: Any = None) -> bool:
        if "(1.8)" in row.thing:
            raise KeyError("shade")
        return bool(row.colour == prediction.colour)

    class Moody(dspy.Module):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.name = make_program()

        def forward(self, thing: str) -> Any:
            if "(1.7)" in thing:
                raise ValueError("not this one")
            return self.name(thing=thing)

    task = make_task(program=Moody, metric=particular, recipe_options={"source": "baseline"})
    built = build(task, endpoint, journal, report)
    assert "(1.7)" not in built.training_file.decode()
    assert "(1.8)" not in built.training_file.decode()
    assert "2 training rows gave no usable answer, the first: " in report.text


def jobs_and_files(endpoint: Endpoint) -> tuple[int, int]:
    with endpoint.client() as client:
        return len(list(client.fine_tuning.jobs.list())), len(list(client.files.list()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": metrics.as_metric(lambda *_: 0.3, version="1", name="strict")}, "none of 60 training .*strict"),
        ({"metric": metrics.as_metric(lambda row, *_: "(1.7)" in row.thing, version="1")}, "at least 10"),
    ],
)  # fmt: skip
def test_too_few_surviving_rows_stop_before_any_upload(
    endpoint: Endpoint, journal: Path, report: Report, changes: dict[str, Any], words: str
) -> None:
    before = jobs_and_files(endpoint)
    with pytest.raises(TrainingError, match=words) as error:
        build(make_task(**changes, recipe_options={"source": "baseline"}), endpoint, journal, report)
    assert "recipe='labels'" in str(error.value)
    assert jobs_and_files(endpoint) == before


def test_a_row_that_is_lost_to_the_endpoint_stops_the_build(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"})
    optimized = plain(task, endpoint)
    before = jobs_and_files(endpoint)
    with endpoint.client() as client:
        sandbox.set_shutdown("sandbox-small", "2020-01-01")
        try:
            with pytest.raises(TrainingError, match="Nothing is trained on a part of the rows"):
                build(task, endpoint, journal, report, optimized=optimized)
        finally:
            sandbox.set_shutdown("sandbox-small", None)
        assert client.models.retrieve("sandbox-small").id == "sandbox-small"
    assert jobs_and_files(endpoint) == before


def test_better_together_ends_on_a_tuned_model(endpoint: Endpoint, journal: Path, report: Report) -> None:
    task = make_task(recipe="better_together", recipe_options={"strategy": "p -> w"})
    built = build(task, endpoint, journal, report)
    assert built.model.startswith("ft:sandbox-small:")
    assert score(task, built.program) > score(task, plain(task, endpoint).program)
    assert built.notes[0].startswith("better_together on dev, in percent: p -> w ")


@pytest.mark.parametrize("recipe", ["bootstrap", "better_together"])
def test_a_failed_job_is_an_error_with_its_id(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, recipe: str
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_FAILS))
    task = make_task(recipe=recipe, seed=77 + len(recipe))
    with pytest.raises(TrainingError, match=r"job ftjob-\w+ .* failed: .* pytest-finetune train colours"):
        build(task, endpoint, journal, report)


def test_better_together_that_ends_where_it_began_is_an_error(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    base = make_task(recipe="better_together", recipe_options={"strategy": "w"})
    constant = metrics.as_metric(lambda *_: 1.0, version="1", name="constant")
    with pytest.raises(TrainingError, match=r"ended on the model it began with \(sandbox-small\).*on dev"):
        build(replace(base, metric=constant), endpoint, journal, report)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": "magic"}, "there is no recipe 'magic': use bootstrap, labels, distill, better_together"),
        ({"recipe_options": {"sauce": "x"}}, "has no option sauce: it has source"),
        ({"recipe_options": {"source": "teacher"}}, "source='teacher': use 'baseline' or 'prompt_optimized'"),
        ({"recipe": "distill", "teacher": "sandbox-large"}, "needs the teacher's program"),
        ({"recipe": "labels", "program": TwoSteps()}, "have no field 'hint', which the program's predictor 'last'"),
        ({"recipe": "better_together", "recipe_options": {"strategy": "p"}}, "strategy='p'"),
        ({"recipe": "better_together", "optimizer": "nadam"}, "there is no optimizer 'nadam'"),
        ({"suffix": "x" * 65}, "is longer than 64 characters"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    journal: Path, report: Report, changes: dict[str, Any], words: str
) -> None:
    nowhere = Endpoint("nowhere", "http://127.0.0.1:9/v1")
    task = make_task(**changes)
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        build(task, nowhere, journal, report, optimized=Optimized(make_program(), True, 0, 0))


def test_an_adapter_without_a_formatter_is_refused(journal: Path, report: Report) -> None:

    class Elsewhere(Task):
        def make_adapter(self) -> Any:
            return dspy.TwoStepAdapter(dspy.LM("openai/x", api_key="none", api_base="http://127.0.0.1:9/v1"))

    splits = {"train": make_rows(20, 1), "dev": make_rows(5, 2), "test": make_rows(5, 3)}
    task = Elsewhere(
        program=make_program,
        dataset=Dataset.from_examples(splits, inputs=["thing"]),
        metric=metrics.exact_match("colour"),
        student="x",
        name="elsewhere",
    )
    with pytest.raises(UsageError, match="TwoStepAdapter: set the task's adapter to 'chat', 'json' or 'xml'"):
        build(task, Endpoint("nowhere", "http://127.0.0.1:9/v1"), journal, report, optimized=plain(task, NOWHERE))


NOWHERE = Endpoint("nowhere", "http://127.0.0.1:9/v1")
