"""Secrets are planted wherever a project can have them, and an endpoint quotes them where it can: none gets out."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tests.conftest import TASKS, Project, make_rows

from pytest_finetune.cli import ExitStatus, run
from pytest_finetune.sandbox import Sandbox

PASSWORD = "pr0xy:p@ss"  # noqa: S105  # it opens nothing
IN_THE_ENVIRONMENT = {"ACME_TEAM": "Team 5ecret-in-a-header", "OTHER_KEY": "0ther-environment-key"}
PRINTED = "printed/key+4711=="
IN_THE_BODY = "t0ken-in-the-body"
SECRETS = {PASSWORD, PRINTED, IN_THE_BODY, *IN_THE_ENVIRONMENT.values()}
FORMS = {form for secret in SECRETS for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
FORMS |= {base64.b64encode(f"user:{PASSWORD}".encode()).decode(), "5ecret-in-a-header"}

PYPROJECT = """\
[tool.pytest-finetune]
endpoint = "acme"

[tool.pytest-finetune.endpoints.acme]
base_url = "http://models.acme.test/v1"
api_key_command = "{python} -c \\"print(open('{key}').read())\\""
headers_env = {{ X-Team = "ACME_TEAM" }}
proxy = "http://user:{password}@127.0.0.1:{port}"
extra_body = {{ vault = {{ token = "{body}" }} }}

[tool.pytest-finetune.endpoints.other]
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "OTHER_KEY"
"""
TESTS = """\
import pytest


@pytest.mark.ft_ladder("tickets", margin=0.9)
def test_tickets(): ...


def test_by_hand(ft_tasks, _ft_run):
    lm = _ft_run.lm(ft_tasks["tickets"], "sandbox-small")
    lm("Hello")
