"""Whatever happens to a build, another run ends with the right model, one job, and one copy of each file."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import openai
import pytest
from tests.training.conftest import Report, hurried, make_rows
from tests.training.machine import COMEBACK, Fate, Machines, build
from tests.training.refusing import refusing

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox, Settings
from pytest_finetune.sandbox.faults import OF_JOB_CREATION
from pytest_finetune.sandbox.operations import OPERATIONS
from pytest_finetune.training.jobs import JobFacts, JobRequest, JobRunner
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.remote import KEY
from pytest_finetune.training.request import file_name
from pytest_finetune.training.steady import Patience, Pending

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

SEEDS = count(100_001)  # the server is shared with tests that set their own
OF_TRAINING = ("/v1/files", "/v1/fine_tuning", "/v1/models")
OF_ANY_REQUEST = sorted(set(FaultKind) - OF_JOB_CREATION - {FaultKind.GARBLE})


def chats(number: int, seed: int) -> bytes:
    """A training file in which things have colours."""
    rows = [
        {"messages": [{"role": "user", "content": row["thing"]}, {"role": "assistant", "content": row["colour"]}]}
        for row in make_rows(number, seed)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def new_request() -> JobRequest:
    """A request like no other, with two files of its own."""
    seed = next(SEEDS)
    training, validation = chats(12, seed), chats(10, seed + 10_000)
    return JobRequest("sandbox-small", training, validation, seed, "colours", {"n_epochs": 1})


def run(
    endpoint: Endpoint,
    request: JobRequest,
    journal: Path,
    *,
    report: Callable[[str], None] = print,
    patience: Patience | None = None,
) -> JobFacts:
    kept = Journal(journal)
    return JobRunner(endpoint, kept, report=report, comeback=COMEBACK, patience=patience or hurried()).run(request)


def hand_in(endpoint: Endpoint, request: JobRequest, journal: Path) -> list[str]:
    """Hand a job in, and give the ids of what is on the server then."""
    with pytest.raises(Pending):
        run(endpoint, request, journal, patience=replace(hurried(), to_the_end=False))
    with endpoint.client() as client:
        return [job.id for job in client.fine_tuning.jobs.list(metadata={KEY: request.key(endpoint)})]


def await_status(client: openai.OpenAI, job_id: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while str(client.fine_tuning.jobs.retrieve(job_id).status) != status and time.monotonic() < deadline:
        time.sleep(0.02)


def check_one_of_each(endpoint: Endpoint, request: JobRequest, model: str) -> None:
    """The model is right, the server has one job that was not given up, and one copy of each file."""
    with endpoint.client() as client:
        jobs = client.fine_tuning.jobs.list(limit=100, metadata={KEY: request.key(endpoint)})
        done = [(job.status, job.fine_tuned_model) for job in jobs if job.status not in {"cancelled", "failed"}]
        names = [file.filename for file in client.files.list(purpose="fine-tune")]
        (job,) = [job for job in jobs if job.status == "succeeded"]
        trained_on = [client.files.content(file).read() for file in (job.training_file, str(job.validation_file))]
    assert done == [("succeeded", model)]
    assert trained_on == [request.training, request.validation]
    assert (job.model, job.seed) == ("sandbox-small", request.seed)
    assert [names.count(file_name(content)) for content in request.files().values()] == [1, 1]


@pytest.fixture(scope="module")
def machines() -> Machines:
    return Machines()


@pytest.mark.parametrize("kept", [True, False], ids=["journal-kept", "journal-deleted"])
@pytest.mark.parametrize("rivalled", [False, True], ids=["alone", "beside-another-machine"])
def test_a_kill_at_any_boundary_of_the_journal_costs_nothing(
    endpoint: Endpoint, tmp_path: Path, machines: Machines, *, rivalled: bool, kept: bool
) -> None:
    whole = build(endpoint, new_request(), tmp_path / "jobs.jsonl", Fate(rivalled=rivalled))
    states = [boundary.removeprefix("before ") for boundary in whole if boundary.startswith("before")]
    assert [state for state in states if state != "status"] == [
        *["uploading", "uploaded", "uploading", "uploaded", "creating", "created"],
        *(["cancelling", "deleting", "deleting"] if rivalled else []),
        "succeeded",
    ]
    first = whole.index("after created") if rivalled else 1
    requests = {number: new_request() for number in range(first, len(whole) + 1)}
    builds = {
        number: machines.start(endpoint, request, tmp_path / str(number) / "jobs.jsonl", Fate(number, rivalled))
        for number, request in requests.items()
    }
    for number, request in requests.items():
        builds[number].join(60)
        assert builds[number].exitcode == -signal.SIGKILL or number > len(whole) - 6  # it met fewer statuses
        journal = tmp_path / str(number) / "jobs.jsonl"
        if not kept:
            shutil.rmtree(journal.parent)
        check_one_of_each(endpoint, request, run(endpoint, request, journal).model)


# --- faults ---------------------------------------------------------------------------------------------------------


def try_twice(sandbox: Sandbox, request: JobRequest, journal: Path, *faults: Fault) -> str:
    """Run with these faults, then take up what is there with them once more, then without; give all reports."""
    heard = Report()
    patience = Patience(first=0.01, longest=0.1, settling=0.5, answer=0.6)
    for _ in range(2):
        sandbox.set_faults(*faults)
        with contextlib.suppress(TrainingError):
            run(Endpoint("sandbox", sandbox.base_url), request, journal, report=heard, patience=patience)
        shutil.rmtree(journal.parent)
    sandbox.set_faults()
    return heard.text


@pytest.fixture(scope="module")
def asked(server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The operations that a build, and one that takes it up, ask for: found by failing each of them."""
    names = [operation.name for operation in OPERATIONS if operation.path.startswith(OF_TRAINING)]
    return [
        name
        for name in names
        if "does not answer"
        in try_twice(
            server,
            new_request(),
            tmp_path_factory.mktemp("probe") / "state" / "jobs.jsonl",
            Fault(kind=FaultKind.SERVER_ERROR, operation=name, times=1),
        )
    ]


