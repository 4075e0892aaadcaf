"""Answers that the sandbox does not give: what other providers say, and what each is taken for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest
from tests.evaluate.colours import METRIC, Name, rows, stage

from pytest_finetune import metrics
from pytest_finetune.core.records import Row, RowState
from pytest_finetune.errors import EndpointError
from pytest_finetune.evaluate import Retries, StageRun, evaluate
from pytest_finetune.store import Store

Provider = Callable[[int, Any], str]
GOOD = "[[ ## colour ## ]]\nblue\n\n[[ ## completed ## ]]"


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Start a server that answers everything with one status and body; gives its address."""
    servers = []

    def start(status: int, body: Any) -> str:
        class Always(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Always)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refusal(status: int, code: str | None, message: str = "No.") -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def completion(content: str | None, *, refused: str | None = None, reason: str = "stop", **more: Any) -> Any:
    message = {"role": "assistant", "content": content, "refusal": refused}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m-2026", "choices": [choice], **more}


def strict(address: str, signature: type[dspy.Signature] = Name) -> StageRun:
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    return stage("baseline", address, dspy.Predict(signature), adapter=adapter)


def only_row(address: str, store: Store) -> Row:
    (row,) = evaluate([strict(address)], rows(1), METRIC, store, timeout=5, retries=Retries(attempts=2, first=0.01))[
        "baseline"
    ]
    return row


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (completion(None, refused="I will not."), "refused: the model said: I will not."),
        (completion("", reason="content_filter"), "refused: a content filter ended the answer"),
        (
            completion("[[ ## co", reason="length"),
            "truncated: the answer ended at the limit of tokens; raise max_tok",
        ),
        (completion("red, I think"), "unparseable: the answer does not have the fields that the adapter asked for"),
        (completion("[[ ## colour ## ]]\npink"), "unparseable: "),
        (completion(""), "unparseable: "),
    ],
)
def test_an_answer_that_is_none_is_the_models_fault(
    provider: Provider, store: Store, answer: Any, error: str
) -> None:
    row = only_row(provider(200, answer), store)
    assert row.state is RowState.FORMAT_ERROR
    assert (row.error or "").startswith(error)
    assert row.score is None
    assert row.served_model == "m-2026"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(400, "context_length_exceeded", "maximum context length is 9"), "prompt too long: maximum context"),
        (
            refusal(400, "content_filter", "The prompt triggered the policy."),
            "refused: The prompt triggered",
        ),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_the_stages_fault(
    provider: Provider, store: Store, answer: tuple[int, Any], error: str
) -> None:
    row = only_row(provider(*answer), store)
    assert row.state is RowState.FORMAT_ERROR
    assert (row.error or "").startswith(error)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(401, "invalid_api_key", "Incorrect API key provided: sk-secret1234."), "provided: …"),
        (refusal(403, None, "No access."), "auth: No access."),
        (refusal(404, None, "Not Found"), "Not Found"),
        (refusal(429, "insufficient_quota", "You exceeded your quota."), "You exceeded your quota."),
    ],
)
def test_what_no_other_row_would_survive_ends_the_evaluation_at_once(
    provider: Provider, store: Store, answer: tuple[int, Any], error: str
) -> None:
    address = provider(*answer)
    with pytest.raises(EndpointError, match="No other row would fare better") as caught:
        evaluate([strict(address)], rows(100), METRIC, store, timeout=5, retries=Retries(first=30))
    assert error in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(500, None),
        refusal(503, None),
        refusal(408, None),
        refusal(429, "rate_limit_exceeded"),
        refusal(400, "invalid_value"),
        (200, "<html>The proxy says hello</html>"),
        (200, {"object": "chat.completion", "choices": []}),
    ],
    ids=["500", "503", "408", "429", "400", "html", "no choice"],
)
def test_everything_else_is_an_error_and_never_a_score(
    provider: Provider, store: Store, answer: tuple[int, Any]
) -> None:
    address = provider(*answer)
    with pytest.raises(EndpointError, match="8 rows in a row got no answer"):
        evaluate([strict(address)], rows(20), METRIC, store, timeout=5, retries=Retries(attempts=2, first=0.01))


def test_usage_that_is_not_told_is_unknown_and_not_zero(provider: Provider, store: Store) -> None:
    row = only_row(provider(200, completion(GOOD)), store)
    assert (row.state, row.score, row.usage) == (RowState.SCORED, 1.0, None)


def test_a_number_that_is_none_is_the_models_fault(provider: Provider, store: Store) -> None:
    class Rate(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
        """Rate it."""

        thing: str = dspy.InputField()
        colour: float = dspy.OutputField()

    address = provider(200, completion("[[ ## colour ## ]]\nNaN\n\n[[ ## completed ## ]]"))
    always = metrics.as_metric(lambda _e, _p, _t=None: 1.0, name="always", version="1")
    (row,) = evaluate([strict(address, Rate)], rows(1), always, store, timeout=5)["baseline"]
    assert row.state is RowState.FORMAT_ERROR
    assert (row.error or "").startswith("not a value: nan")
