from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import EndpointError
from pytest_finetune.training.attempt import resolved
from pytest_finetune.training.request import JobRequest, file_name
from pytest_finetune.training.steady import Interrupted, Patience

SANDBOX = Endpoint("sandbox", "http://127.0.0.1:1/v1")
REQUEST = JobRequest("m", b"rows", validation=b"dev", seed=1, suffix="s", hyperparameters={"n_epochs": 2})


def test_equal_requests_have_one_key_wherever_the_sandbox_listens() -> None:
    again = JobRequest("m", b"rows", validation=b"dev", seed=1, suffix="s", hyperparameters={"n_epochs": 2})
    assert again.key(Endpoint("sandbox", "http://127.0.0.1:2/v1")) == REQUEST.key(SANDBOX)
    assert len(REQUEST.key(SANDBOX)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"training": b"others"},
        {"validation": None},
        {"seed": 2},
        {"suffix": None},
        {"hyperparameters": {}},
    ],
)
def test_whatever_changes_a_job_changes_its_key(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).key(SANDBOX) != REQUEST.key(SANDBOX)


def test_another_endpoint_or_body_is_another_job() -> None:
    keys = {
        REQUEST.key(endpoint) for endpoint in (SANDBOX, Endpoint("a", "http://x/v1"), Endpoint("a", "http://y/v1"))
    }
    keys.add(REQUEST.key(replace(SANDBOX, extra_body={"trainingType": 1})))
    assert len(keys) == 4


def test_a_file_is_named_by_its_content() -> None:
    assert file_name(b"rows") == file_name(b"rows") != file_name(b"row")
    assert file_name(b"rows").startswith("pytest-finetune-")
    assert file_name(b"rows").endswith(".jsonl")


def test_waits_grow_to_their_limit_and_end_when_told() -> None:
    waited: list[float] = []

    class Stop:
        def wait(self, seconds: float) -> bool:
            waited.append(seconds)
            return len(waited) == 5

    patience = Patience(first=1, growth=2, longest=6, stop=Stop())  # type: ignore[arg-type]  # it only notes the waits
    with pytest.raises(Interrupted):
        list(patience.waits())
    assert waited == [1, 2, 4, 6, 6]


def test_patience_ends_with_an_outage_that_does_not() -> None:
    import openai

    said: list[str] = []

    def away() -> None:
        raise openai.APIConnectionError(request=None)  # type: ignore[arg-type]  # its text is all we read

    with pytest.raises(EndpointError, match="endpoint 'x' gave no answer for 0 seconds"):
        Patience(first=0, outage=0).ask(away, "x", said.append)
    assert said == []


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_hyperparameters_are_those_of_the_method(method: str) -> None:
    told = {"type": method, method: {"hyperparameters": {"n_epochs": 4}}}
    assert resolved(FineTuningJob.construct(method=told, hyperparameters=None)) == {"n_epochs": 4}


def test_a_job_of_which_nothing_is_told_has_no_hyperparameters() -> None:
    assert resolved(FineTuningJob.construct(method=None, hyperparameters=None)) == {}
