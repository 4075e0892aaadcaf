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
from tests.training.conftest import (
    Report,
    hurried,
    make_program,
    make_reasoning_program,
    make_rows,
    make_task,
    validation_file,
)

from pytest_finetune import metrics
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.task import Task
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.optimizers import Optimized, build_prompt_optimized
from pytest_finetune.training.recipes import build_finetuned
from pytest_finetune.training.rows import NO_REASONING
from pytest_finetune.training.runs import mean_score, run_program
from pytest_finetune.workflow.tasks import load_tasks


def plain(task: Task, endpoint: Endpoint) -> Optimized:
    """A prompt-optimized stage that was not optimized."""
    return Optimized(attach(task.program(), endpoint.lm(task.student, **task.decoding())), True, 0.0, 0.0)


def prompted(task: Task, endpoint: Endpoint, report: Report) -> Optimized:
    """A prompt-optimized stage with demonstrations."""
    lm = endpoint.lm(task.student, **task.decoding())
    return build_prompt_optimized(
        task, lm, trainset=task.dataset.train, devset=task.dataset.dev, report=report, concurrency=8
    )


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
    assert built.model == built.models[""].job.model
    assert built.model.startswith("ft:sandbox-small:sandbox:colours:")
    assert built.models[""].job.hyperparameters["n_epochs"] == 4
    trained = rows_of(built.models[""].training_file)
    assert asked_as_served(task, built) == {messages[0]["content"] for messages in trained}
    assert [message["role"] for message in trained[0]] == ["system", "user", "assistant"]
    assert (len(trained), len(rows_of(validation_file(endpoint, built.models[""])))) == (60, 30)
    counts = Counter(row.label for row in task.dataset.rows("train"))
    assert built.kept == {label: (count, count) for label, count in sorted(counts.items())}


def test_labels_of_a_program_that_reasons_hold_the_same_few_words(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="labels", program=make_reasoning_program)
    built = build(task, endpoint, journal, report)
    answers = [messages[-1]["content"] for messages in rows_of(built.models[""].training_file)]
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
    optimized = prompted(task, endpoint, report)
    demos = len(optimized.program.predictors()[0].demos)
    built = build(task, endpoint, journal, report, optimized=optimized)
    trained = rows_of(built.models[""].training_file)
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
    systems = {messages[0]["content"] for messages in rows_of(built.models[""].training_file)}
    assert systems == asked_as_served(task, built)
    assert "professor" not in "".join(systems)
    assert {len(messages) for messages in rows_of(built.models[""].training_file)} == {3}


def test_the_same_inputs_give_the_same_bytes_and_the_same_job(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=5)
    first = build(task, endpoint, journal, report, concurrency=1)
    second = build(task, endpoint, journal.parent / "elsewhere" / "jobs.jsonl", report, concurrency=16)
    assert second.models[""].training_file == first.models[""].training_file
    assert second.models[""].job == first.models[""].job


