"""``pytest-finetune jobs``, on a real server."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from syrupy.assertion import SnapshotAssertion
from tests.cli.conftest import Command, Done
from tests.conftest import write_sources
from tests.training.conftest import Report, hurried
from tests.training.test_job_faults import await_status, chats

from pytest_finetune.cli import ExitStatus
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import FinetuneError
from pytest_finetune.lock import read_lock
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox, Settings
from pytest_finetune.training import journal as states
from pytest_finetune.training.attempt import ENDED
from pytest_finetune.training.jobs import JobRequest, JobRunner
from pytest_finetune.training.journal import Journal

PAGE = Path(__file__).parents[2] / "docs" / "jobs.md"
FOLDER = Path(".pytest-finetune")
TASK = "pytest-finetune train colours"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    state = tmp_path_factory.mktemp("sandbox")
    with Sandbox(Settings(clock_speed=10_000, max_jobs=2, state_dir=state)) as running:
        yield running


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    yield server
    server.set_faults()


@pytest.fixture
def mine(sandbox: Sandbox, tmp_path: Path) -> Endpoint:
    """An endpoint that the project names."""
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.pytest-finetune]\nendpoint = "mine"\n[tool.pytest-finetune.endpoints.mine]\n'
        f'base_url = "{sandbox.base_url}"\n'
    )
    return Endpoint("mine", sandbox.base_url)


def begin(endpoint: Endpoint, tmp_path: Path, seed: int, *, wait: bool = True) -> str:
    """Begin a job, and give its id."""
    patience = replace(hurried(), to_the_end=wait)
    journal = Journal(tmp_path / FOLDER / "jobs.jsonl")
    runner = JobRunner(endpoint, journal, report=Report(), comeback=TASK, patience=patience)
    try:
        return runner.run(JobRequest("sandbox-small", chats(12, seed), seed=seed, suffix="colours")).id
    except FinetuneError:
        return str(journal.last()[-1]["job"])


def paused(sandbox: Sandbox, endpoint: Endpoint, tmp_path: Path, seed: int) -> str:
    """Begin a job that pauses half-way."""
    sandbox.set_faults(Fault(kind=FaultKind.JOB_PAUSES, times=1))
    job = begin(endpoint, tmp_path, seed, wait=False)
    with endpoint.client() as client:
        await_status(client, job, "paused")
    return job


def words(done: Done, tmp_path: Path) -> str:
    """What was said, without what differs from run to run."""
    text = (done.out + done.err).replace(str(tmp_path), "<project>")
    for pattern, name in (
        (r"ftjob-\w+", "<job>"),
        (r"\b[0-9a-f]{32}\b", "<key>"),
        (r"ft:[\w:-]+", "<model>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d", "<moment>"),
        (r"Step \d+/\d+: [^\n]*", "<step>"),
    ):
        text = re.sub(pattern, name, text)
    return re.sub(r"(Job <job>: .*\n)+", "Job <job>: …\n", text)


def test_jobs_are_listed_with_what_is_to_be_done(
    sandbox: Sandbox, mine: Endpoint, command: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    jobs = [begin(mine, tmp_path, 1)]
    sandbox.set_faults(Fault(kind=FaultKind.JOB_FAILS, times=1))
    jobs += [begin(mine, tmp_path, 2), paused(sandbox, mine, tmp_path, 3)]
    Journal(tmp_path / FOLDER / "jobs.jsonl").write(
        "0" * 32, "refused", endpoint="mine", model="sandbox-small", predictor="find", reason="Quota."
    )
    done = command("jobs")
    assert done.status == ExitStatus.HELD
    parts = re.split(r"\n(?=\S)", done.out.strip())  # the server has jobs of other tests too
    told = [part for part in parts if any(name in part for name in (*jobs, "0" * 32))]
    assert snapshot == words(replace(done, out="\n".join(told)), tmp_path)
    shutil.rmtree(tmp_path / FOLDER)
    without = command("jobs")
    assert set(jobs) <= set(re.findall(r"ftjob-\w+", without.out))


def test_no_jobs_are_no_error(command: Command) -> None:
    done = command("jobs")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out == "There are no jobs. The command that begins one: pytest-finetune train\n"


def test_where_an_endpoint_is_silent_the_journal_speaks(
    mine: Endpoint, command: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    job = begin(mine, tmp_path, 11)
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text() + 'api_key_env = "NO_SUCH_KEY"\n')
    done = command("jobs")
    assert (done.status, job in done.out) == (ExitStatus.HELD, True)
    assert snapshot == words(done, tmp_path)


def test_a_paused_job_is_resumed_and_watched_to_its_end(
    sandbox: Sandbox, mine: Endpoint, command: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    job = paused(sandbox, mine, tmp_path, 21)
    resumed, watched, again = (command("jobs", verb, job) for verb in ("resume", "watch", "resume"))
    assert [done.status for done in (resumed, watched, again)] == [0, 0, ExitStatus.USAGE]
    assert snapshot == "---\n".join(words(done, tmp_path) for done in (resumed, watched, again))
    assert begin(mine, tmp_path, 21) == job


def test_a_cancelled_job_is_over(
    sandbox: Sandbox, mine: Endpoint, command: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    job = paused(sandbox, mine, tmp_path, 31)
    cancelled, again, watched = (
        command("jobs", *verb) for verb in (("cancel", job, "--yes"), ("cancel", job, "--yes"), ("watch", job))
    )
    assert [done.status for done in (cancelled, again, watched)] == [0, ExitStatus.USAGE, ExitStatus.NOT_EVALUATED]
    assert snapshot == "---\n".join(words(done, tmp_path) for done in (cancelled, again, watched))
    sandbox.set_faults()
    assert begin(mine, tmp_path, 31) != job


def test_a_forgotten_job_is_not_taken_up(mine: Endpoint, command: Command, tmp_path: Path) -> None:
    job = begin(mine, tmp_path, 41)
    done = command("jobs", "forget", job, "--yes")
    assert (done.status, done.out) == (0, f"{job} is not taken up again.\nStart anew with: {TASK}\n")
    assert f"{job}  gone\n" in command("jobs").out
    assert begin(mine, tmp_path, 41) != job


@pytest.mark.usefixtures("mine")
def test_an_attempt_whose_answer_was_lost_is_forgotten_by_its_key(command: Command, tmp_path: Path) -> None:
    journal = Journal(tmp_path / FOLDER / "jobs.jsonl")
    journal.write("f" * 32, "creating", endpoint="mine", model="sandbox-small", comeback=TASK)
    assert f"no job yet, key {'f' * 32}  creating\n" in command("jobs").out
    assert command("jobs", "forget", "f" * 32, "--yes").status == 0
    assert journal.attempt("f" * 32) == {}


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["watch", "ftjob-none"],
            "no endpoint that was asked (mine) has a job ftjob-none: pytest-finetune jobs lists",
        ),
        (["--endpoint", "mine", "watch", "ftjob-none"], "put the options after 'watch', which they are for."),
        (["watch", "ftjob-none", "--endpoint", "other"], "there is no endpoint 'other'"),
    ],
)
def test_what_cannot_be_found_is_one_message(command: Command, arguments: list[str], said: str) -> None:
    done = command("jobs", *arguments)
    assert (done.status, said in done.err) == (ExitStatus.USAGE, True)


def test_the_sandbox_of_a_build_is_left_to_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    with FileLock(tmp_path / FOLDER / "building.lock"):
        done = command("jobs", "watch", "ftjob-1", "--endpoint", "sandbox")
    assert (done.status, "is in use by a build" in done.err) == (ExitStatus.NOT_EVALUATED, True)
    alone = command("jobs", "watch", "ftjob-1", "--endpoint", "sandbox")
    assert (alone.status, "no endpoint that was asked (sandbox)" in alone.err) == (ExitStatus.USAGE, True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a task, of which nothing is built."""
    write_sources(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("finetune_tasks", None)


def test_train_without_waiting_hands_in_and_a_later_run_takes_up(project: Path, command: Command) -> None:
    handed_in = command("train", "tickets", "--no-wait", "--skip-check")
    assert handed_in.status == 75
    (job,) = set(re.findall(r"ftjob-\w+", handed_in.out))
    end = "goes on; take it up with: pytest-finetune train tickets\n"
    assert re.search(
        rf"Not built yet:\ntickets: job {job} on endpoint 'sandbox' is handed in \(.*\) and {end}", handed_in.out
    )
    assert not (project / FOLDER / "candidate.lock").exists()
    assert job in command("jobs").out
    watched = command("jobs", "watch", job)
    assert (watched.status, watched.out.endswith("Take it up with: pytest-finetune train tickets\n")) == (0, True)
    built = command("train", "tickets", "--no-wait", "--skip-check")
    assert (built.status, built.err) == (ExitStatus.HELD, "")
    entry = read_lock(project / FOLDER / "candidate.lock").entry("tickets", "finetuned")
    assert entry.job is not None
    assert entry.job.id == job


def test_the_commands_of_the_page_are_there(command: Command) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    verbs = [words[2] for words in (shlex.split(line, comments=True) for line in block.splitlines()) if words[2:]]
    assert verbs == ["--endpoint", "watch", "resume", "cancel", "forget"]
    for verb in verbs[1:]:
        assert command("jobs", verb, "--help").status == ExitStatus.HELD
    cells = re.findall(r"^\| (`.*?) \|", page.partition("## The verbs")[0], re.MULTILINE)
    names = {name: value for name, value in vars(states).items() if name.isupper() and isinstance(value, str)}
    del names["UNANSWERED"]  # no state, but a fact
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted({*names.values(), *ENDED})
