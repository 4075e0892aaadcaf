from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import Report, hurried, make_program, make_rows
from tests.training.refusing import refusing
from tests.training.test_job_faults import await_status

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import EndpointError, TrainingError
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox, Settings
from pytest_finetune.training.jobs import JobRequest, JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.remote import KEY
from pytest_finetune.training.request import file_name
from pytest_finetune.training.rows import to_jsonl, training_row
from pytest_finetune.training.steady import Interrupted, Pending

COMEBACK = "pytest-finetune train colours"


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> JobRequest:
    """A request of its own for each test: its content and its seed are like no other's."""
    import dspy

    seed = zlib.crc32(request.node.nodeid.encode()) % 2**31

    signature = make_program().signature
    rows = [
        training_row(dspy.ChatAdapter(), signature, {"thing": row["thing"]}, {"colour": row["colour"]})
        for row in make_rows(12, seed)
    ]
    return JobRequest("sandbox-small", to_jsonl(rows), seed=seed, suffix="colours", hyperparameters={"n_epochs": 2})


@pytest.fixture
def blind(sandbox: Sandbox) -> Iterator[Endpoint]:
    """A paid endpoint that lists no jobs."""
    with refusing(sandbox, "GET", "/jobs") as url:
        yield Endpoint("mine", url)


def runner(endpoint: Endpoint, journal: Path | Journal, report: Report) -> JobRunner:
    kept = journal if isinstance(journal, Journal) else Journal(journal)
    return JobRunner(endpoint, kept, report=report, comeback=COMEBACK, patience=hurried())


def on_server(endpoint: Endpoint, asked: JobRequest) -> tuple[list[str], int]:
    """The states of the request's jobs, newest first, and the number of copies of its file."""
    with endpoint.client() as client:
        jobs = [str(job.status) for job in client.fine_tuning.jobs.list(metadata={KEY: asked.key(endpoint)})]
        names = [file.filename for file in client.files.list(purpose="fine-tune")]
    return jobs, names.count(file_name(asked.training))


