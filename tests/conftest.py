"""What all tests share: no key of a developer, and no proxy, may reach them; and one project that is built once."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

from pytest_finetune import secrets
from pytest_finetune.lock import Lock, read_lock, update_lock, write_lock

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one takes its time
hypothesis.settings.load_profile("any machine")

TASKS = """\
from typing import Literal

import dspy

from pytest_finetune import Dataset, Task, metrics


class Route(dspy.Signature):
    '''Name the department that the message is for.'''

    text: str = dspy.InputField()
    department: Literal["account", "billing", "shipping", "technical"] = dspy.OutputField()


def task(data="tickets.jsonl", **changes):
    settings = dict(
        endpoint="sandbox",
        program=lambda: dspy.Predict(Route),
        dataset=Dataset.from_file(data, inputs=["text"], split="split"),
        metric=metrics.exact_match("department"),
        student="sandbox-small",
        optimizer="labeled_few_shot",
        recipe="labels",
    )
    return Task(**{**settings, **changes})


tickets = task(teacher="sandbox-large")
"""
TESTS = """\
import pytest


@pytest.mark.ft_ladder("tickets", min_score=0.5)
def test_tickets(): ...
"""
WORDS = {
    "account": "login password email profile name delete signup verify session username",
    "billing": "invoice refund charge payment card price receipt fee coupon tax",
    "shipping": "parcel courier address delay tracking box delivery label customs depot",
    "technical": "crash error bug slow freeze screen update install network log",
}
FILLERS = "please help me with my thing today it is about the again now since yesterday and we need this soon thanks"
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


OF_THE_RUN = ("CI", "PYTEST_XDIST_WORKER_COUNT")  # of the run of our own tests


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_", "NEBIUS_")) or name.lower().endswith("_proxy") or name in OF_THE_RUN:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test takes for a secret is an ordinary word in another."""
    monkeypatch.setattr(secrets, "_known", [])


