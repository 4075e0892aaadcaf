from __future__ import annotations

import time
from collections import Counter

import openai
import pytest
from tests.sandbox.conftest import connect, jsonl, prompt, training_rows

from pytest_finetune.sandbox import Fault, FaultKind, Sandbox


def ask(client: openai.OpenAI, thing: str = "moss") -> str:
    completion = client.chat.completions.create(model="sandbox-small", messages=prompt(thing))
    return completion.choices[0].message.content or ""


def test_a_rate_limit_says_when_to_come_back(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT, seconds=7))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


def test_a_bare_rate_limit_does_not(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT_BARE))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert "retry-after" not in caught.value.response.headers


def test_a_server_error(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR))
    with pytest.raises(openai.InternalServerError):
        ask(client)


def test_a_dropped_connection_leaves_the_client_without_an_answer(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.DROP))
    with pytest.raises(openai.APIConnectionError):
        ask(client)


def test_a_slow_answer_comes(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SLOW, seconds=0.3))
    start = time.monotonic()
    assert "green" in ask(client, "a green thing")
    assert time.monotonic() - start >= 0.3


def test_a_hanging_answer_does_not(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.HANG, seconds=5))
    with pytest.raises(openai.APIConnectionError):  # a time-out is one
        ask(client.with_options(timeout=0.3))


def test_a_garbled_answer_has_lost_its_structure(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.GARBLE))
    assert "[[ ##" not in ask(client)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (FaultKind.DAILY_LIMIT, 429, "daily_rate_limit_exceeded"),
        (FaultKind.TRAINING_NOT_AVAILABLE, 403, "training_not_available"),
    ],
)
def test_training_is_refused_on_request(
    sandbox: Sandbox, client: openai.OpenAI, kind: FaultKind, status: int, code: str
) -> None:
    file = client.files.create(file=("rows.jsonl", jsonl(training_rows(20))), purpose="fine-tune")
    sandbox.set_faults(Fault(kind=kind))
    with pytest.raises(openai.APIStatusError) as caught:
        client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert "green" in ask(client, "a green thing")  # the chat goes on


def test_a_dropped_creation_still_creates_the_job(sandbox: Sandbox) -> None:
    """The trap that makes a client which tries again pay twice."""
    with connect(sandbox) as client:
        file = client.files.create(file=("rows.jsonl", jsonl(training_rows(20))), purpose="fine-tune")
        before = len(list(client.fine_tuning.jobs.list(limit=100)))
        sandbox.set_faults(Fault(kind=FaultKind.DROP, operation="create_job"))
        with pytest.raises(openai.APIConnectionError):
            client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id)
        sandbox.set_faults()
        assert len(list(client.fine_tuning.jobs.list(limit=100))) == before + 1


def hits(client: openai.OpenAI, things: list[str]) -> list[bool]:
    found = []
    for thing in things:
        try:
            ask(client, thing)
        except openai.InternalServerError:
            found.append(True)
        else:
            found.append(False)
    return found


def test_a_share_of_requests_is_hit_whatever_their_order(sandbox: Sandbox, client: openai.OpenAI) -> None:
    things = [f"thing {number}" for number in range(120)]
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, rate=0.3))
    first = dict(zip(things, hits(client, things), strict=True))
    again = hits(client, things)
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, rate=0.3))
    backwards = things[::-1]
    assert dict(zip(backwards, hits(client, backwards), strict=True)) == first
    assert 20 <= sum(first.values()) <= 52
    assert again != list(first.values())  # a second try draws anew


def test_a_fault_can_be_limited_to_times_operation_and_model(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_faults(
        Fault(kind=FaultKind.SERVER_ERROR, times=2),
        Fault(kind=FaultKind.RATE_LIMIT, model="sandbox-large"),
        Fault(kind=FaultKind.SERVER_ERROR, operation="list_models"),
    )
    assert Counter(hits(client, ["a", "b", "c", "d"])) == {True: 2, False: 2}
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="sandbox-large", messages=prompt("moss"))
    with pytest.raises(openai.InternalServerError):
        client.models.list()
