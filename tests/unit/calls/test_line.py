"""Programs whose LMs call through the engine are copied, and share what limits them."""

from __future__ import annotations

import dspy
import pytest

from pytest_finetune.calls import Calling, Line
from pytest_finetune.endpoints import Endpoint


def test_a_program_is_copied_with_its_lm_and_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    line = Line.to(Endpoint("mine", "http://127.0.0.1:9/v1"), Calling())
    program = dspy.Predict("question -> answer")
    program.lm = line.lm("small")
    copied = program.deepcopy()
    assert caplog.records == []
    assert copied is not program
    assert (copied.lm.endpoint, copied.lm.engine) == (line, program.lm.engine)
    assert copied.lm.endpoint.calling.traffic is line.calling.traffic