@pytest.fixture(params=[(), ("-n", "0"), ("-n", "2")], ids=["plain", "n0", "n2"])
def plugin_args(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The three ways in which users run pytest; the same test must pass in each."""
    args: tuple[str, ...] = request.param
    return args or ("-p", "no:xdist")


def make_rows(seed: int, **counts: int) -> Iterator[dict[str, str]]:
    """Short messages with a word of their department, and one that may be another's; no two are alike."""
    draw = random.Random(seed)
    seen = set[str]()
    for split, count in counts.items():
        wanted = len(seen) + count
        while len(seen) < wanted:
            department = draw.choice(sorted(WORDS))
            words = [draw.choice(WORDS[name].split()) for name in (department, draw.choice(sorted(WORDS)))]
            words += draw.sample(FILLERS.split(), 4)
            draw.shuffle(words)
            text = " ".join(words)
            if text not in seen:
                seen.add(text)
                yield {"text": text, "department": department, "split": split}


@dataclass(frozen=True)
class Project:
    """A user's project, and pytest as the user runs it: beside this plugin, only those that are named are loaded."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        return self.pytester.path

    @property
    def lock(self) -> Path:
        return self.path / "models.lock"

    @property
    def candidate(self) -> Path:
        return self.path / ".pytest-finetune" / "candidate.lock"

    def run(self, *args: str) -> pytest.RunResult:
        plugins = ("-p", "xdist") if "-n" in args else ()
        options = ("-p", "finetune", *plugins, "-p", "no:cacheprovider")
        return self.pytester.runpytest_subprocess(*options, *args)

    def gate(self, *args: str) -> pytest.RunResult:
        return self.run("--finetune-models=models.lock", *args)

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def move(self, folder: str, *names: str) -> None:
        """Put files of the project in a folder, and call the tasks of the lock as they are called from there."""
        (self.path / folder).mkdir(parents=True)
        for name in names:
            (self.path / name).rename(self.path / folder / name)
        lock = next(path for path in (self.lock, self.path / folder / "models.lock") if path.exists())
        entries = [entry.model_copy(update={"task": f"{folder}/{entry.task}"}) for entry in read_lock(lock).models]
        write_lock(lock, Lock(model=tuple(entries)))

    def artifact(self, kind: str) -> Path:
        """One of the files beside the lock; of the training files there is just one."""
        return next(iter(sorted((self.path / "models.lock.d").glob(f"{kind}-*"))))

    def accept_another(self, model: str, task: str = "tickets", **changes: Any) -> str:
        """Let another model into the lock, which answers alike; give the one before."""
        lock = read_lock(self.lock)
        old = lock.entry(task, "finetuned")
        new = old.model_copy(update={"model": model, **changes})
        keys, entries = {old.key: new.key}, []
        for entry in lock.with_stage(new).of_task(task):
            versions = (sorted(keys.get(key, key) for key in claim.versions) for claim in entry.gate)
            gate = [
                claim.model_copy(update={"versions": tuple(of)})
                for claim, of in zip(entry.gate, versions, strict=True)
            ]
            entries.append(entry.model_copy(update={"gate": tuple(gate)}))
        update_lock(self.lock, entries)
        return old.model

    def forget_what_was_accepted(self) -> None:
        """Leave of the lock what it says of models: no rows, and no scores."""
        entries = []
        for entry in read_lock(self.lock).models:
            artifacts = entry.artifacts.model_copy(update={"rows": None})
            entries.append(entry.model_copy(update={"artifacts": artifacts, "score": None}))
        write_lock(self.lock, Lock(model=tuple(entries)))

    def said(self, result: pytest.RunResult) -> str:
        """What was printed, without what differs from run to run, or with the libraries that a model learns by."""
        text = result.stdout.str() + result.stderr.str()
        text = text.replace(str(self.path), "<project>").replace(str(self.path.parent), "<folder>")
        text = re.sub(r"ft:[\w:-]+", "<model>", text)
        text = re.sub(r"=* (.*) in \d+\.\d+s(?: \(\d.*\))?.*", r"\1", text)
        text = re.sub(r"(reused \d+ of) \d+ \w{3},", r"\1 <day>,", text)
        text = re.sub(r"[-+]?\d+\.\d+", "#", text)
        return re.sub(r"\d+ (won|lost|equal)", r"# \1", text)

    def mean(self, stage: str) -> float:
        """What a stage scored, by the lock."""
        score = read_lock(self.lock).entry("tickets", stage).score
        assert score is not None
        return score.mean


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of which nothing is built yet."""
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    made = Project(pytester)
    write_sources(made.path)
    return made


@pytest.fixture
def built(project: Project, built_folder: Path) -> Project:
    """A project with its lock, and with every row in its store: gating it asks no model."""
    shutil.copytree(built_folder, project.path, dirs_exist_ok=True)
    return project


@pytest.fixture
def teams(built: Project) -> Project:
    """Two teams, each with its tasks file, data, lock and tests; nothing is at the rootdir."""
    for team in "ab":
        folder = built.path / "teams" / team
        shutil.copytree(built.path / "models.lock.d", folder / "models.lock.d")
        for name in ("finetune_tasks.py", "tickets.jsonl"):
            shutil.copy(built.path / name, folder / name)
        lock = built.lock.read_text(encoding="utf-8").replace('task = "tickets"', f'task = "teams/{team}/tickets"')
        built.write(f"teams/{team}/models.lock", lock)
        built.write(f"teams/{team}/test_{team}.py", TESTS.replace("test_tickets", f"test_{team}"))
    for name in ("finetune_tasks.py", "tickets.jsonl", "models.lock", "test_models.py"):
        (built.path / name).unlink()
    shutil.rmtree(built.path / "models.lock.d")
    built.write("pyproject.toml", "[tool.pytest-finetune]\ntasks = ['teams/*/finetune_tasks.py']\n")
    return built


@pytest.fixture(scope="session")
def built_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the project was built by ``--ft-retrain``, once for all workers; ``build.txt`` is what that printed."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "built"
    with FileLock(f"{shared}.lock"):
        if not (shared / "build.txt").exists():
            shared.mkdir(exist_ok=True)
            write_sources(shared)
            command = [sys.executable, "-m", "pytest", "-p", "finetune", "-p", "no:cacheprovider", "--ft-retrain"]
            done = subprocess.run(
                command, cwd=shared, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.rmtree(shared / ".pytest-finetune" / "sandbox")
            (shared / "build.txt").write_text(done.stdout, encoding="utf-8")
    return shared


def write_sources(folder: Path) -> None:
    (folder / "finetune_tasks.py").write_text(TASKS, encoding="utf-8")
    (folder / "test_models.py").write_text(TESTS, encoding="utf-8")
    lines = [json.dumps(row) for row in make_rows(7, train=240, dev=40, test=320)]
    (folder / "tickets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # or the rootdir would be further up
