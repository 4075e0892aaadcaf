from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.job_create_params import Hyperparameters, Method
from tests.sandbox.conftest import COLOURS, connect, jsonl, prompt, training_rows

from pytest_finetune.sandbox import Fault, FaultKind, Sandbox, Settings

ENDED = {"succeeded", "failed", "cancelled"}


def upload(client: openai.OpenAI, content: bytes) -> str:
    return client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id


def wait(client: openai.OpenAI, job_id: str, until: Callable[[FineTuningJob], bool] | None = None) -> FineTuningJob:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if (until or (lambda job: job.status in ENDED))(job):
            return job
        time.sleep(0.02)
    raise AssertionError(f"{job_id} is still {job.status}")


def ask(client: openai.OpenAI, model: str, thing: str) -> str:
    completion = client.chat.completions.create(model=model, messages=prompt(thing))
    return (completion.choices[0].message.content or "").splitlines()[1]


@pytest.fixture
def rows_id(client: openai.OpenAI) -> str:
    return upload(client, jsonl(training_rows(60)))


def test_a_job_learns_what_is_in_its_file(client: openai.OpenAI, rows_id: str) -> None:
    validation = upload(client, jsonl(training_rows(20, seed=1)))
    created = client.fine_tuning.jobs.create(
        model="sandbox-small",
        training_file=rows_id,
        validation_file=validation,
        suffix="colours",
        seed=3,
        metadata={"task": "colours"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
    )
    assert created.status == "validating_files"
    job = wait(client, created.id)
    assert (job.status, job.seed, job.metadata, job.validation_file) == (
        "succeeded",
        3,
        {"task": "colours"},
        validation,
    )
    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith("ft:sandbox-small:sandbox:colours:")
    assert job.hyperparameters.n_epochs == 4
    assert isinstance(job.hyperparameters.batch_size, int)
    assert job.trained_tokens is not None
    assert job.trained_tokens > 60 * 4
    answers = {thing: ask(client, job.fine_tuned_model, thing) for things in COLOURS.values() for thing in things}
    assert answers == {thing: colour for colour, things in COLOURS.items() for thing in things}


def test_hyperparameters_count_beside_the_method_too(client: openai.OpenAI, rows_id: str) -> None:
    create = client.fine_tuning.jobs.create
    job = create(model="sandbox-small", training_file=rows_id, hyperparameters={"n_epochs": 7})
    assert wait(client, job.id).hyperparameters.n_epochs == 7


def metrics_of(event: FineTuningJobEvent) -> dict[str, float]:
    assert isinstance(event.data, dict)
    return event.data


def test_events_tell_the_job_from_newest_to_oldest(client: openai.OpenAI, rows_id: str) -> None:
    job = wait(client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=rows_id).id)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=7))[::-1]
    messages = [event.message for event in events]
    assert messages[:4] == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {rows_id}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]
    assert messages[-2:] == [
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    metrics = [metrics_of(event) for event in events if event.type == "metrics"]
    assert [data["step"] for data in metrics] == list(range(1, int(metrics[-1]["total_steps"]) + 1))
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]


def test_checkpoints_are_models_too(client: openai.OpenAI, rows_id: str) -> None:
    method: Method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 5}}}
    job = wait(
        client,
        client.fine_tuning.jobs.create(model="sandbox-small", training_file=rows_id, method=method).id,
    )
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert len(checkpoints) == 3
    steps = [checkpoint.step_number for checkpoint in checkpoints]
    assert steps == sorted(steps, reverse=True)
    for checkpoint in checkpoints:
        name = f"{job.fine_tuned_model}:ckpt-step-{checkpoint.step_number}"
        assert checkpoint.fine_tuned_model_checkpoint == name
        assert ask(client, name, "a clear sky at dusk") == "blue"


def test_the_result_file_holds_the_losses_in_base64(client: openai.OpenAI, rows_id: str) -> None:
    job = wait(client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=rows_id).id)
    table = base64.b64decode(client.files.content(job.result_files[0]).read()).decode().splitlines()
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert float(table[-1].split(",")[1]) < float(table[1].split(",")[1])


