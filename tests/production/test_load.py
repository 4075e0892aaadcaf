"""What CI tested is what production runs."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.conftest import Project
from tests.production.served import ROWS, Production, entry_of, in_state, promoted

import pytest_finetune
from pytest_finetune.errors import DriftError, EndpointError, LockError, NotPromoted, UsageError
from pytest_finetune.lock import ArtifactRefs, Artifacts, Lock, read_lock, write_lock
from pytest_finetune.lock.tuned import Tuned
from pytest_finetune.programs import dump_state, program_fingerprint
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox, Settings
from pytest_finetune.secrets import redacted
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings
from pytest_finetune.workflow.tasks import load_tasks

TEXTS = [text for text, _ in ROWS]


def answers(program: Any) -> list[str]:
    return [program(text=text).department for text in TEXTS]


def test_the_promoted_program_serves_with_neither_rows_nor_tests(production: Production) -> None:
    program = production.load()
    assert program.version == production.entry.version
    assert program.version.state == "production"
    right = sum(program(text=text).department == department for text, department in ROWS)
    assert right >= 25
    assert production.provider.request_counts()["by_model"] == {production.entry.model: len(ROWS)}
    assert not list(production.path.glob("*.jsonl"))


def test_loading_asks_nothing(production: Production) -> None:
    program = production.load(base_url="http://127.0.0.1:9/v1")
    with pytest.raises(Exception, match="onnection refused"):
        program(text="hello")


def test_it_answers_as_the_gated_program(production: Production, built: Project) -> None:
    settings = read_settings(built.path, options={"models": [str(built.lock)]}, environment={})
    (address := built.path / "address").write_text(production.provider.address, encoding="utf-8")
    run = Run(settings, shared=address, joins=True)
    gated = answers(run.evaluations.program("tickets", "finetuned"))
    run.close()
    sys.modules.pop("finetune_tasks")
    assert answers(production.load()) == gated
    assert len(set(gated)) == 4
    rows = production.provider.request_counts()["by_row"]
    assert len(rows) == len(ROWS)
    assert {row["count"] for row in rows} == {2}  # prompt and decoding are the same, byte for byte


def test_it_is_the_public_function(production: Production) -> None:
    assert pytest_finetune.load is pytest_finetune.production.load
    assert pytest_finetune.load(str(production.lock), "tickets", base_url=production.provider.base_url)


def test_many_threads_and_tasks_at_once_get_the_pinned_adapter_whatever_is_configured(
    production: Production,
) -> None:
    program = production.load()
    expected = answers(program)
    with dspy.context(adapter=dspy.XMLAdapter(), lm=None), ThreadPoolExecutor(16) as pool:
        from_threads = list(pool.map(lambda text: program(text=text).department, TEXTS * 3))
        before = dict(dspy.settings.config)

        async def ask() -> list[str]:
            found = await asyncio.gather(*(program.acall(text=text) for text in TEXTS * 3))
            assert isinstance(dspy.settings.adapter, dspy.XMLAdapter)
            return [one.department for one in found]

        from_tasks = asyncio.run(ask())
        assert dict(dspy.settings.config) == before
    assert from_threads == from_tasks == expected * 3
    prompts = production.provider.request_counts()["by_row"]
    assert Counter(row["count"] for row in prompts) == {7: len(TEXTS)}


def test_the_adapter_and_the_decoding_are_the_locks(production: Production) -> None:
    """An earlier version in production may be pinned with others than the tasks file has today."""
    version = production.entry.version.model_copy(update={"adapter": "json", "decoding": {"temperature": 0.5}})
    production.relock(entry_of(version))
    program = production.load()
    (predictor,) = program.predictors()
    assert predictor.lm.kwargs["temperature"] == 0.5
    assert predictor.lm.cache is False
    program(text="my parcel is late")
    with dspy.context(adapter=dspy.ChatAdapter()):
        program(text="my parcel is late")
    (row,) = production.provider.request_counts()["by_row"]
    assert row["count"] == 2
    production.relock(entry_of(version.model_copy(update={"adapter": "smoke signals"})))
    with pytest.raises(LockError, match="no adapter 'smoke signals': known are chat, json, xml"):
        production.load()


def test_what_was_not_promoted_is_refused_unless_it_is_asked_for(production: Production) -> None:
    entry = production.entry
    production.relock(entry_of(in_state(entry.version, "candidate")))
    with pytest.raises(NotPromoted, match="nothing is in production") as refused:
        production.load()
    assert f"it has {entry.model} (candidate)" in str(refused.value)
    assert "pytest-finetune promote tickets;" in str(refused.value)
    assert production.load(state="candidate").version.state == "candidate"
    with pytest.raises(NotPromoted, match="promote tickets --stage prompt_optimized;"):
        production.load(stage="prompt_optimized")
    assert production.load(stage="prompt_optimized", state="candidate").version.model == "sandbox-small"


def test_where_no_version_is_in_a_state_the_advice_is_about_that_state(production: Production) -> None:
    with pytest.raises(NotPromoted, match=r"nothing is candidate in .* build one with pytest --ft-retrain"):
        production.load(state="candidate")
    with pytest.raises(NotPromoted, match=r"nothing is deprecated in .* until then, fall back to another stage"):
        production.load(state="deprecated")


def test_what_was_put_into_production_by_hand_is_refused(production: Production) -> None:
    production.relock(production.entry.model_copy(update={"history": ()}))
    with pytest.raises(LockError, match="by its history it is candidate"):
        production.load()


@pytest.mark.parametrize("state", ["retired", "rolled_back", "all"])
def test_a_version_that_must_not_serve_is_never_loaded(production: Production, state: Any) -> None:
    entry = production.entry
    if state != "all":
        production.relock(entry_of(in_state(entry.version, state)))
    with pytest.raises(NotPromoted if state != "all" else UsageError):
        production.load(state="production" if state != "all" else state)
    with pytest.raises(UsageError, match="only production, candidate and deprecated"):
        production.load(state=state)


def test_an_earlier_version_stays_in_production_while_a_candidate_is_pinned(production: Production) -> None:
    old = production.entry.version
    new = in_state(old, "candidate", model="ft:sandbox-small:sandbox:tickets:new")
    oldest = in_state(old, "deprecated", model="ft:sandbox-small:sandbox:tickets:oldest")
    production.relock(entry_of(new, [in_state(old, "production"), oldest]))
    program = production.load()
    assert program.version.model == old.model
    assert answers(program) == answers(production.load())
    assert set(production.provider.request_counts()["by_model"]) == {old.model}
    loaded = [production.load(state=state).version.model for state in ("candidate", "deprecated")]
    assert loaded == [new.model, oldest.model]


def test_a_changed_program_state_is_refused(production: Production) -> None:
    ref = production.entry.artifacts.program
    path = production.path / "models.lock.d" / f"program-{ref.removeprefix('sha256:')[:16]}.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("department", "person"), encoding="utf-8")
    with pytest.raises(LockError, match="was changed: its SHA-256 is not the one in the lock"):
        production.load()
    path.unlink()
    with pytest.raises(LockError, match="has no file for sha256:"):
        production.load()


def test_another_program_than_the_tested_one_is_refused(production: Production) -> None:
    production.edit("finetune_tasks.py", "dspy.Predict(Route)", "dspy.ChainOfThought(Route)")
    with pytest.raises(DriftError, match=r"the program is not the one that ft:.* was tested with") as refused:
        production.load()
    assert "pytest --ft-retrain --ft-task tickets" in str(refused.value)


def test_code_that_has_the_program_needs_no_tasks_file(production: Production) -> None:
    expected = answers(production.load())
    task = sys.modules.pop("finetune_tasks").tickets
    (production.path / "finetune_tasks.py").unlink()
    with pytest.raises(UsageError, match="there is no tasks file"):
        production.load()
    assert answers(production.load(program=task.program)) == expected
    own = task.program()
    assert answers(production.load(program=own)) == expected
    assert own.lm is None
    with pytest.raises(DriftError, match="not the one"):
        production.load(program=dspy.Predict("text -> department"))


def test_the_tasks_file_may_be_named(production: Production) -> None:
    (production.path / "lib").mkdir()
    (production.path / "finetune_tasks.py").rename(production.path / "lib" / "our_tasks.py")
    assert production.load(tasks=production.path / "lib" / "our_tasks.py").version.task == "tickets"
    sys.modules.pop("our_tasks")


def test_a_project_behind_a_link_is_the_one_whose_tasks_were_imported(production: Production) -> None:
    current = production.path / "current"
    current.symlink_to(production.path)
    sys.path.insert(0, str(current))
    tasks = importlib.import_module("finetune_tasks")
    program = pytest_finetune.load(current / "models.lock", "tickets", base_url=production.provider.base_url)
    assert program.version == production.entry.version
    assert sys.modules["finetune_tasks"] is tasks


def test_a_task_of_a_folder_is_named_by_its_id_or_its_name(production: Production) -> None:
    tickets = read_lock(production.lock).of_task("tickets")
    moved = [entry.model_copy(update={"task": "teams/a/tickets"}) for entry in tickets]
    write_lock(production.lock, Lock(model=tuple(moved)))
    for name in ("tickets", "teams/a/tickets"):  # the folder alone is deployed
        program = pytest_finetune.load(production.lock, name, base_url=production.provider.base_url)
        assert program.version.name == "teams/a/tickets/finetuned"
    table = '[tool.pytest-finetune]\ntasks = ["**/finetune_tasks.py"]\n'
    (production.path / "pyproject.toml").write_text(table, encoding="utf-8")
    (folder := production.path / "teams" / "a").mkdir(parents=True)
    (production.path / "finetune_tasks.py").rename(folder / "finetune_tasks.py")
    sys.modules.pop("finetune_tasks")
    assert production.load().version.task == "teams/a/tickets"
    others = [entry.model_copy(update={"task": "teams/b/tickets"}) for entry in tickets]
    write_lock(production.lock, Lock(model=(*moved, *others)))
    with pytest.raises(LockError, match=r"no task 'tickets' \(it has teams/a/tickets, .*\): name one by its id: "):
        production.load()


TWICE = """