"""
CHAT, FILES, JOBS, MODELS = "/chat/completions", "/files", "/fine_tuning/jobs", "/models"


@dataclass
class Quoting:
    """A proxy before the sandbox: it quotes each request in the events of jobs, and in the refusals it is asked for.

    Attributes:
        refuses: Parts of the paths to which it answers with an error, with the status.
        fails: Jobs look as if they had failed.
    """

    sandbox: Sandbox
    refuses: dict[str, int] = field(default_factory=dict)
    fails: bool = False
    port: int = 0
    quoted: int = 0

    def answer(self, handler: BaseHTTPRequestHandler, content: bytes) -> tuple[int, bytes]:
        path = urlsplit(handler.path).path
        said = f"{handler.command} {handler.path} {dict(handler.headers)} Bearer {content.decode(errors='replace')}"
        for part, status in self.refuses.items():
            if part in path:
                self.quoted += 1
                return status, json.dumps(
                    {"error": {"message": said, "type": "x", "code": "x", "param": None}}
                ).encode()
        status, answer = self._passed_on(handler, content)
        if path.endswith("/events"):
            self.quoted += 1
            answer = _with(answer, lambda event: event | {"message": f"{event['message']} {said}"})
        elif self.fails and "/fine_tuning/jobs" in path:
            self.quoted += 1
            error = {"code": "x", "message": said, "param": None}
            answer = _with(answer, lambda job: job | {"status": "failed", "error": error, "fine_tuned_model": None})
        return status, answer

    def _passed_on(self, handler: BaseHTTPRequestHandler, content: bytes) -> tuple[int, bytes]:
        if handler.path.endswith(JOBS) and content:
            asked = json.loads(content)
            asked.pop("vault")  # which the sandbox does not know
            content = json.dumps(asked).encode()
        parts = urlsplit(handler.path)
        address = f"{self.sandbox.address}{parts.path}?{parts.query}"
        kind = {"content-type": handler.headers.get("content-type", "application/json")}
        request = urllib.request.Request(address, content or None, kind, method=handler.command)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310  # our own server
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def _with(answer: bytes, change: Any) -> bytes:
    body = json.loads(answer)
    listed = body.get("object") == "list"
    return json.dumps(body | {"data": [change(one) for one in body["data"]]} if listed else change(body)).encode()


@pytest.fixture
def quoting() -> Iterator[Quoting]:
    with Sandbox() as sandbox:
        quoting = Quoting(sandbox)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = quoting.answer(self, self.rfile.read(int(self.headers.get("content-length", 0))))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                if status >= 400:
                    self.send_header("x-asked-with", str(self.headers.get("authorization")))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815  # the library's names

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            quoting.port = server.server_port
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield quoting
            server.shutdown()


@dataclass
class Leaks:
    """A project full of secrets, and everything that was said in it."""

    project: Project
    printed: pytest.CaptureFixture[str]
    logged: pytest.LogCaptureFixture
    said: dict[str, str] = field(default_factory=dict)

    def pytest(self, *arguments: str) -> int:
        options = ["-v", "-l", "-rA", "--log-level=DEBUG", f"--junitxml=junit-{len(self.said)}.xml"]
        done = self.project.run(*options, *arguments)
        self._keep("pytest", arguments, done.stdout.str() + done.stderr.str())
        return int(done.ret)

    def command(self, *arguments: str) -> int:
        sys.modules.pop("finetune_tasks", None)  # it may have been edited
        status = run(list(arguments))
        said = self.printed.readouterr()
        self._keep("pytest-finetune", arguments, said.out + said.err + self.logged.text)
        self.logged.clear()
        return status

    def _keep(self, program: str, arguments: tuple[str, ...], said: str) -> None:
        self.said[f"{len(self.said)}: {program} {' '.join(arguments)}"] = said

    def last(self) -> str:
        return list(self.said.values())[-1]

    def found(self) -> list[tuple[str, str]]:
        """Where a secret is, and which."""
        files = [path for path in self.project.path.rglob("*") if path.is_file() and path.name != "pyproject.toml"]
        texts = {str(path.relative_to(self.project.path)): path.read_bytes() for path in files}
        texts |= {command: text.encode() for command, text in self.said.items()}
        return sorted((where, form) for where, text in texts.items() for form in FORMS if form.encode() in text)


@pytest.fixture
def leaks(
    project: Project,
    quoting: Quoting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Leaks]:
    key = tmp_path / "key.txt"
    key.write_text(PRINTED)
    values = {"python": sys.executable, "key": key, "port": quoting.port, "body": IN_THE_BODY}
    project.write("pyproject.toml", PYPROJECT.format(password=quote(PASSWORD, safe=""), **values))
    project.write(
        "finetune_tasks.py", TASKS.replace('endpoint="sandbox",', "").replace('teacher="sandbox-large"', "")
    )
    project.write("test_models.py", TESTS)
    rows = [json.dumps(row) for row in make_rows(7, train=40, dev=12, test=30)]
    project.write("tickets.jsonl", "\n".join(rows) + "\n")
    for name, value in IN_THE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [*sys.path])
    caplog.set_level(logging.DEBUG)
    yield Leaks(project, capsys, caplog)
    sys.modules.pop("finetune_tasks", None)


def test_no_secret_gets_out(leaks: Leaks, quoting: Quoting) -> None:
    def quotes(run: Callable[..., int], *arguments: str, status: int, **how: Any) -> None:
        quoting.refuses, quoting.fails = how.get("refuses", {}), how.get("fails", False)
        before = quoting.quoted
        assert (run(*arguments), quoting.quoted > before) == (status, True), leaks.last()

    project, command, fails = leaks.project, leaks.command, ExitStatus.NOT_EVALUATED
    quotes(leaks.pytest, "--ft-retrain", "--ft-skip-check", status=pytest.ExitCode.OK)
    assert {command("plan"), command("lock", "show"), command("lock", "check")} == {ExitStatus.HELD}
    quotes(command, "lock", "check", "--live", refuses={MODELS: 403}, status=fails)
    (project.path / ".pytest-finetune" / "rows.sqlite").unlink()
    quotes(leaks.pytest, "--finetune-models=models.lock", refuses={CHAT: 400}, status=pytest.ExitCode.TESTS_FAILED)
    assert command("rows") == ExitStatus.HELD
    project.edit("finetune_tasks.py", 'recipe="labels"', 'recipe="labels", seed=5')
    for part in (CHAT, FILES, JOBS):
        quotes(command, "train", "--skip-check", refuses={part: 403}, status=fails)
    quotes(command, "train", "--skip-check", fails=True, status=fails)
    quotes(command, "jobs", fails=True, status=ExitStatus.HELD)
    jobs = re.findall(r"^(ftjob-\S+)  failed", leaks.last(), re.MULTILINE)
    quotes(command, "jobs", "watch", jobs[-1], fails=True, status=fails)
    quotes(command, "jobs", "--endpoint", "other", refuses={JOBS: 401}, status=ExitStatus.HELD)
    assert leaks.found() == []


@pytest.mark.parametrize("address", [f"http://ann:{IN_THE_BODY}@here/v1", f"http://here/v1?api-key={IN_THE_BODY}"])
def test_an_address_with_a_secret_is_refused_and_not_shown(leaks: Leaks, address: str) -> None:
    leaks.project.edit("pyproject.toml", "http://models.acme.test/v1", address)
    assert leaks.command("plan") == ExitStatus.USAGE
    assert "endpoints.acme.base_url: is an address with a user, a query or a fragment" in leaks.last()
    assert leaks.found() == []