def test_the_same_file_and_seed_give_the_same_losses(client: openai.OpenAI, rows_id: str) -> None:
    def losses(seed: int) -> bytes:
        job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=rows_id, seed=seed)
        return client.files.content(wait(client, job.id).result_files[0]).read()

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_a_fine_tuned_model_can_be_trained_on(client: openai.OpenAI, rows_id: str) -> None:
    first = wait(client, client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=rows_id).id)
    assert first.fine_tuned_model is not None
    assert first.fine_tuned_model.startswith("ft:gpt-4o-mini-2024-07-18:sandbox::")
    second = wait(client, client.fine_tuning.jobs.create(model=first.fine_tuned_model, training_file=rows_id).id)
    assert second.fine_tuned_model is not None
    assert second.fine_tuned_model.startswith("ft:gpt-4o-mini-2024-07-18:sandbox::")


def test_jobs_are_found_by_metadata(client: openai.OpenAI, rows_id: str) -> None:
    create = client.fine_tuning.jobs.create
    marked = create(model="sandbox-small", training_file=rows_id, metadata={"key": "k1", "other": "x"})
    plain = create(model="sandbox-small", training_file=rows_id)
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"key": "k1"})] == [marked.id]
    assert list(client.fine_tuning.jobs.list(metadata={"key": "k2"})) == []
    without = client.get("/fine_tuning/jobs?metadata=null", cast_to=object)
    assert plain.id in str(without)
    assert marked.id not in str(without)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (jsonl(training_rows(7)), "invalid_n_examples", "has 7 example(s), but must have at least 10 examples"),
        (jsonl(training_rows(10)) + b"{broken\n", "invalid_training_file", "Line 11 is not valid JSON"),
        (
            jsonl([*training_rows(9), {"messages": [{"content": "x"}]}]),
            "invalid_training_file",
            "Example 10, message 1 Discriminator 'role' is missing in value",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_trained_on_fails_the_job(
    client: openai.OpenAI, content: bytes, code: str, message: str
) -> None:
    job = wait(
        client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=upload(client, content)).id
    )
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == (code, "training_file")
    assert message in job.error.message
    assert job.fine_tuned_model is None


def test_preferences_are_trained_by_dpo_only(client: openai.OpenAI) -> None:
    chosen = [
        {
            "input": {"messages": row["messages"][:-1]},
            "preferred_output": row["messages"][-1:],
            "non_preferred_output": [{"role": "assistant", "content": "no idea"}],
        }
        for row in training_rows(30)
    ]
    file = upload(client, jsonl(chosen))
    good = wait(
        client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=file, method={"type": "dpo"}).id
    )
    assert good.status == "succeeded"
    assert good.method is not None
    assert good.method.dpo is not None
    bad = wait(client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=file).id)
    assert bad.error is not None
    assert "is in the preference format" in bad.error.message


def test_what_cannot_be_trained_is_refused_at_once(client: openai.OpenAI, rows_id: str) -> None:
    create = client.fine_tuning.jobs.create
    with pytest.raises(openai.BadRequestError) as model:
        create(model="gpt-6-luna", training_file=rows_id)
    assert model.value.code == "model_not_available"
    with pytest.raises(openai.BadRequestError) as file:
        create(model="sandbox-small", training_file="file-none")
    assert file.value.param == "training_file"
    with pytest.raises(openai.BadRequestError) as method:
        create(model="sandbox-small", training_file=rows_id, method={"type": "reinforcement"})
    assert method.value.param == "method.type"
    with pytest.raises(openai.BadRequestError) as epochs:
        create(model="sandbox-small", training_file=rows_id, hyperparameters={"n_epochs": 0})
    assert "n_epochs" in str(epochs.value.param)


@pytest.fixture
def slow(tmp_path: Path) -> Sandbox:
    """A sandbox in which a job stands in the queue for long enough to be met there."""
    return Sandbox(Settings(clock_speed=1, queue_seconds=1.0, state_dir=tmp_path))


