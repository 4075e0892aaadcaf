"""Words of an endpoint that may be written down."""

from __future__ import annotations

import pytest

from pytest_finetune.calls.failures import scrubbed


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
