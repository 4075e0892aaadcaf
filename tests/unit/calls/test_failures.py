"""Words of an endpoint that may be written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from dspy import lm15

from pytest_finetune.calls.failures import refuse_emptiness, remedy, scrubbed


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
        (429, None, "lower --ft-concurrency, or set requests_per_minute for the endpoint"),
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
