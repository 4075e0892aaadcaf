"""A model that is trained is not yet callable: what it is served as, how it is deployed, and that this has an end."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from tests.conftest import Project

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock import read_lock
from pytest_finetune.lock.file import render
from pytest_finetune.sandbox import Sandbox

SCRIPT = """\
import json, os, pathlib, sys, time
from urllib.request import Request, urlopen

what, address, model, name = sys.argv[1:]
folder = pathlib.Path(__file__).parent
with (folder / "commands.txt").open("a") as file:
    file.write(f"{what} {name}\\n")
models = f"{address}/v1/models"
if what == "probe":
    sys.exit(name not in [known["id"] for known in json.load(urlopen(models))["data"]])
if what == "take_down":
    urlopen(Request(f"{models}/{name}", method="DELETE"))
if what == "deploy":
    if (folder / "broken").exists():
        sys.exit(f"no quota for {os.environ['OURS_KEY']}")
    from pytest_finetune.sandbox import Sandbox

    (training,) = (folder / "models.lock.d").glob("training-*")
    Sandbox.at(address).restore(name, training, model="sandbox-small", seed=0)
    if (folder / "slow").exists():
        time.sleep(60)
"""
CLAIMS = """\
import pytest


@pytest.mark.ft_claim("tickets", "finetuned >= 0.1", "finetuned >= 0.2", "baseline >= 0.01", max_rows=12)
def test_tickets(): ...
"""
V1, V2 = "ft:tickets:v1", "ft:tickets:v2"
modes = pytest.mark.parametrize("mode", [("-p", "no:xdist"), ("-n", "2")], ids=["plain", "n2"])


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def ours(built: Project, server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The built project, as if its model had been trained on an endpoint where it is not served yet."""
    monkeypatch.setenv("OURS_KEY", "swordfish")
    built.write("serving.py", SCRIPT)
    write_table(built, server)
    built.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="ours"')
    built.edit("models.lock", 'endpoint = "sandbox"', f'endpoint = "ours {server.base_url}"')
    built.write("test_models.py", CLAIMS)
    served_as(built, V1)
    return built


def write_table(project: Project, server: Sandbox, *commands: str) -> None:
    script = [sys.executable, str(project.path / "serving.py")]
    lines = [
        f"{command} = {shlex.join([*script, command, server.address, '{model}', '{name}'])!r}" for command in commands
    ]
    table = ["[tool.pytest-finetune.endpoints.ours]", f"base_url = '{server.base_url}'", "api_key_env = 'OURS_KEY'"]
    project.write("pyproject.toml", "\n".join([*table, *(line.replace("\\\\", "\\") for line in lines)]) + "\n")


def served_as(project: Project, name: str) -> None:
    text = project.lock.read_text()
    text = re.sub(r'^(model = "ft:.*")$', rf'\1\nserved_as = "{name}"', text, flags=re.MULTILINE)
    project.lock.write_text(text)


def commands(project: Project) -> list[str]:
    return (project.path / "commands.txt").read_text().splitlines()


def served(server: Sandbox) -> list[str]:
    with Endpoint("ours", server.base_url).client() as client:
        return sorted(model.id for model in client.models.list() if model.id.startswith("ft:"))


def test_a_model_is_asked_for_by_the_name_it_is_served_as(ours: Project, server: Sandbox) -> None:
    (training,) = (ours.path / "models.lock.d").glob("training-*")
    server.restore(V1, training, model="sandbox-small", seed=0)
    server.restore(V2, training, model="sandbox-small", seed=0)
    ours.gate("-q").assert_outcomes(passed=3)
    asked = server.request_counts()["by_model"]
    assert asked == {"sandbox-small": 12, V1: 12}

    ours.gate("-q").assert_outcomes(passed=3)
    assert server.request_counts()["by_model"] == asked  # all rows were there

    ours.edit("models.lock", V1, V2)
    ours.gate("-q").assert_outcomes(passed=3)
    assert server.request_counts()["by_model"] == {**asked, V2: 12}


@modes
def test_a_model_that_is_not_deployed_is_one_error_and_not_one_for_each_row(
    ours: Project, mode: tuple[str, ...]
) -> None:
    result = ours.gate(*mode, "-rA")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = result.parseoutcomes()
    assert (outcomes.get("passed"), outcomes.get("errors")) == (1, 2)  # that of the two other stages is judged
    said = [line for line in result.stdout.lines if line.startswith("stage finetuned: model")]
    assert len(said) == 2
    assert {line.partition(": unsupported")[0] for line in said} == {f"stage finetuned: model '{V1}' is not deployed"}
    assert result.stdout.lines.count("If it is gone for good, build anew: pytest --ft-retrain --ft-task tickets") == 2
    assert result.stdout.str().count("Traceback") == 0


@modes
def test_what_is_deployed_for_a_run_is_taken_down_after_it(
    ours: Project, server: Sandbox, mode: tuple[str, ...]
) -> None:
    write_table(ours, server, "deploy", "probe", "take_down")
    result = ours.gate(*mode)
    result.assert_outcomes(passed=3)
    assert commands(ours) == [f"{what} {V1}" for what in ("probe", "deploy", "probe", "take_down")]
    assert served(server) == []

    (ours.path / "commands.txt").unlink()
    ours.gate(*mode).assert_outcomes(passed=3)  # every row is there, so nothing is deployed
    assert not (ours.path / "commands.txt").exists()


