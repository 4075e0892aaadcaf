"""The project around a lock: whose settings and whose tasks files count when it is loaded."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.production.served import Production

from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock import Lock, read_lock, write_lock
from pytest_finetune.lock.signatures import sign
from pytest_finetune.production import load

TABLE = "[tool.pytest-finetune]\n"
SIGNED = f'{TABLE}verify = "signers"\n'


class Teams:
    """A project with a tasks file in each of two folders, and the lock in the folder of one."""

    def __init__(self, production: Production) -> None:
        self.root, self.address = production.path, production.provider.base_url
        self.folder = self.root / "teams" / "a"
        self.folder.mkdir(parents=True)
        (self.root / "teams" / "b").mkdir()
        entries = [
            entry.model_copy(update={"task": "teams/a/tickets"}) for entry in read_lock(production.lock).models
        ]
        for name in ("models.lock", "models.lock.d", "finetune_tasks.py"):
            shutil.move(self.root / name, self.folder / name)
        write_lock(self.lock, Lock(model=tuple(entries)))
        self.write("pyproject.toml", f'{TABLE}tasks = ["teams/*/finetune_tasks.py"]\n')

    @property
    def lock(self) -> Path:
        return self.folder / "models.lock"

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def load(self) -> Any:
        return load(self.lock, "tickets", base_url=self.address)


@pytest.fixture
def teams(production: Production, monkeypatch: pytest.MonkeyPatch) -> Iterator[Teams]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield Teams(production)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("teams", "finetune_tasks"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "inner",
    [
        "# see [tool.pytest-finetune] above\n",
        f"{TABLE}concurrency = 3\n",
        f"'tool.pytest-finetune' = {{}}\n[project]\nname = '''\n{TABLE}'''\n",
    ],
    ids=["comment", "table", "text"],
)
def test_no_file_on_the_way_up_takes_back_that_locks_are_signed(teams: Teams, inner: str) -> None:
    teams.write("pyproject.toml", SIGNED)
    teams.write("signers", "")
    teams.write("teams/a/pyproject.toml", inner)
    with pytest.raises(LockError, match="is not signed"):
        teams.load()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")
def test_a_signature_has_to_satisfy_every_project_around_the_lock_or_the_variable(
    teams: Teams, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {name: teams.root / name for name in ("ann", "eve")}
    for key in keys.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = {name: f"{name} {key.with_suffix('.pub').read_text(encoding='utf-8')}" for name, key in keys.items()}
    teams.write("pyproject.toml", SIGNED)
    teams.write("signers", public["ann"])
    teams.write("teams/a/pyproject.toml", SIGNED + 'tasks = ["finetune_tasks.py"]\n')
    teams.write("teams/a/signers", public["eve"])
    for key in keys.values():
        sign(teams.lock, key)
        with pytest.raises(LockError, match="is signed by nobody whom"):
            teams.load()
    teams.write("teams/a/signers", public["ann"] + public["eve"])
    sign(teams.lock, keys["ann"])
    assert teams.load().version.state == "production"
    (teams.root / "signers").unlink()
    with pytest.raises(LockError, match=r"the allowed signers .* cannot be read"):
        teams.load()
    monkeypatch.setenv("PYTEST_FINETUNE_VERIFY", "signers")  # it stands above all tables
    assert teams.load().version.state == "production"


@pytest.mark.parametrize("text", ["[tool.pytest-finetune\n", "\xff\xfe", "tool = 3\n"])
def test_a_file_that_cannot_be_read_may_ask_for_signatures(teams: Teams, text: str) -> None:
    (teams.root / "teams" / "pyproject.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"teams/pyproject\.toml: "):
        teams.load()


def test_the_nearest_table_is_the_projects(teams: Teams) -> None:
    teams.write("teams/a/pyproject.toml", f"{TABLE}concurrency = 3\n")
    assert teams.load().predictors()[0].lm.engine.most == 3


def test_what_another_team_has_not_deployed_stops_no_service(teams: Teams) -> None:
    teams.write("teams/b/finetune_tasks.py", "import not_deployed\n")
    assert teams.load()(text="my parcel is late").department
    assert str(teams.root / "teams" / "b") not in sys.path
    assert not [name for name in sys.modules if name.startswith("teams.b")]


def test_teams_are_served_side_by_side(teams: Teams) -> None:
    other = teams.root / "teams" / "b"
    shutil.copytree(teams.folder, other, dirs_exist_ok=True)
    moved = [entry.model_copy(update={"task": "teams/b/tickets"}) for entry in read_lock(teams.lock).models]
    write_lock(other / "models.lock", Lock(model=tuple(moved)))
    assert teams.load().version.task == "teams/a/tickets"
    assert load(other / "models.lock", "tickets", base_url=teams.address).version.task == "teams/b/tickets"
    assert importlib.import_module("teams.a.finetune_tasks") is not importlib.import_module("teams.b.finetune_tasks")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": "."}, "is not a Python file"),
        ({"tasks": "nope.py"}, "there is no tasks file: nope.py not found"),
        ({"program": "x"}, "program='x' is no dspy.Module, and makes none: give one, or what makes it, as program="),
        ({"program": int}, "is no dspy.Module, and makes none"),
        ({"timeout": -1}, "timeout=-1: give seconds, a number above 0"),
        ({"timeout": 0}, "timeout=0: give seconds"),
        ({"timeout": float("nan")}, "timeout=nan: give seconds"),
        ({"timeout": "5"}, "timeout='5': give seconds"),
        ({"base_url": "foo"}, "base_url= is no address: it must begin with http:// or https://"),
        ({"base_url": ""}, "base_url= is no address"),
        ({"base_url": "http://h:port/v1"}, "base_url= has a port that is none"),
        ({"base_url": 9}, "base_url= Input should be a valid string"),
    ],
)
def test_an_argument_that_is_wrong_is_refused_by_name(
    production: Production, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(production.path)
    with pytest.raises(UsageError) as refused:
        production.load(**given)
    assert message in str(refused.value)


@pytest.mark.parametrize("address", ["http://user:open-barley@h/v1", "http://h/v1?api_key=open-barley"])
def test_an_address_with_a_secret_is_refused_and_not_shown(production: Production, address: str) -> None:
    with pytest.raises(UsageError, match="an address with a user, a query or a fragment") as refused:
        production.load(base_url=address)
    assert "barley" not in str(refused.value)
