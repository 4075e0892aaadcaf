"""The example project: what a user's repository looks like, and that it keeps its promise on a fresh machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ALONE
from tests.production.served import entry_of

from pytest_finetune.core.claims import LADDER
from pytest_finetune.lock import Lock, State, Version, read_lock, write_lock

PROJECT = Path(__file__).parents[1] / "example_project"
MADE_HERE = (".pytest-finetune", ".pytest_cache", "__pycache__")
OFFLINE = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = args[0] if event == "socket.getaddrinfo" else args[1][0] if isinstance(args[1], tuple) else "localhost"
        if host not in ("127.0.0.1", "::1", "localhost", None):
            raise OSError(f"this machine is offline, and {host} was asked for")

sys.addaudithook(refuse)
"""
CHOSEN_BY_THE_SERVER = re.compile(
    r'^(?:model = "ft:.*"|id = "ftjob-.*"|training_file = "file-.*"|(?:created|finished)_at = .*|    "\w{64}",)$',
    re.MULTILINE,
)
SCORE = re.compile(r"^  (\w+) +(0\.\d+)  \((0\.\d+) to (0\.\d+), n=(\d+)\)  reused (\d+), asked (\d+)", re.MULTILINE)


def copy_of_project(folder: Path) -> Path:
    """The files that are committed, in a folder where nothing was ever run."""
    return Path(shutil.copytree(PROJECT, folder / PROJECT.name, ignore=shutil.ignore_patterns(*MADE_HERE)))


def run_pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does whose machine has no network, with no plugin but this one."""
    return run_python(folder, "-m", "pytest", *args)


def run_python(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user does whose machine has no network."""
    guard = folder / ".offline"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(guard), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, **ALONE, "PYTHONPATH": paths, "PYTEST_ADDOPTS": "-p finetune -p no:cacheprovider"}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_of_project(tmp_path)


def test_the_command_of_its_workflow_passes_on_a_fresh_machine_without_a_network(project: Path) -> None:
    workflow = (project / ".github" / "workflows" / "models.yml").read_text(encoding="utf-8")
    found = re.search(r"run: python -m pytest (.+)", workflow)
    assert found
    done = run_pytest(project, *shlex.split(found[1]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 certified, 0 only observed" in done.stdout
    assert "6 passed" in done.stdout
    stages = {(name, int(n) - int(asked)) for name, _, _, _, n, _, asked in SCORE.findall(done.stdout)}
    assert stages == {(name, 0) for name in ("baseline", "prompt_optimized", "finetuned", "teacher")}


def test_no_stage_is_perfect_and_the_ladder_has_steps() -> None:
    scores = {(entry.task, entry.stage): entry.score for entry in read_lock(PROJECT / "models.lock").models}
    assert all(score is not None and score.n >= 400 for score in scores.values())
    ladder = [score.mean for stage in LADDER if (score := scores["tickets", stage])]
    assert 0.45 < ladder[0] < ladder[1] < ladder[2] - 0.1 < 0.95 - 0.1


def test_its_generator_writes_the_committed_tickets(project: Path) -> None:
    tickets = project / "data" / "tickets.jsonl"
    committed = tickets.read_bytes()
    tickets.unlink()
    subprocess.run([sys.executable, "data/make_tickets.py"], cwd=project, check=True)
    assert tickets.read_bytes() == committed
    assert committed.count(b"\n") >= 4000


def test_no_two_tickets_share_their_wording() -> None:
    wording = json.loads((PROJECT / "data" / "wording.json").read_text(encoding="utf-8"))
    names = {name for listed in wording["names"].values() for name in listed}
    lines = (PROJECT / "data" / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    alike = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)), re.IGNORECASE)
    assert len({alike.sub("_", text) for text in texts}) == len(texts)


def test_the_base_model_in_place_of_the_fine_tuned_one_is_noticed(project: Path) -> None:
    lock = project / "models.lock"
    text = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(r'model = "ft:sandbox-small:.*"', 'model = "sandbox-small"', text), encoding="utf-8")
    done = run_pytest(project, "--finetune-models=models.lock")
    assert done.returncode == 1
    assert "tickets/finetuned: the fine-tuned model is its own base 'sandbox-small'" in done.stdout
    assert "1 passed, 5 errors" in done.stdout