class AtOnce(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Asks two predictors in threads of its own, so that their calls come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.there = make_program(), dspy.Predict("thing -> colour")

    def forward(self, thing: str) -> Any:
        asked = dspy.Example(thing=thing).with_inputs("thing")
        pairs = [(self.there, asked), (self.here, asked)]
        return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[1]


def test_a_program_with_threads_of_its_own_gives_the_same_bytes_too(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(program=AtOnce, recipe_options={"source": "baseline"})
    first, second = (
        build(task, endpoint, journal.parent / f"{threads}" / "jobs.jsonl", report, concurrency=threads)
        .models[""]
        .training_file
        for threads in (1, 16)
    )
    assert first == second
    kept = [messages for messages in rows_of(first) if "Name the colour." in messages[0]["content"]]
    assert 2 * len(kept) == len(rows_of(first)) > 20


def test_a_build_that_is_run_again_asks_nothing_again(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seed=6)
    sandbox.set_faults(Fault(kind=FaultKind.JOB_FAILS, times=1))
    with pytest.raises(TrainingError):
        build(task, endpoint, journal, report)
    files = sorted(journal.parent.glob("pytest-finetune-*.jsonl"))
    sandbox.forget_requests()
    built = build(task, endpoint, journal, report)
    assert sorted(journal.parent.glob("pytest-finetune-*.jsonl")) == files  # the same bytes, so that it is one job
    assert sandbox.request_counts()["by_model"] == {}
    assert "Taking up the answers of sandbox-small that an earlier run has kept." in report
    kept, total = (sum(counts) for counts in zip(*built.kept.values(), strict=True))
    assert (kept, total) == (len(rows_of(built.models[""].training_file)), 60)


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
    job_id = rest.partition("On endpoint 'sandbox', job ")[2].partition(" ")[0]
    with endpoint.client() as client:
        assert str(client.fine_tuning.jobs.resume(job_id).status) == "queued"
    assert build(make_task(recipe="labels", seed=8), endpoint, journal, report).models[""].job.id == job_id


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
    users = [messages[1]["content"] for messages in rows_of(built.models[""].training_file)]
    assert Counter("## hint ##" in user for user in users) == {False: 2 * kept, True: kept}
    assert {predictor.lm.model for predictor in built.program.predictors()} == {f"openai/{built.model}"}
    assert built.models[""].job.validation_file is None  # the data have no hint


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
    assert "(1.7)" not in built.models[""].training_file.decode()
    assert "(1.8)" not in built.models[""].training_file.decode()
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


@pytest.mark.parametrize("strategy", ["w", "w -> p", "w -> w", "w -> p -> w"])
def test_better_together_takes_any_strategy(endpoint: Endpoint, journal: Path, report: Report, strategy: str) -> None:
    task = make_task(recipe="better_together", recipe_options={"strategy": strategy}, optimizer_options={"k": 8})
    built = build(task, endpoint, journal, report)
    steps = strategy.split(" -> ")
    said = built.notes[0].removeprefix("better_together on dev, in percent: ").split(", ")
    tried = {one.rpartition(" ")[0] for one in said}
    assert tried == {"baseline", *(" -> ".join(steps[: n + 1]) for n in range(len(steps)))}
    assert built.model == built.models[""].job.model


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
        (
            {"recipe": "magic"},
            "there is no recipe 'magic': use bootstrap, labels, distill, dpo, better_together, or a function",
        ),
        ({"recipe_options": {"sauce": "x"}}, "has no option sauce: it has multitask, source"),
        ({"recipe_options": {"source": "teacher"}}, "source='teacher': use 'baseline' or 'prompt_optimized'"),
        ({"recipe": "distill", "teacher": "sandbox-large"}, "needs the teacher's program"),
        ({"recipe": "labels", "program": TwoSteps()}, "have no field 'hint', which the program's predictor 'last'"),
        ({"recipe": "better_together", "recipe_options": {"strategy": "p"}}, "strategy='p'"),
        ({"recipe": "better_together", "optimizer": "nadam"}, "there is no optimizer 'nadam'"),
        ({"recipe": lambda _: None, "recipe_options": {"a": 1}}, "recipe_options are for built-in recipes"),
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


# --- a recipe of the user's own ---


def with_dspys_own(task: Task) -> Any:
    return dspy.BootstrapFinetune(metric=task.scorer, exclude_demos=True, num_threads=4)


def test_a_user_s_own_recipe_is_run_and_its_job_is_paid_for_once(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe=with_dspys_own, seed=31)
    optimized = prompted(task, endpoint, report)
    built = build(task, endpoint, journal, report, optimized=optimized)
    assert score(task, built.program) > score(task, plain(task, endpoint).program)
    assert asked_as_served(task, built) == {
        messages[0]["content"] for messages in rows_of(built.models[""].training_file)
    }
    assert (built.models[""].job.seed, built.kept) == (31, {})
    assert built.models[""].job.validation_file is not None
    before = jobs_and_files(endpoint)
    again = build(task, endpoint, journal.parent / "b" / "jobs.jsonl", report, optimized=optimized)
    assert again.models[""].job == built.models[""].job
    assert jobs_and_files(endpoint) == before


class Gives:
    """A teleprompter that tunes the student, and gives what it is told to make of it."""

    def __init__(self, make: Any, *, tune: bool = True) -> None:
        self.make, self.tune = make, tune

    def compile(self, student: Any, trainset: Any, teacher: Any = None) -> Any:
        assert teacher is None
        if not self.tune:
            return self.make(student)
        tuned = with_dspys_own(make_task()).compile(student, trainset=trainset)
        tuned._compiled = False  # noqa: SLF001  # as DSPy's own optimizers leave it
        return self.make(tuned)


def reworded(program: Any) -> Any:
    program.signature = program.signature.with_instructions("Name the shade.")
    return program


def of_two_models(program: Any) -> Any:
    program.predictors()[0].lm = program.predictors()[1].lm.copy(model="openai/sandbox-large")
    return program


def fails(_: Any) -> Any:
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    ("own", "program", "words"),
    [
        (Gives(lambda _: None, tune=False), make_program, "gave a NoneType: its compile must give the program"),
        (Gives(lambda _: dspy.Predict("a -> b"), tune=False), make_program, "gave another program than the task's"),
        (Gives(of_two_models), AtOnce, r"ended in its predictors here on the model it began with .sandbox-large."),
        (Gives(fails, tune=False), make_program, "the recipe own failed: RuntimeError: no luck"),
        (Gives(lambda program: program, tune=False), make_program, "ended on the model it began with"),
        (Gives(reworded), make_program, r"predictor 'self' is asked .* Served: '.*shade.*'; trained on: '.*colour"),
    ],
)  # fmt: skip
def test_what_a_user_s_own_recipe_gives_is_checked(
    endpoint: Endpoint, journal: Path, report: Report, own: Gives, program: Any, words: str
) -> None:
    def recipe(_: Task) -> Gives:
        return own

    recipe.__name__ = "own"
    with pytest.raises(TrainingError, match=words):
        build(make_task(recipe=recipe, program=program), endpoint, journal, report)


def test_a_job_that_fails_in_a_user_s_own_recipe_is_told_as_it_is(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_FAILS))
    with pytest.raises(TrainingError, match=r"job ftjob-\w+ .* failed: .* pytest-finetune train colours"):
        build(make_task(recipe=with_dspys_own, seed=32), endpoint, journal, report)