def test_cancel_pause_and_resume(slow: Sandbox) -> None:
    with slow, connect(slow, strict=False) as client:
        rows = upload(client, jsonl(training_rows(60)))
        jobs = client.fine_tuning.jobs
        cancelled = jobs.create(model="sandbox-small", training_file=rows)
        assert jobs.cancel(cancelled.id).status == "cancelled"
        with pytest.raises(openai.BadRequestError, match="already completed"):
            jobs.cancel(cancelled.id)
        paused = jobs.create(model="sandbox-small", training_file=rows)
        wait(client, paused.id, lambda job: job.status == "queued")
        assert str(jobs.pause(paused.id).status) == "paused"
        time.sleep(1.5)
        assert str(jobs.retrieve(paused.id).status) == "paused"
        assert jobs.resume(paused.id).status == "queued"
        assert wait(client, paused.id).status == "succeeded"
        with pytest.raises(openai.NotFoundError):
            jobs.retrieve("ftjob-none")


def results(client: openai.OpenAI, job: FineTuningJob) -> list[str]:
    return base64.b64decode(client.files.content(job.result_files[0]).read()).decode().splitlines()


def test_a_job_survives_the_death_of_the_server(tmp_path: Path) -> None:
    settings = Settings(clock_speed=10_000, state_dir=tmp_path)
    rows = jsonl(training_rows(400))
    hyperparameters: Hyperparameters = {"n_epochs": 8, "batch_size": 1}
    with Sandbox(settings) as sandbox, connect(sandbox, strict=False) as client:
        file = upload(client, rows)
        job = client.fine_tuning.jobs.create(
            model="sandbox-small",
            training_file=file,
            seed=5,
            hyperparameters=hyperparameters,
        )
        wait(client, job.id, lambda job: job.status == "running")
        while not any(e.type == "metrics" for e in client.fine_tuning.jobs.list_events(job.id, limit=1)):
            time.sleep(0.01)
        assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
        sandbox.kill()
    with Sandbox(settings) as sandbox, connect(sandbox, strict=False) as client:
        interrupted = wait(client, job.id)
        again = client.fine_tuning.jobs.create(
            model="sandbox-small",
            training_file=file,
            seed=5,
            hyperparameters=hyperparameters,
        )
        whole = wait(client, again.id)
        assert interrupted.status == whole.status == "succeeded"
        assert results(client, interrupted) == results(client, whole)
        events = client.fine_tuning.jobs.list_events(job.id, limit=500)
        steps = [metrics_of(event)["step"] for event in events if event.type == "metrics"]
        assert sorted(steps) == sorted(set(steps))


def test_a_model_is_restored_from_its_training_file(training_file: Path) -> None:
    with Sandbox() as first, connect(first, strict=False) as client:
        file = upload(client, training_file.read_bytes())
        job = wait(client, client.fine_tuning.jobs.create(model="sandbox-small", training_file=file, seed=9).id)
        name = job.fine_tuned_model or ""
        things = [f"{thing} seen from afar" for things in COLOURS.values() for thing in things]
        expected = [ask(client, name, thing) for thing in things]
    with Sandbox() as second, connect(second, strict=False) as client:
        with pytest.raises(openai.NotFoundError):
            ask(client, name, "a pea pod")
        second.restore(name, training_file, model="sandbox-small", seed=9)
        assert [ask(client, name, thing) for thing in things] == expected


@pytest.fixture(scope="module")
def live() -> Iterator[Sandbox]:
    with Sandbox(Settings(clock_speed=10_000)) as running:
        yield running


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.JOB_FAILS, "failed"), (FaultKind.JOB_MODERATION, "failed"), (FaultKind.JOB_PAUSES, "paused")],
)
def test_jobs_fail_and_pause_on_request(live: Sandbox, kind: FaultKind, status: str) -> None:
    with connect(live, strict=False) as client:
        live.set_faults(Fault(kind=kind))
        file = upload(client, jsonl(training_rows(60)))
        job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=file)
        ended = wait(client, job.id, lambda job: str(job.status) in {*ENDED, "paused"})
        assert str(ended.status) == status
        assert ended.fine_tuned_model is None
        if kind is FaultKind.JOB_MODERATION:
            assert ended.error is not None
            assert "blocked by our moderation system" in ended.error.message
        if kind is FaultKind.JOB_PAUSES:
            client.fine_tuning.jobs.resume(job.id)
            assert wait(client, job.id).status == "succeeded"


def test_a_healthy_job_of_the_live_service_carries_an_empty_error(live: Sandbox) -> None:
    live.set_faults()
    with connect(live, strict=False) as client:
        file = upload(client, jsonl(training_rows(20)))
        job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=file)
        assert job.error is not None
        assert job.error.message is None