def test_a_changed_training_file_is_noticed(project: Path) -> None:
    for path in (project / "models.lock.d").glob("training-*.jsonl"):
        path.write_bytes(path.read_bytes().replace(b"billing\\n", b"account\\n"))
    done = run_pytest(project, "--finetune-models=models.lock")
    assert done.returncode == 1
    assert "was changed: its SHA-256 is not the one in the lock" in done.stdout


def test_plain_pytest_costs_nothing(project: Path) -> None:
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 5 skipped" in done.stdout
    assert not (project / ".pytest-finetune").exists()


def with_finetuned(project: Path, *versions: Version) -> None:
    """Let the stage have these versions, the first one pinned."""
    path = project / "models.lock"
    entries = {(entry.task, entry.stage): entry for entry in read_lock(path).models}
    entries["tickets", "finetuned"] = entry_of(versions[0], versions[1:])
    write_lock(path, Lock(model=tuple(entries.values())))


def finetuned(project: Path, task: str, state: State, **changes: Any) -> Version:
    """A task's fine-tuned model, as a version of the task ``tickets``."""
    version = read_lock(project / "models.lock").entry(task, "finetuned").version
    return version.model_copy(update={"task": "tickets", "state": state, **changes})


def served(project: Path) -> list[str]:
    """What the script prints; on a slow machine, a lost model that has rested is tried once more, and in vain."""
    done = run_python(project, "production.py")
    assert done.returncode == 0, done.stderr
    return re.sub(r"errors=[3-9], format", "errors=3+, format", done.stdout).splitlines()


def test_production_loses_its_model_falls_back_and_comes_back(project: Path) -> None:
    with_finetuned(project, finetuned(project, "tickets", "production"))
    for part in ("data/tickets.jsonl", "test_models.py"):
        (project / part).unlink()  # they are not deployed
    lines = served(project)
    model = read_lock(project / "models.lock").entry("tickets", "finetuned").model
    assert lines == [
        f"production: {model} (finetuned, production)",
        "candidate:  none",
        f"fallback:   sandbox-small (prompt_optimized, {state_of(project, 'prompt_optimized')})",
        "all is well: 40 answers",
        "  Routed(stable=40, candidate=0, stable_errors=0, candidate_errors=0)",
        "  Served(primary=40, fallback=0, errors=0, format_errors=0, opened=0, failed=0)",
        "the model is lost: 40 answers",
        "  Routed(stable=80, candidate=0, stable_errors=0, candidate_errors=0)",
        "  Served(primary=40, fallback=40, errors=3+, format_errors=0, opened=1, failed=0)",
        "it is back: 40 answers",
        "  Routed(stable=120, candidate=0, stable_errors=0, candidate_errors=0)",
        "  Served(primary=80, fallback=40, errors=3+, format_errors=0, opened=1, failed=0)",
    ]


def state_of(project: Path, stage: str) -> str:
    return read_lock(project / "models.lock").entry("tickets", stage).state


def test_production_tries_a_candidate_and_falls_back_to_the_model_before(project: Path) -> None:
    old = finetuned(project, "tickets", "deprecated", model="ft:sandbox-small:sandbox:tickets:old")
    promoted, new = finetuned(project, "tickets", "production"), finetuned(project, "distilled", "candidate")
    with_finetuned(project, new, promoted, old)
    lines = served(project)
    assert lines[:3] == [
        f"production: {promoted.model} (finetuned, production)",
        f"candidate:  {new.model} (finetuned, candidate)",
        f"fallback:   {old.model} (finetuned, deprecated)",
    ]
    assert [line for line in lines if "Routed" in line] == [
        f"  Routed(stable={36 * times}, candidate={4 * times}, stable_errors=0, candidate_errors=0)"
        for times in (1, 2, 3)
    ]
    assert lines[-1] == "  Served(primary=72, fallback=36, errors=3+, format_errors=0, opened=1, failed=0)"


@pytest.mark.slow
def test_built_anew_from_nothing_the_lock_is_the_same_but_for_what_the_server_chose(project: Path) -> None:
    built = []
    for _ in range(2):
        for name in (".pytest-finetune", "models.lock.d"):
            shutil.rmtree(project / name, ignore_errors=True)
        (project / "models.lock").unlink()
        done = run_pytest(project, "--ft-retrain")
        assert done.returncode == 0, done.stdout + done.stderr
        built.append(CHOSEN_BY_THE_SERVER.sub("", (project / "models.lock").read_text(encoding="utf-8")))
    assert built[0] == built[1]
