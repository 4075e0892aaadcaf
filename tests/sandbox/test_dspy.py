"""DSPy drives the sandbox as it drives a real endpoint: natively, with each adapter, for any signature."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import dspy
import pydantic
import pytest

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.sandbox import Sandbox


class Item(pydantic.BaseModel):
    name: str
    quantity: int


class Everything(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Read the letter."""

    letter: str = dspy.InputField()
    topic: Literal["billing", "delivery"] = dspy.OutputField(desc="what it is about")
    urgent: bool = dspy.OutputField()
    pages: int = dspy.OutputField()
    share: float = dspy.OutputField()
    names: list[str] = dspy.OutputField()
    item: Item | None = dspy.OutputField()
    note: str = dspy.OutputField()


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
@pytest.mark.parametrize("module", [dspy.Predict, dspy.ChainOfThought], ids=["predict", "reasoning"])
def test_any_signature_is_answered(sandbox: Sandbox, adapter: dspy.Adapter, module: type[dspy.Module]) -> None:
    lm = Endpoint("sandbox", sandbox.base_url).lm("sandbox-small")
    sandbox.forget_requests()
    with dspy.context(lm=lm, adapter=adapter):
        answer = module(Everything)(letter="The delivery of 3 lamps never came. Please send them to Ada Abel.")
    assert sandbox.request_counts()["total"] == 1  # understood at once, with no second attempt
    assert answer.topic == "delivery"
    assert isinstance(answer.urgent, bool)
    assert isinstance(answer.pages, int)
    assert isinstance(answer.share, float)
    assert all(isinstance(name, str) for name in answer.names)
    assert answer.item is None or isinstance(answer.item, Item)
    assert isinstance(answer.note, str)


def test_the_native_engine_is_used_and_nothing_else_is_asked(sandbox: Sandbox) -> None:
    """LiteLLM is never loaded: each call costs a fifth, and no price table is fetched from the internet."""
    script = f"""
import sys, dspy
from pytest_finetune.endpoints import Endpoint
lm = Endpoint("sandbox", {sandbox.base_url!r}).lm("sandbox-small")
with dspy.context(lm=lm):
    print(dspy.Predict("text -> answer: bool")(text="yes").answer in (True, False), "litellm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
    assert "refresh failed" not in done.stderr
