"""Words of an endpoint that may be written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from dspy import lm15
from dspy.clients.errors import wrap_error

from pytest_finetune.calls.failures import (
    InARow,
    concerns_the_prompt,
    may_concern_the_prompt,
    of_the_endpoint,
    refuse_emptiness,
    remedy,
    scrubbed,
)
from pytest_finetune.errors import EndpointError


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Incorrect API key provided: sk-proj-abc_123*****xyz.", "Incorrect API key provided: …."),
        ("header was Bearer abc.def.ghi", "header was Bearer …"),
        ("cannot reach http://user:pass@host/v1", "cannot reach http://…host/v1"),
        ("first paragraph\n\n  To fix:\n - buy more", "first paragraph"),
        ("a risk-averse task-oriented desk-bound model", "a risk-averse task-oriented desk-bound model"),
        ("", "ValueError"),
    ],
)
def test_keys_and_advice_are_left_out(said: str, kept: str) -> None:
    assert scrubbed(ValueError(said)) == kept


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": None}, {"choices": [{"finish_reason": "error", "message": {"content": ""}}]}],
)
def test_an_answer_without_a_choice_or_with_an_error_in_it_is_trouble_of_the_endpoint(body: dict[str, Any]) -> None:
    with pytest.raises(lm15.ServerError):
        refuse_emptiness(SimpleNamespace(provider_data=body))


@pytest.mark.parametrize(
    ("status", "code", "step"),
    [
        (401, None, "set the key right"),
        (429, None, "lower the setting concurrency, or set requests_per_minute for the endpoint"),
        (429, "insufficient_quota", "add money to the endpoint's account"),
        (None, None, "see that the endpoint answers"),
        (500, None, "see that the endpoint answers"),
    ],
)
def test_each_error_has_a_next_step(status: int | None, code: str | None, step: str) -> None:
    error = lm15.ProviderError("no", status=status, provider_code=code)
    assert remedy(error) == step


def test_an_answer_with_a_choice_is_an_answer() -> None:
    refuse_emptiness(SimpleNamespace(provider_data={"choices": [{"finish_reason": "stop"}]}))


@pytest.mark.parametrize(
    ("error", "prompt", "unclear", "endpoint"),
    [
        (lm15.InvalidRequestError("no", status=400), False, True, False),
        (lm15.InvalidRequestError("no", status=413), False, True, False),
        (lm15.InvalidRequestError("no", status=404), False, False, True),
        (lm15.InvalidRequestError("no", status=400, provider_code="content_filter"), True, False, False),
        (lm15.InvalidRequestError("no", status=400, provider_code="insufficient_quota"), False, False, True),
        (lm15.ContextLengthError("no", status=400), True, False, False),
        (lm15.UnsupportedModelError("no", status=400), False, False, True),
        (lm15.AuthError("no", status=401), False, False, True),
        (lm15.ServerError("no", status=500), False, False, True),
        (lm15.TransportError("no"), False, False, True),
        (EndpointError("no key"), False, False, True),
        (ValueError("of the program"), False, False, False),
    ],
)
def test_whose_fault_an_error_is(error: Exception, prompt: bool, unclear: bool, endpoint: bool) -> None:
    told = (prompt, unclear, endpoint)
    assert (concerns_the_prompt(error), may_concern_the_prompt(error), of_the_endpoint(error)) == told
    if isinstance(error, lm15.LM15Error):  # and as DSPy's LM says it
        wrapped = wrap_error(error, model="m")
        assert (concerns_the_prompt(wrapped), may_concern_the_prompt(wrapped), of_the_endpoint(wrapped)) == told


def test_eight_failures_in_a_row_are_too_many_or_all_of_fewer() -> None:
    many, few = InARow(), InARow(2)
    assert [many.add(failed=at != 7) for at in range(17)] == [False] * 15 + [True] * 2
    assert [few.add(failed=failed) for failed in (True, False, True, True)] == [False, False, False, True]