class Twice(dspy.Module):
    def __init__(self):
        self.first, self.second = dspy.Predict(Route), dspy.Predict(Route)

    def forward(self, text):
        self.first(text=text)
        return self.second(text=text)


twice = task(program=Twice)
"""


def test_each_predictor_asks_its_own_model(production: Production) -> None:
    tasks = production.path / "finetune_tasks.py"
    tasks.write_text(tasks.read_text(encoding="utf-8") + TWICE, encoding="utf-8")
    program = load_tasks(production.path, [tasks.name])["twice"].program()
    models = {"first": production.entry.model, "second": "sandbox-small"}
    version, state = (
        production.entry.version,
        Artifacts.beside(production.lock).put_json("program", dump_state(program)),
    )
    changes = {
        "task": "twice",
        "model": ",".join(models.values()),
        "job": None,
        "predictors": {name: Tuned(model=model) for name, model in models.items()},
        "artifacts": ArtifactRefs(program=state, predictors=dict.fromkeys(models, f"sha256:{'0' * 64}")),
        "fingerprints": version.fingerprints.model_copy(update={"program": program_fingerprint(program)}),
    }
    production.relock(entry_of(version.model_copy(update=changes)))
    served = pytest_finetune.load(production.lock, "twice", base_url=production.provider.base_url)
    assert served(text="my parcel is late").department
    assert production.provider.request_counts()["by_model"] == dict.fromkeys(models.values(), 1)


def test_settings_are_those_of_the_project_around_the_lock(production: Production) -> None:
    folder = production.path / "locks"
    folder.mkdir()
    production.lock.rename(folder / "models.lock")
    (production.path / "models.lock.d").rename(folder / "models.lock.d")
    (folder / "pyproject.toml").write_text("[project]\nname = 'locks'\n", encoding="utf-8")
    (production.path / "pyproject.toml").write_text("[tool.pytest-finetune]\nconcurrency = 3\n", encoding="utf-8")
    program = pytest_finetune.load(folder / "models.lock", "tickets", base_url=production.provider.base_url)
    assert program.predictors()[0].lm.engine.most == 3


ENDPOINT = """
[tool.pytest-finetune.endpoints.mine]
base_url = "{}"
api_key_env = "MINE_KEY"
headers_env = {{ x-team = "MINE_TEAM" }}
"""


def on_mine(production: Production, pinned: str, address: str) -> None:
    """The stages are pinned on an endpoint that the project's settings name."""
    (production.path / "pyproject.toml").write_text(ENDPOINT.format(address), encoding="utf-8")
    for entry in read_lock(production.lock).models:
        production.relock(promoted(entry.model_copy(update={"endpoint": f"mine {pinned}"})))


