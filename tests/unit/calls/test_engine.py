"""What an engine notes of calls that fail one after the other, within one row."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any, cast

import dspy
import pytest
from dspy import lm15

from pytest_finetune.calls import NOTES, Calling, Engine, Notes, Retries
from pytest_finetune.calls.engine import AsyncEngine
from pytest_finetune.endpoints import Endpoint


def test_a_refusal_does_not_hide_the_outage_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = Endpoint("mine", "http://127.0.0.1:9/v1").lm("small")
    engine, notes = Engine(lm, Calling(retries=Retries(attempts=1))), Notes(math.inf)
    down, refused = lm15.ServerError("down"), lm15.InvalidRequestError("no")
    refused.provider_code = "content_filter"
    errors = [down, refused]

    def fail(*_: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(engine, "_once", fail)
    request = lm15.Request(model="openai/small", messages=[lm15.Message.user("hello")])
    with dspy.context(**{NOTES: notes}):
        for error in (down, refused):
            with pytest.raises(type(error)):
                engine.complete(request)
    engine.close()
    assert notes.failure is down


class Meeting:
    """Answers when all are there."""

    most = 64  # more than the threads of an event loop

    def __init__(self) -> None:
        self._all = threading.Barrier(self.most)

    def complete(self, request: Any) -> tuple[Any, Any]:
        self._all.wait(timeout=20)
        return request, dspy.settings.adapter


def test_as_many_tasks_wait_for_an_answer_as_requests_may_be_under_way() -> None:
    engine = AsyncEngine(cast("Engine", Meeting()))
    adapter = dspy.XMLAdapter()

    async def ask() -> list[Any]:
        with dspy.context(adapter=adapter):
            return await asyncio.gather(*(engine.complete(number) for number in range(Meeting.most)))

    assert asyncio.run(ask()) == [(number, adapter) for number in range(Meeting.most)]