def uploads_rubbish(_: Task) -> Any:
    class Tuner:
        def compile(self, student: Any) -> Any:
            rows = [{"messages": [{"role": "user", "content": "x"}, {"role": "robot", "content": "y"}]}] * 12
            job = student.get_lm().finetune(rows, dspy.clients.utils_finetune.TrainDataFormat.CHAT)
            return job.result() if not isinstance(job.result(), Exception) else fails_with(job.result())

    return Tuner()


def fails_with(error: Any) -> Any:
    raise error


def test_a_file_that_no_endpoint_would_take_is_never_uploaded(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    before = jobs_and_files(endpoint)
    with pytest.raises(TrainingError, match=r"training file is not what .*: line 1 has no role of .* in message 2; "):
        build(make_task(recipe=uploads_rubbish), endpoint, journal, report)
    assert jobs_and_files(endpoint) == before


# --- several seeds ---


def test_the_best_of_several_seeds_by_dev_is_kept_and_the_spread_is_told(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe_options={"source": "baseline"}, seeds=(41, 42, 43))
    sandbox.forget_requests()
    built = build(task, endpoint, journal, report)
    assert sandbox.request_counts()["by_model"]["sandbox-small"] == 60  # the rows are asked for once
    assert list(built.seeds) == [41, 42, 43]
    best = max(built.seeds.values())
    assert built.models[""].job.seed == next(seed for seed, dev in built.seeds.items() if dev == best)
    runs = run_program(built.program, task.dataset.dev, adapter=task.make_adapter(), concurrency=8)
    assert mean_score(runs, task.scorer) == best
    (note,) = built.notes
    assert note.startswith(f"dev by seed 41: {built.seeds[41]:.3f}, 42: ")
    assert f"seed {built.models[''].job.seed} is kept. On average +" in note
    assert "seed noise (two standard deviations: " in note
    with endpoint.client() as client:
        jobs = [job for job in client.fine_tuning.jobs.list() if job.seed in (41, 42, 43)]
    assert len({job.training_file for job in jobs}) == 1
    assert len(jobs) == 3
    again = build(replace(task, seeds=(), seed=41), endpoint, journal, report)
    assert again.seeds == {}


# --- too few rows ---


def test_what_gets_more_rows_is_offered_by_name(endpoint: Endpoint, journal: Path, report: Report) -> None:
    half = metrics.as_metric(
        lambda row, *_: 1.0 if "(1.1" in row.thing else 0.6, name="half", binary=True, version="1"
    )
    task = make_task(metric=half, recipe_options={"source": "baseline"}, teacher="sandbox-large")
    build(task, endpoint, journal, report)
    assert report[1].startswith("Kept 11 of 60")
    assert "recipe='distill', teacher='sandbox-large' is set" in report[2]
    assert "metric.for_bootstrapping(threshold=0.5) would have kept 60 rows" in report[2]
    assert "recipe='labels'" in report[2]


def test_the_recipe_of_the_docs_is_one(tmp_path: Path, endpoint: Endpoint, journal: Path, report: Report) -> None:
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    source = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "recipe_of_the_docs.py").write_text(source, encoding="utf-8")
    task: Task = load_tasks(tmp_path, ["recipe_of_the_docs.py"])["answers"]
    red = make_task(
        program=task.program, dataset=task.dataset, metric=task.metric, recipe=task.recipe, mix=task.mix, seeds=(0, 1)
    )
    built = build(red, endpoint, journal, report, optimized=prompted(red, endpoint, report))
    assert list(built.seeds) == [0, 1]
    trained = rows_of(built.models[""].training_file)
    kinds = Counter("`kind`" in messages[0]["content"] for messages in trained)
    assert kinds[True] == round(0.25 * kinds[False]) > 10