def test_a_job_is_run_and_told_of(endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest) -> None:
    facts = runner(endpoint, journal, report).run(asked)
    assert facts.model.startswith("ft:sandbox-small:sandbox:colours:")
    assert (facts.base, facts.seed, facts.status) == ("sandbox-small", asked.seed, "succeeded")
    assert facts.hyperparameters["n_epochs"] == 2
    assert facts.trained_tokens
    assert facts.finished_at
    assert facts.finished_at >= facts.created_at
    assert [loss.step for loss in facts.losses] == sorted({loss.step for loss in facts.losses})
    assert facts.losses[-1].train < facts.losses[0].train
    assert "Handing in a job for sandbox-small on endpoint 'sandbox': 12 rows." in report
    assert f"Job {facts.id}: succeeded." in report
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["state"] for line in lines][:4] == ["uploading", "uploaded", "creating", "created"]
    assert lines[-1]["state"] == "succeeded"
    assert {line["key"] for line in lines} == {facts.key}
    assert (journal.parent / file_name(asked.training)).read_bytes() == asked.training
    kept = (journal.parent / f"{facts.id}.events.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line)["message"] for line in kept.splitlines()]
    assert events[0] == f"Created fine-tuning job: {facts.id}"
    assert events[-1] == "The job has successfully completed"


def test_the_same_askedis_paid_once(endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest) -> None:
    first = runner(endpoint, journal, report).run(asked)
    assert runner(endpoint, journal, report).run(asked) == first
    journal.unlink()
    assert runner(endpoint, journal, report).run(asked) == first
    assert on_server(endpoint, asked) == (["succeeded"], 1)
    assert f"Taking up job {first.id} on endpoint 'sandbox' (succeeded)." in report


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing of ours may catch it."""


class DyingJournal(Journal):
    """Dies at its n-th line, before it is written or after."""

    def __init__(self, path: Path, line: int, when: str) -> None:
        super().__init__(path)
        self.left = line
        self.when = when

    def write(self, key: str, state: str, **facts: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.when == "before":
            raise KilledError
        super().write(key, state, **facts)
        if self.left == 0:
            raise KilledError


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("line", range(1, 7))
def test_death_at_any_line_of_the_journal_costs_nothing(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, line: int, when: str
) -> None:
    with pytest.raises(KilledError):
        runner(endpoint, DyingJournal(journal, line, when), report).run(asked)
    facts = runner(endpoint, journal, report).run(asked)
    assert facts.model.startswith("ft:sandbox-small:")
    assert on_server(endpoint, asked) == (["succeeded"], 1)


def test_a_process_that_is_killed_while_it_waits_is_taken_up(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=1))
    script = (
        "import sys; from pathlib import Path; from pytest_finetune.endpoints import Endpoint;"
        "from pytest_finetune.training.jobs import *; from pytest_finetune.training.journal import Journal;"
        "runner = JobRunner(Endpoint('sandbox', sys.argv[1]), Journal(Path(sys.argv[2])), report=print, comeback='');"
        "runner.run(JobRequest('sandbox-small', sys.stdin.buffer.read(), seed=int(sys.argv[3]), suffix='colours',"
        " hyperparameters={'n_epochs': 2}))"
    )
    command = [sys.executable, "-c", script, endpoint.base_url, str(journal), str(asked.seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin
        process.stdin.write(asked.training)
        process.stdin.close()
        deadline = time.monotonic() + 30
        while '"paused"' not in (journal.read_text() if journal.exists() else "") and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    with endpoint.client() as client:
        (job,) = client.fine_tuning.jobs.list(metadata={KEY: asked.key(endpoint)})
        client.fine_tuning.jobs.resume(job.id)
    assert runner(endpoint, journal, report).run(asked).id == job.id
    assert on_server(endpoint, asked) == (["succeeded"], 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.SERVER_ERROR, operation="create_job", times=2),
        Fault(kind=FaultKind.DROP, operation="create_job", times=1),
        Fault(kind=FaultKind.DROP, operation="create_file", times=1),
        Fault(kind=FaultKind.RATE_LIMIT, operation="create_job", times=1),
        Fault(kind=FaultKind.SERVER_ERROR, operation="list_jobs", times=3),
        Fault(kind=FaultKind.SERVER_ERROR, operation="retrieve_job", times=5),
        Fault(kind=FaultKind.SERVER_ERROR, operation="list_events", times=3),
    ],
    ids=lambda fault: f"{fault.kind.value}-{fault.operation}",
)
def test_trouble_that_passes_is_outlived(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest, fault: Fault
) -> None:
    sandbox.set_faults(fault)
    assert runner(endpoint, journal, report).run(asked).status == "succeeded"
    assert on_server(endpoint, asked) == (["succeeded"], 1)
    assert any(sentence.startswith("Endpoint 'sandbox' does not answer") for sentence in report)
    assert "Endpoint 'sandbox' answers again." in report


def test_an_endpoint_that_stays_away_is_given_up_and_the_job_is_kept(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, operation="retrieve_job"))
    impatient = runner(endpoint, journal, report)
    impatient.patience.outage = 0.2
    with pytest.raises(EndpointError, match="gave no answer"):
        impatient.run(asked)
    sandbox.set_faults()
    assert runner(endpoint, journal, report).run(asked).status == "succeeded"
    assert on_server(endpoint, asked) == (["succeeded"], 1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FaultKind.DAILY_LIMIT, ["HTTP 429", "maximum of 48", "the limit is per day", COMEBACK]),
        (FaultKind.TRAINING_NOT_AVAILABLE, ["HTTP 403", "winding down", "Task(endpoint=…)", COMEBACK]),
        (FaultKind.JOB_FAILS, ["ftjob-", "failed", "start it anew", COMEBACK]),
        (FaultKind.JOB_MODERATION, ["ftjob-", "blocked by our moderation system", "usage policies", COMEBACK]),
    ],
)
def test_a_refusal_or_a_failure_is_explained_and_does_not_bar_the_next_try(
    sandbox: Sandbox,
    endpoint: Endpoint,
    journal: Path,
    report: Report,
    asked: JobRequest,
    kind: FaultKind,
    words: list[str],
) -> None:
    sandbox.set_faults(Fault(kind=kind, times=1))
    with pytest.raises(TrainingError) as error:
        runner(endpoint, journal, report).run(asked)
    assert [word for word in words if word not in str(error.value)] == []
    assert runner(endpoint, journal, report).run(asked).status == "succeeded"
    states, copies = on_server(endpoint, asked)
    assert states.count("succeeded") == copies == 1


@pytest.mark.parametrize(
    ("path", "status", "code", "step"),
    [
        ("/files", 413, "", "the endpoint takes no files so large (0.0 MB): train on fewer rows, or on shorter ones"),
        ("/files", 409, "", "another request is at work on the same thing, which pytest-finetune jobs may show"),
        ("/jobs", 400, "", "correct what it names, in the task's student, hyperparameters or suffix"),
        ("/jobs", 422, "", "correct what it names, in the task's student, hyperparameters or suffix"),
        ("/jobs", 401, "", "set the key right, then run"),
        ("/jobs", 402, "", "add money to the endpoint's account, then run"),
        ("/jobs", 429, "insufficient_quota", "add money to the endpoint's account, then run"),
        (
            "/jobs",
            403,
            "",
            "ask for the right to fine-tune with this key, or name another endpoint (Azure Foundry, Nebius, sandbox)",
        ),
        ("/jobs", 404, "", "see that the endpoint's base_url is right and that it trains models at all"),
        ("/jobs", 404, "model_not_found", "name a model that this endpoint can fine-tune as the task's student"),
        ("/jobs", 418, "", "what that means is in the endpoint's documentation; once it is set right, run"),
    ],
)
def test_every_refusal_ends_with_what_to_do(
    sandbox: Sandbox, journal: Path, report: Report, asked: JobRequest, path: str, status: int, code: str, step: str
) -> None:
    with refusing(sandbox, "POST", path, status, code) as url, pytest.raises(TrainingError) as error:
        runner(Endpoint("mine", url), journal, report).run(asked)
    said = str(error.value)
    assert said.startswith(f"endpoint 'mine' refused to fine-tune sandbox-small (HTTP {status}): no. Next: {step}")
    assert said.endswith(f": {COMEBACK}")


def test_an_endpoint_is_left_alone_for_as_long_as_it_asks(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT, operation="create_job", seconds=0.6, times=1))
    patient = runner(endpoint, journal, report)
    began = time.monotonic()
    patient.run(asked)
    assert time.monotonic() - began > 0.6
    assert on_server(endpoint, asked) == (["succeeded"], 1)
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT, operation="retrieve_job", seconds=3600, times=1))
    patient.patience.asked = 0.1
    assert patient.run(asked).status == "succeeded"


def test_a_wait_that_was_asked_for_ends_with_ctrl_c(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT, operation="create_job", seconds=3600))
    patient = runner(endpoint, journal, report)
    threading.Timer(0.5, patient.leave).start()
    with pytest.raises(Interrupted):
        patient.run(asked)


def test_a_file_that_cannot_be_trained_on_is_named(endpoint: Endpoint, journal: Path, report: Report) -> None:
    broken = JobRequest("sandbox-small", b'{"messages":[{"content":"x"}]}\n' * 12)
    with pytest.raises(TrainingError, match=r"invalid_training_file: .*Example 1, message 1.*the file is kept in"):
        runner(endpoint, journal, report).run(broken)


def test_leaving_lets_the_job_go_on(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=1))
    waiting = runner(endpoint, journal, report)
    ended: list[Interrupted] = []

    def wait() -> None:
        try:
            waiting.run(asked)
        except Interrupted as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not any("paused" in sentence for sentence in report):  # an unknown status is no end
        time.sleep(0.01)
    sentence = waiting.leave()
    thread.join(10)
    assert len(ended) == 1
    [job] = waiting.following
    assert sentence == f"On endpoint 'sandbox', job {job} will go on; come back with: {COMEBACK}"
    with endpoint.client() as client:
        client.fine_tuning.jobs.resume(job)
    assert runner(endpoint, journal, report).run(asked).id == job


def test_a_sandbox_may_forget_so_it_trains_anew(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    Journal(journal).write(asked.key(endpoint), "created", job="ftjob-forgotten")
    first = runner(endpoint, journal, report).run(asked)
    with endpoint.client() as client:
        client.models.delete(first.model)
    second = runner(endpoint, journal, report).run(asked)
    assert len({first.id, second.id}) == len({first.model, second.model}) == 2


def test_a_paid_endpoint_that_does_not_know_the_job_gets_no_second_one(
    sandbox: Sandbox, journal: Path, report: Report, asked: JobRequest
) -> None:
    paid = Endpoint("azure", sandbox.base_url)
    Journal(journal).write(asked.key(paid), "created", job="ftjob-elsewhere")
    with pytest.raises(TrainingError, match=r"ftjob-elsewhere .* No second job is started"):
        runner(paid, journal, report).run(asked)
    assert on_server(paid, asked) == ([], 0)


def test_a_model_that_was_deleted_from_a_paid_endpoint_stops_the_build(
    sandbox: Sandbox, journal: Path, report: Report, asked: JobRequest
) -> None:
    paid = Endpoint("azure", sandbox.base_url)
    first = runner(paid, journal, report).run(asked)
    with paid.client() as client:
        client.models.delete(first.model)
    with pytest.raises(TrainingError) as error:
        runner(paid, journal, report).run(asked)
    assert f"pytest-finetune jobs forget {first.id}, then run: {COMEBACK}" in str(error.value)
    Journal(journal).write(asked.key(paid), "gone", job=first.id)
    second = runner(paid, journal, report).run(asked)
    assert len({first.id, second.id}) == len({first.model, second.model}) == 2


def test_a_key_that_is_refused_on_the_way_is_no_end_of_the_job(
    tmp_path: Path, journal: Path, report: Report, asked: JobRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOURS_KEY", "sesame-1")
    with Sandbox(Settings(clock_speed=10_000, api_key="sesame-1", state_dir=tmp_path / "server")) as locked:
        endpoint = Endpoint("mine", locked.base_url, api_key_env="COLOURS_KEY")
        waiting = runner(endpoint, journal, report)
        waiting.patience.to_the_end = False
        monkeypatch.setenv("COLOURS_KEY", "wrong")
        with pytest.raises(EndpointError, match=r"HTTP 401[^.]*: [^.]*\. Next: set the key right"):  # nothing goes on
            waiting.run(asked)
        monkeypatch.setenv("COLOURS_KEY", "sesame-1")
        with pytest.raises(Pending):
            waiting.run(asked)
        monkeypatch.setenv("COLOURS_KEY", "expired")
        with pytest.raises(EndpointError, match=r"HTTP 401.*What was handed in goes on\. Next: set the key right"):
            runner(endpoint, journal, report).run(asked)
        monkeypatch.setenv("COLOURS_KEY", "sesame-1")
        assert {runner(endpoint, journal, report).run(asked).id} == waiting.following


def test_where_jobs_cannot_be_listed_a_lost_answer_stops_the_build(
    blind: Endpoint, sandbox: Sandbox, journal: Path, report: Report, asked: JobRequest
) -> None:
    key = asked.key(blind)
    Journal(journal).write(key, "creating", training_file="file-1", unanswered=True)
    with pytest.raises(TrainingError, match=f"cannot list its jobs.*pytest-finetune jobs forget {key}"):
        runner(blind, journal, report).run(asked)
    Journal(journal).write(key, "gone")
    assert runner(blind, journal, report).run(asked).status == "succeeded"
    with Endpoint("sandbox", sandbox.base_url).client() as client:
        jobs = client.fine_tuning.jobs.list(metadata={KEY: key})
        assert [job.status for job in jobs] == ["succeeded"]


def test_a_job_can_be_handed_in_and_left(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=1))
    leaving = runner(endpoint, journal, report)
    leaving.patience.to_the_end = False
    for _ in range(2):
        with pytest.raises(Pending, match=f"is handed in .* take it up with: {COMEBACK}"):
            leaving.run(asked)
    [job] = leaving.following
    with endpoint.client() as client:
        await_status(client, job, "paused")
        client.fine_tuning.jobs.resume(job)
        await_status(client, job, "succeeded")
    assert (leaving.run(asked).id, leaving.following) == (job, set())
    assert on_server(endpoint, asked) == (["succeeded"], 1)


def test_jobs_without_metadata_are_known_by_their_file(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    with endpoint.client() as client:
        name = file_name(asked.training)
        file = client.files.create(file=(name, asked.training), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id, seed=asked.seed)
    assert runner(endpoint, journal, report).run(asked).id == job.id


def test_an_unknown_model_is_refused_with_what_to_do(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    asked = replace(asked, model="gpt-6-luna")
    with pytest.raises(TrainingError, match=r"refused to fine-tune gpt-6-luna .*name a model"):
        runner(endpoint, journal, report).run(asked)


def test_two_builds_at_once_make_one_job(
    endpoint: Endpoint, journal: Path, report: Report, asked: JobRequest
) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(runner(endpoint, journal, report).run(asked).id))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert on_server(endpoint, asked) == (["succeeded"], 1)
