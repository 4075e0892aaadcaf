"""Both clients, DSPy's and openai's, with the headers, keys, certificates, proxy and limits of an endpoint."""

from __future__ import annotations

import json
import shlex
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest

from pytest_finetune.calls import Calling, Line, Retries, Traffic
from pytest_finetune.endpoints import Endpoint

CHAT = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
}


@dataclass
class Recorder:
    """A server that remembers what it was asked, as an origin or as a proxy."""

    port: int = 0
    accepted: str | None = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append((path, headers))
        if self.accepted is not None and headers.get("authorization") != f"Bearer {self.accepted}":
            return 401, {"error": {"message": f"Expired: {headers.get('authorization')}", "code": "invalid_api_key"}}
        return 200, CHAT if path.endswith("/chat/completions") else {"object": "list", "data": []}


@contextmanager
def serving(wrap: Callable[[Any], Any] = lambda socket: socket) -> Iterator[Recorder]:
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, body = recorder.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815  # http.server's name

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = wrap(server.socket)
        server.daemon_threads = True
        recorder.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with serving() as running:
        yield running


@contextmanager
def asking(endpoint: Endpoint) -> Iterator[Callable[[], Any]]:
    """Ask a model of the endpoint by DSPy's client."""
    line = Line.to(endpoint, Calling(Traffic(4), Retries(attempts=1), timeout=5.0))
    lm = line.lm("small")
    try:
        yield lambda: lm("Is it?")
    finally:
        lm.engine.close()


def ask_both(endpoint: Endpoint) -> None:
    with asking(endpoint) as ask, endpoint.client(max_retries=0, timeout=5.0) as client:
        assert ask() == ["yes"]
        assert list(client.fine_tuning.jobs.list()) == []


def test_key_and_headers_reach_both(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS_KEY", "k-one")
    monkeypatch.setenv("OURS_TEAM", "red")
    ask_both(Endpoint("ours", recorder.url, api_key_env="OURS_KEY", headers_env={"X-Team": "OURS_TEAM"}))
    assert [path for path, _ in recorder.seen] == ["/v1/chat/completions", "/v1/fine_tuning/jobs"]
    assert [(sent["authorization"], sent["x-team"]) for _, sent in recorder.seen] == [("Bearer k-one", "red")] * 2


def test_a_header_may_stand_in_the_place_of_the_key(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS_AUTH", "Basic b25l")
    ask_both(Endpoint("ours", recorder.url, headers_env={"Authorization": "OURS_AUTH"}))
    assert [sent["authorization"] for _, sent in recorder.seen] == ["Basic b25l"] * 2


def test_a_token_that_expires_is_renewed_by_both_and_each_request_is_made_once_more(
    recorder: Recorder, tmp_path: Path
) -> None:
    script = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
    (token := tmp_path / "token").write_text("token-1")
    endpoint = Endpoint("ours", recorder.url, api_key_command=shlex.join([sys.executable, "-c", script, str(token)]))
    with asking(endpoint) as ask, endpoint.client(max_retries=0, timeout=5.0) as client:
        for number, request in enumerate([ask, client.fine_tuning.jobs.list, ask], 2):
            recorder.accepted = f"token-{number - 1}"
            request()
            token.write_text(f"token-{number}")
            recorder.accepted = f"token-{number}"
            recorder.seen.clear()
            request()
            assert [sent["authorization"] for _, sent in recorder.seen] == [
                f"Bearer token-{number - 1}",
                f"Bearer token-{number}",
            ]
        recorder.accepted = "another"
        recorder.seen.clear()
        with pytest.raises(openai.AuthenticationError):
            client.fine_tuning.jobs.list()
        assert len(recorder.seen) == 2


def test_a_proxy_is_used_by_both(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # the endpoint's own stands above the environment
    ask_both(Endpoint("ours", "http://models.invalid/v1", proxy=f"http://me:p%40ss@127.0.0.1:{recorder.port}"))
    assert [path for path, _ in recorder.seen] == [
        "http://models.invalid/v1/chat/completions",
        "http://models.invalid/v1/fine_tuning/jobs",
    ]
    assert {sent["proxy-authorization"] for _, sent in recorder.seen} == {"Basic bWU6cEBzcw=="}


def test_a_bundle_of_certificates_is_trusted_by_both(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so there is no certificate to try it with")
    pem, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", pem], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    with serving(lambda socket: context.wrap_socket(socket, server_side=True)) as recorder:
        url = recorder.url.replace("http:", "https:")
        ask_both(Endpoint("ours", url, ca_bundle=str(pem)))
        with (
            Endpoint("ours", url).client(max_retries=0) as client,
            pytest.raises(openai.APIConnectionError) as caught,
        ):
            client.models.list()
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.__cause__)


def test_requests_of_both_keep_to_one_limit(recorder: Recorder) -> None:
    endpoint = Endpoint("slow", recorder.url, requests_per_minute=240)  # four at once, then one in 0.25 s
    start = time.monotonic()
    with asking(endpoint) as ask, endpoint.client(max_retries=0) as client:
        for _ in range(4):
            ask()
            client.models.list()
    assert len(recorder.seen) == 8
    assert time.monotonic() - start > 0.95


def test_tokens_keep_to_a_limit_by_what_answers_used(recorder: Recorder) -> None:
    endpoint = Endpoint("wordy", recorder.url, tokens_per_minute=60 * 300)  # the first is booked at about 260
    start = time.monotonic()
    with asking(endpoint) as ask:
        for _ in range(10):  # 200 tokens used: what was booked beyond them is given back
            ask()
    assert time.monotonic() - start < 4  # 2,600 would take more than 7 s


def test_the_time_out_of_the_endpoint_stands_above_that_of_the_call() -> None:
    endpoint = Endpoint("ours", "http://127.0.0.1:9/v1", timeout=7.5)
    with endpoint.client(timeout=120.0) as client:
        assert client.timeout == 7.5
