from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from pytest_finetune.programs import attach, served

ADAPTER = dspy.XMLAdapter(use_json_adapter_fallback=False)


class OnTheWay(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Makes a predictor that has no LM of its own."""

    def __init__(self) -> None:
        self.first = dspy.Predict("text -> answer")

    def forward(self, text: str) -> Any:
        return dspy.Predict("text -> answer")(text=self.first(text=text).answer)


class AsyncOnly(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        self.first = dspy.Predict("text -> answer")

    async def aforward(self, text: str) -> Any:
        return await self.first.acall(text=text)


PROGRAMS = [lambda: dspy.Predict("text -> answer"), OnTheWay, AsyncOnly]


@pytest.mark.parametrize("make", PROGRAMS, ids=["both", "sync", "async"])
def test_any_program_can_be_called_and_awaited_with_its_own_lm_and_adapter(make: Any) -> None:
    lm = DummyLM([{"answer": "yes"}] * 9, adapter=ADAPTER)
    program = served(attach(make(), lm), ADAPTER)

    async def ask() -> list[str]:
        found = await asyncio.gather(program.acall(text="a"), program.acall(text="b"))
        return [one.answer for one in found]

    with dspy.context(lm=DummyLM([{"answer": "no"}] * 9), adapter=dspy.ChatAdapter()):
        assert program(text="is it?").answer == "yes"
        assert asyncio.run(ask()) == ["yes", "yes"]
        assert isinstance(dspy.settings.adapter, dspy.ChatAdapter)


@pytest.mark.parametrize("make", PROGRAMS, ids=["both", "sync", "async"])
def test_it_can_be_called_within_a_running_loop_too(make: Any) -> None:
    program = served(attach(make(), DummyLM([{"answer": "yes"}] * 9, adapter=ADAPTER)), ADAPTER)

    async def ask() -> str:
        return str(program(text="is it?").answer)

    with dspy.context(lm=DummyLM([{"answer": "no"}] * 9), adapter=dspy.ChatAdapter()):
        assert asyncio.run(ask()) == "yes"