def test_what_is_up_already_is_neither_deployed_nor_taken_down(ours: Project, server: Sandbox) -> None:
    write_table(ours, server, "deploy", "probe", "take_down")
    (training,) = (ours.path / "models.lock.d").glob("training-*")
    server.restore(V1, training, model="sandbox-small", seed=0)
    ours.gate("-q").assert_outcomes(passed=3)
    assert commands(ours) == [f"probe {V1}"]
    assert served(server) == [V1]


def test_a_probe_alone_says_so_before_a_row_is_asked_for(ours: Project, server: Sandbox) -> None:
    write_table(ours, server, "probe")
    ours.gate("-q").assert_outcomes(passed=1, errors=2)
    assert commands(ours) == [f"probe {V1}"]
    assert V1 not in server.request_counts()["by_model"]


def test_a_deployment_that_fails_is_told_without_its_secrets_and_taken_down(ours: Project, server: Sandbox) -> None:
    write_table(ours, server, "deploy", "take_down")
    (ours.path / "broken").touch()
    result = ours.gate("-n", "2")
    assert result.parseoutcomes()["errors"] == 2
    said = result.stdout.str()
    assert f"endpoint 'ours': deploy of '{V1}' ({sys.executable} …) ended with status 1 and said:" in said
    assert "no quota for …" in said
    assert "swordfish" not in said + result.stderr.str()
    assert commands(ours) == [f"deploy {V1}", f"take_down {V1}"]
    # there was nothing to take down, so that this failed too, and costs the run its success
    assert "It may still be up, and cost money: take it down by hand" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_deployed_is_taken_down_after_an_interruption(
    ours: Project, server: Sandbox, number: signal.Signals
) -> None:
    write_table(ours, server, "deploy", "take_down")
    (ours.path / "slow").touch()
    command = [sys.executable, "-m", "pytest", "-p", "finetune", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, "--finetune-models=models.lock"], cwd=ours.path, env=os.environ, stdout=subprocess.DEVNULL
    ) as run:
        wait_for(lambda: served(server) == [V1])
        run.send_signal(number)
        assert run.wait(30) == pytest.ExitCode.INTERRUPTED
    assert commands(ours) == [f"deploy {V1}", f"take_down {V1}"]
    assert served(server) == []


class Echo(BaseHTTPRequestHandler):
    """A proxy that refuses everything, and tells what it was sent: the worst that an endpoint can do."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        content = json.dumps({"error": {"message": f"Refused: {dict(self.headers)}", "code": "no"}}).encode()
        self.send_response(403)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  # http.server's name

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


SECRETS = {"key": "q7-from-command", "header": "w3-from-header", "proxy": "z9-from-proxy"}
USES_AN_LM = """

def test_own(ft_tasks, _ft_run):
    lm = _ft_run.lm(ft_tasks["tickets"], "sandbox-small")
    lm("Hello")
"""


def test_no_secret_is_ever_written(ours: Project, echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS_TEAM", SECRETS["header"])
    ours.write("secret.py", f"print('{SECRETS['key']}')")
    address = read_lock(ours.lock).entry("tickets", "finetuned").endpoint.removeprefix("ours ")
    command = shlex.join([sys.executable, str(ours.path / "secret.py")])
    table = [
        "[tool.pytest-finetune.endpoints.ours]",
        f"base_url = '{address}'",
        f"api_key_command = {json.dumps(command)}",
        "headers_env = { X-Team = 'OURS_TEAM' }",
        f"proxy = 'http://me:{SECRETS['proxy']}@127.0.0.1:{echo}'",
    ]
    ours.write("pyproject.toml", "\n".join(table) + "\n")
    ours.write("test_models.py", CLAIMS + USES_AN_LM)
    said = list[str]()
    for args in ("--finetune-models=models.lock",), ("--ft-retrain", "--ft-skip-check"):
        result = ours.run("--showlocals", "--tb=long", *args)
        said += [result.stdout.str(), result.stderr.str()]
    assert "Refused" in said[0]
    adopt = [sys.executable, "-m", "pytest_finetune", "jobs", "adopt", "ftjob-1", "--task", "tickets"]
    done = subprocess.run(adopt, cwd=ours.path, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    said += [done.stdout, done.stderr]
    files = [path for path in ours.path.rglob("*") if path.is_file()]
    said += [file.read_text(errors="replace") for file in files if file.name not in ("pyproject.toml", "secret.py")]
    encoded = base64.b64encode(f"me:{SECRETS['proxy']}".encode()).decode()
    for secret in (*SECRETS.values(), encoded):
        assert [text for text in said if secret in text] == []


def wait_for(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_lock_without_the_name_keeps_its_bytes(built: Project) -> None:
    lock = read_lock(built.lock)
    assert render(lock) == built.lock.read_text()
    assert "served_as" not in render(lock)
    entry = lock.entry("tickets", "finetuned")
    served = entry.model_copy(update={"served_as": "tickets-v1"})
    assert (entry.asked_as, served.asked_as) == (entry.model, "tickets-v1")
    (previous,) = lock.with_entries([served]).with_entries([entry]).entry("tickets", "finetuned").previous
    assert (previous.model, previous.served_as) == (entry.model, "tickets-v1")