def test_what_is_asked_is_known(asked: list[str]) -> None:
    assert asked == [
        *["create_file", "list_files", "create_job", "list_jobs", "retrieve_job"],
        *["list_events", "list_checkpoints", "retrieve_model"],
    ]


@pytest.mark.parametrize("kind", OF_ANY_REQUEST, ids=lambda kind: str(kind.value))
def test_any_failure_of_any_request_costs_nothing(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, asked: list[str], kind: FaultKind
) -> None:
    for operation in asked:
        request = new_request()
        try_twice(sandbox, request, journal, Fault(kind=kind, operation=operation, times=1, seconds=0.9))
        check_one_of_each(endpoint, request, run(endpoint, request, journal).model)


@pytest.mark.parametrize("kind", sorted(OF_JOB_CREATION), ids=lambda kind: str(kind.value))
def test_any_failure_of_a_job_leaves_one_in_the_end(
    sandbox: Sandbox, endpoint: Endpoint, journal: Path, kind: FaultKind
) -> None:
    request = new_request()
    sandbox.set_faults(Fault(kind=kind, times=1))
    if kind is FaultKind.JOB_PAUSES:
        (job_id,) = hand_in(endpoint, request, journal)
        with endpoint.client() as client:
            await_status(client, job_id, "paused")
            client.fine_tuning.jobs.resume(job_id)
    else:
        with pytest.raises(TrainingError):
            run(endpoint, request, journal)
    check_one_of_each(endpoint, request, run(endpoint, request, journal).model)


# --- two machines ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose jobs are validated and queued for a while, as those of a service are."""
    state = tmp_path_factory.mktemp("slow")
    with Sandbox(Settings(clock_speed=1, queue_seconds=2, max_jobs=2, state_dir=state)) as running:
        yield running


def test_two_machines_that_start_at_once_keep_one_job(slow: Sandbox, tmp_path: Path, machines: Machines) -> None:
    endpoint, first = Endpoint("sandbox", slow.base_url), new_request()
    for number, request in enumerate([first, replace(first, seed=next(SEEDS))]):  # the second one finds its files
        start = machines.context.Barrier(2)
        folders = [tmp_path / f"{number}-{machine}" for machine in "ab"]
        pair = [machines.start(endpoint, request, folder / "jobs.jsonl", Fate(start=start)) for folder in folders]
        for process in pair:
            process.join(60)
        assert [process.exitcode for process in pair] == [0, 0]
        (model,) = {(folder / "model.txt").read_text(encoding="utf-8") for folder in folders}
        check_one_of_each(endpoint, request, model)


def test_a_second_job_that_cannot_be_cancelled_does_not_stop_the_build(sandbox: Sandbox, tmp_path: Path) -> None:
    request = new_request()
    with refusing(sandbox, "POST", "/cancel") as url:
        passed = build(Endpoint("sandbox", url), request, tmp_path / "jobs.jsonl", Fate(rivalled=True))
    assert "after cancelling" in passed
    with Endpoint("sandbox", sandbox.base_url).client() as client:
        jobs = client.fine_tuning.jobs.list(metadata={KEY: request.key(Endpoint("sandbox", ""))})
        assert [str(job.status) for job in jobs] == ["paused", "succeeded"]