def test_the_key_is_that_of_the_endpoint(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(Settings(api_key="sesame")) as guarded:
        on_mine(production, guarded.base_url, guarded.base_url)
        asked = partial(production.load, stage="prompt_optimized", base_url=None)
        with pytest.raises(EndpointError, match="needs a key in the environment variable MINE_KEY"):
            asked()
        monkeypatch.setenv("MINE_KEY", "sesame")
        with pytest.raises(EndpointError, match="header x-team in the environment variable MINE_TEAM"):
            asked()
        monkeypatch.setenv("MINE_TEAM", "support")
        assert asked()(text="my parcel is late").department
        monkeypatch.setenv("MINE_KEY", "wrong")
        with pytest.raises(Exception, match="Incorrect API key"):
            asked()(text="my parcel is late")


def test_a_password_of_the_endpoint_is_in_no_message(production: Production) -> None:
    on_mine(production, "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1")
    proxy = 'base_url = "http://127.0.0.1:9/v1"\nproxy = "http://us:open-barley@127.0.0.1:9"\n'
    table = f"[tool.pytest-finetune.endpoints.mine]\n{proxy}"
    (production.path / "pyproject.toml").write_text(table, encoding="utf-8")
    production.load(base_url=None)
    assert "open-barley" not in redacted("the proxy said: open-barley is wrong")


def test_another_endpoint_than_the_pinned_one_is_refused(production: Production) -> None:
    address = production.provider.base_url
    on_mine(production, "https://api.example.com/v1", address)
    with pytest.raises(DriftError, match=r"pins endpoint .mine https://api\.example\.com/v1"):
        production.load(base_url=None)
    on_mine(production, address, address)
    with pytest.raises(UsageError, match="base_url= is for the sandbox"):
        production.load()
    (production.path / "pyproject.toml").unlink()
    with pytest.raises(UsageError, match="there is no endpoint 'mine'"):
        production.load(base_url=None)


def test_the_sandbox_must_be_said_where_it_is(production: Production) -> None:
    with pytest.raises(UsageError, match=r"base_url=sandbox\.base_url"):
        production.load(base_url=None)


def test_a_lock_that_must_be_signed_is_refused_without_a_signature(production: Production) -> None:
    (production.path / "signers").write_text("", encoding="utf-8")
    table = '[tool.pytest-finetune]\nverify = "signers"\n'
    (production.path / "pyproject.toml").write_text(table, encoding="utf-8")
    with pytest.raises(LockError, match="is not signed"):
        production.load()


def test_a_model_that_is_gone_raises_what_the_endpoint_says(production: Production) -> None:
    program = production.load()
    production.provider.set_shutdown(production.entry.model, "2026-01-01")
    try:
        with pytest.raises(Exception, match="does not exist"):
            program(text="hello")
    finally:
        production.provider.set_shutdown(production.entry.model, None)
    assert program(text="hello").department


def test_a_request_is_sent_three_times_and_no_more(production: Production) -> None:
    program = production.load()
    outage = Fault(kind=FaultKind.SERVER_ERROR, times=2)
    try:
        production.provider.set_faults(outage)
        assert program(text="hello").department
        production.provider.set_faults(outage.model_copy(update={"times": 3}))
        with pytest.raises(Exception, match="server had an error"):
            program(text="hello again")
    finally:
        production.provider.set_faults()


@pytest.mark.parametrize("said", ["argument", "table", "setting"])
def test_nobody_waits_longer_than_the_timeout(production: Production, said: str) -> None:
    address = production.provider.base_url
    table = {"argument": "", "table": "timeout = 0.1\n", "setting": "[tool.pytest-finetune]\nrow_timeout = 0.1\n"}[
        said
    ]
    text = f'[tool.pytest-finetune.endpoints.mine]\nbase_url = "{address}"\n{table}'
    (production.path / "pyproject.toml").write_text(text, encoding="utf-8")
    production.relock(promoted(production.entry.model_copy(update={"endpoint": f"mine {address}"})))
    program = production.load(base_url=None, timeout=0.1 if said == "argument" else None)
    try:
        production.provider.set_faults(Fault(kind=FaultKind.HANG, seconds=30))
        began = time.monotonic()
        with pytest.raises(Exception, match="timed out"):
            program(text="hello")
        assert time.monotonic() - began < 25
    finally:
        production.provider.set_faults()


WITHOUT_PYTEST = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytest", "_pytest", "pluggy"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
import pytest_finetune
assert not {"dspy", "openai", "pytest_finetune.production"} & set(sys.modules)
program = pytest_finetune.load(sys.argv[1], "tickets", base_url=sys.argv[2])
print(json.dumps(program(text="my parcel is late").department))
assert not {"pytest", "openai", "litellm", "sklearn"} & set(sys.modules)
"""


def test_it_works_where_pytest_is_not_installed(production: Production) -> None:
    command = [sys.executable, "-c", WITHOUT_PYTEST, str(production.lock), production.provider.base_url]
    source = str(Path(pytest_finetune.__file__).parents[1])
    done = subprocess.run(
        command, env={"PYTHONPATH": source, "HOME": str(production.path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == production.load()(text="my parcel is late").department


def test_a_lock_without_the_task_says_what_it_has(production: Production) -> None:
    write_lock(production.lock, Lock(model=read_lock(production.lock).models[:1]))
    with pytest.raises(LockError, match="no stage 'finetuned' of task 'tickets'"):
        production.load()
