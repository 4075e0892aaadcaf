"""One model for each predictor: its own rows, its own job, its own answers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from tests.training.conftest import LIGHTS, Report, hurried, make_program, make_rows, make_task, validation_file

from pytest_finetune import metrics
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach, predictors
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.task import Mix, Task
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.fit import observe
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.optimizers import Optimized
from pytest_finetune.training.recipes import build_finetuned
from pytest_finetune.training.runs import mean_score, run_program
from pytest_finetune.training.steady import Patience, Pending

OPTIONS = {"source": "baseline", "multitask": False}


class Light(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Say in which light the thing is seen."""

    thing: str = dspy.InputField()
    light: Literal["at dusk", "after rain", "by lamplight", "in a photo", "in the sun"] = dspy.OutputField()


class Seen(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Asks for the colour and the light, in either order, and sometimes for the colour twice."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.light = make_program(), dspy.Predict(Light)

    def forward(self, thing: str) -> Any:
        first = self.light(thing=thing).light if len(thing) % 2 else None
        colours = [self.name(thing=thing).colour for _ in range(1 + (len(thing) % 3 == 0))]
        return dspy.Prediction(colour=colours[-1], light=first or self.light(thing=thing).light)


def calls_of(thing: str) -> Counter[str]:
    """How often the program asks each of its predictors about a thing."""
    return Counter({"name": 1 + (len(thing) % 3 == 0), "light": 1})


def make_seen(program: Any = Seen, **changes: Any) -> Task:
    rows = {
        name: make_rows(count, seed)
        for seed, (name, count) in enumerate({"train": 60, "dev": 30, "test": 30}.items())
    }
    for row in (row for part in rows.values() for row in part):
        row["light"] = next(light for light in LIGHTS if light in row["thing"])
    settings = {
        "program": program,
        "dataset": Dataset.from_examples(rows, inputs=["thing"]),
        "recipe_options": OPTIONS,
    }
    return make_task(**{**settings, **changes})


def plain(task: Task, endpoint: Endpoint) -> Optimized:
    return Optimized(attach(task.program(), endpoint.lm(task.student, **task.decoding())), True, 0.0, 0.0)


def build(task: Task, endpoint: Endpoint, journal: Path, report: Any, **more: Any) -> Finetuned:
    optimized, patience = plain(task, endpoint), more.pop("patience", None) or hurried()
    return build_finetuned(task, endpoint, optimized, journal=journal, report=report, patience=patience, **more)


def score(task: Task, program: Any) -> float:
    runs = run_program(program, task.dataset.test, adapter=task.make_adapter(), concurrency=8)
    return mean_score(runs, task.scorer)


def rows_of(content: bytes) -> list[Any]:
    return [json.loads(line)["messages"] for line in content.splitlines()]


def system_prompts(task: Task, built: Finetuned) -> dict[str, set[str]]:
    """What each predictor of the served program sends, as its model is asked."""
    with dspy.context(adapter=task.make_adapter()):
        for row in task.dataset.test[:4]:
            built.program(**row.inputs())
    parts = predictors(built.program)
    return {name: {call["messages"][0]["content"] for call in part.lm.history} for name, part in parts.items()}


def jobs_of(endpoint: Endpoint, seed: int) -> list[Any]:
    with endpoint.client() as client:
        return [job for job in client.fine_tuning.jobs.list() if job.seed == seed]


@pytest.mark.parametrize("recipe", ["bootstrap", "distill", "labels"])
def test_each_predictor_has_a_model_that_was_trained_on_its_own_calls(
    endpoint: Endpoint, journal: Path, report: Report, recipe: str
) -> None:
    task = make_seen(recipe=recipe, teacher="sandbox-large", seed=301)
    teacher = attach(task.program(), endpoint.lm("sandbox-large", **task.decoding()))
    built = build(task, endpoint, journal, report, teacher=teacher)
    assert list(built.models) == ["name", "light"]
    wanted: Counter[str] = Counter()
    for row in task.dataset.rows("train"):
        if row.row_id in built.trained_on:
            wanted += Counter({"name": 1, "light": 1}) if recipe == "labels" else calls_of(row.fields["thing"])
    files = {name: rows_of(one.training_file) for name, one in built.models.items()}
    assert Counter({name: len(rows) for name, rows in files.items()}) == wanted
    trained = {name: {messages[0]["content"] for messages in rows} for name, rows in files.items()}
    assert trained == system_prompts(task, built)
    assert trained["name"] != trained["light"]
    for name, one in built.models.items():
        assert predictors(built.program)[name].lm.model == f"openai/{one.model}"
        assert one.model.startswith(f"ft:sandbox-small:sandbox:colours-{name}:")
        (prompt,) = {messages[0]["content"] for messages in rows_of(validation_file(endpoint, one))}
        assert {prompt} == trained[name]
    counted = ", ".join(f"{name} ({len(rows)} rows)" for name, rows in files.items())
    assert f"Training a model for each predictor: {counted}." in report
    assert built.model == ",".join(one.model for one in built.models.values())
    gained = 0.2 if recipe == "labels" else 0.0  # few answers of models that were shown nothing are right
    assert score(task, built.program) > score(task, plain(task, endpoint).program) + gained


def test_a_predictor_of_which_no_two_answers_differ_has_no_pairs_to_be_trained_on(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_seen(recipe="dpo", teacher="sandbox-large", seed=310)
    teacher = attach(task.program(), endpoint.lm("sandbox-large", **task.decoding()))
    teacher.name.demos = list(task.dataset.train[:40])
    with pytest.raises(TrainingError, match=r"^0 rows are left to train on for predictor 'light'"):
        build(task, endpoint, journal, report, teacher=teacher)
    both = make_seen(recipe="dpo", teacher="sandbox-large", recipe_options={"source": "baseline"}, seed=310)
    (one,) = build(both, endpoint, journal, report, teacher=teacher).models.values()
    assert one.job.id in {job.id for job in jobs_of(endpoint, 310)}


def test_answers_that_were_collected_for_one_model_are_taken_up_for_several(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    build(make_seen(recipe_options={"source": "baseline"}, seed=302), endpoint, journal, report)
    sandbox.forget_requests()
    build(make_seen(seed=302), endpoint, journal, report)
    assert sandbox.request_counts()["by_model"] == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from pytest_finetune.endpoints import Endpoint
from tests.training.test_per_predictor import build, make_seen

def tell(sentence):
    if "is created" in sentence:
        os.kill(os.getpid(), signal.SIGKILL)

build(make_seen(recipe="labels", seed=303), Endpoint("sandbox", sys.argv[1]), Path(sys.argv[2]), tell)
"""


def test_a_build_that_is_killed_between_two_jobs_pays_for_none_of_them_twice(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    command = [sys.executable, "-c", KILLED, endpoint.base_url, str(journal)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    (first,) = jobs_of(endpoint, 303)
    built = build(make_seen(recipe="labels", seed=303), endpoint, journal, report)
    jobs = jobs_of(endpoint, 303)
    assert {job.id for job in jobs} == {one.job.id for one in built.models.values()}
    assert first.id in {job.id for job in jobs}
    assert len(jobs) == 2
    with endpoint.client() as client:
        held = [client.files.content(file.id).read() for file in client.files.list()]
    assert [held.count(one.training_file) for one in built.models.values()] == [1, 1]
    assert f"Taking up job {first.id}" in report.text


def test_without_waiting_all_jobs_are_handed_in_and_told(endpoint: Endpoint, journal: Path, report: Report) -> None:
    task, leaving = make_seen(recipe="labels", seed=304), Patience(first=0.01, settling=0.05, to_the_end=False)
    with pytest.raises(Pending) as pending:
        build(task, endpoint, journal, report, patience=leaving)
    told = re.findall(r"job (ftjob-\w+) on endpoint", str(pending.value))
    assert sorted(told) == sorted(job.id for job in jobs_of(endpoint, 304))
    whose = {facts["job"]: facts["predictor"] for facts in Journal(journal).last()}
    for job in jobs_of(endpoint, 304):
        name = whose[job.id]
        assert job.user_provided_suffix == f"colours-{name}"
        assert f"Handing in a job for sandbox-small (predictor {name!r}) on endpoint 'sandbox': 60 rows." in report
        assert f"Job {job.id} (predictor {name!r}) is created." in report
    built = build(task, endpoint, journal, report)
    assert sorted(one.job.id for one in built.models.values()) == sorted(told)


LEFT = """
import signal, sys, time
from pathlib import Path
from pytest_finetune.endpoints import Endpoint
from tests.training.test_per_predictor import build, make_seen

signal.signal(signal.SIGINT, signal.default_int_handler)  # also below a shell that runs it in the background
tell = lambda sentence: print(sentence, flush=True)
try:
    build(make_seen(recipe="labels", seed=312), Endpoint("sandbox", sys.argv[1]), Path(sys.argv[2]), tell)
except KeyboardInterrupt:
    time.sleep(1)  # the jobs' threads end before the process does
"""


def test_ctrl_c_names_every_job_that_goes_on_and_logs_no_error(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=2))
    command = [sys.executable, "-c", LEFT, endpoint.base_url, str(journal)]
    paused = 0
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            paused += "paused" in line
            if paused == 2:
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.stdout.read(), process.stderr.read()
    first, second = sorted(job.id for job in jobs_of(endpoint, 312))
    assert f"On endpoint 'sandbox', jobs {first} and {second} will go on; come back with: " in rest
    assert errors == ""


class Seldom(Seen):
    """Asks for the light of few things only."""

    def forward(self, thing: str) -> Any:
        light = self.light(thing=thing).light if "(0.1" in thing else "unseen"
        return dspy.Prediction(colour=self.name(thing=thing).colour, light=light)


def test_a_predictor_with_too_few_rows_is_named_before_anything_is_uploaded(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    words = r"^\d rows are left to train on for predictor 'light', and a job needs at least 10: nothing was uploaded"
    with pytest.raises(TrainingError, match=words) as error:
        build(make_seen(Seldom, seed=305), endpoint, journal, report)
    assert "recipe_options={'multitask': True}" in str(error.value)
    assert jobs_of(endpoint, 305) == []


class Never(Seen):
    """Has a predictor that it does not ask."""

    def forward(self, thing: str) -> Any:
        return dspy.Prediction(colour=self.name(thing=thing).colour)


def test_a_predictor_that_is_never_called_is_told_and_one_model_is_offered(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    with pytest.raises(TrainingError) as error:
        build(make_seen(Never, seed=313), endpoint, journal, report)
    words = re.sub(r"on \d+ training", "on N training", str(error.value))
    assert words == (
        "predictor 'light' was never called on N training rows whose answers were kept, so that there is nothing to "
        "train its own model on: nothing was uploaded. Next: one model for all predictors "
        "(recipe_options={'multitask': True}), or a program without that predictor"
    )
    assert jobs_of(endpoint, 313) == []
    one = build(make_seen(Never, seed=313, recipe_options={"source": "baseline"}), endpoint, journal, report)
    assert list(one.models) == [""]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"recipe": "better_together", "recipe_options": {"multitask": False}},
            "has no option multitask: it has str",
        ),
        ({"recipe_options": {"multitask": "no"}}, "multitask='no': use True, one model for all predictors, or False"),
    ],
)
def test_what_has_no_model_for_each_is_refused_before_anything_is_asked(
    journal: Path, report: Report, changes: dict[str, Any], words: str
) -> None:
    nowhere = Endpoint("nowhere", "http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match=words):
        build(make_seen(**changes), nowhere, journal, report)


def with_dspys_own(task: Task) -> Any:
    return dspy.BootstrapFinetune(metric=task.scorer, multitask=False, exclude_demos=True, num_threads=4)


class InOrder(Seen):
    """Asks each predictor once, always in the same order."""

    def forward(self, thing: str) -> Any:
        return dspy.Prediction(colour=self.name(thing=thing).colour, light=self.light(thing=thing).light)


class Twice(Seen):
    """Asks one predictor twice: DSPy takes the second call, by its place in the trace, for the other predictor's."""

    def forward(self, thing: str) -> Any:
        self.name(thing=f"{thing}, again")
        return dspy.Prediction(colour=self.name(thing=thing).colour, light=self.light(thing=thing).light)


def test_dspys_own_way_is_taken_where_each_model_was_trained_on_what_it_is_asked(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_seen(InOrder, recipe=with_dspys_own, recipe_options={}, seed=306)
    built = build(task, endpoint, journal, report)
    assert list(built.models) == ["name", "light"]
    assert len({one.model for one in built.models.values()}) == 2
    with pytest.raises(TrainingError, match=r"trained on other prompts than are served: predictor 'light'"):
        build(make_seen(Twice, recipe=with_dspys_own, recipe_options={}, seed=306), endpoint, journal, report)


def test_seeds_and_the_diagnosis_look_at_the_program_as_a_whole(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_seen(recipe="labels", seeds=(307, 308))
    built = build(task, endpoint, journal, report)
    assert list(built.seeds) == [307, 308]
    (seed,) = {one.job.seed for one in built.models.values()}
    assert built.seeds[seed or 0] == max(built.seeds.values())
    kept: Any = Checkpoints(journal.parent, endpoint)
    sandbox.forget_requests()
    optimized = plain(task, endpoint)
    seen = observe(task, built, optimized, checkpoints=kept, report=report, concurrency=8, serve=lambda: None)
    assert set(sandbox.request_counts()["by_model"]) == {one.model for one in built.models.values()}
    assert seen.train is not None
    assert seen.train.value > 0.8
    assert (seen.losses, seen.epochs) == ((), None)


def test_rows_of_other_work_are_mixed_into_each_file(endpoint: Endpoint, journal: Path, report: Report) -> None:
    general = [{"sentence": f"It is {n} o'clock.", "kind": "time"} for n in range(40)]
    mix = Mix(Dataset.from_examples(general, inputs=["sentence"]), 0.25, lambda: dspy.Predict("sentence -> kind"))
    built = build(make_seen(recipe="labels", mix=mix, seed=311), endpoint, journal, report)
    for one in built.models.values():
        kinds = Counter("`kind`" in messages[0]["content"] for messages in rows_of(one.training_file))
        assert kinds == {False: 60, True: 20}


def test_models_of_a_metric_that_looks_at_one_predictor_alone(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_seen(metric=metrics.exact_match("light"), seed=309)
    built = build(task, endpoint, journal, report)
    kept = sum(count for count, _ in built.kept.values())
    assert len(rows_of(built.models["light"].training_file)) == kept
