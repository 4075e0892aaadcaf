from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from pytest_finetune.errors import UsageError
from pytest_finetune.production import Fallback, Served


class Model:
    """Answers with its name while it is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.calls = 0
        self.raises: Exception | None = None

    def __call__(self, text: str) -> str:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        if not self.up or text == "bad":
            raise ConnectionError(self.name)
        return self.name

    async def acall(self, **inputs: Any) -> str:
        return self(**inputs)


class World:
    """Two models, and a clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.new, self.old = Model("new"), Model("old")
        self.served = Fallback(self.new, self.old, errors=3, window=60, rest=30, clock=lambda: self.now)

    def ask(self, text: str = "hi") -> str:
        answer: str = self.served(text=text)
        return answer


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    if request.param == "async":
        monkeypatch.setattr(made, "ask", lambda text="hi": asyncio.run(made.served.acall(text=text)))
    return made


def test_a_call_at_which_the_primary_fails_is_answered_all_the_same(world: World) -> None:
    assert world.ask() == "new"
    world.new.up = False
    assert world.ask() == "old"
    world.new.up = True
    assert world.ask() == "new"
    assert world.served.counts == Served(primary=2, fallback=1, errors=1)


def test_after_so_many_errors_the_primary_rests_and_then_one_call_tries_it(world: World) -> None:
    world.new.up = False
    assert [world.ask() for _ in range(5)] == ["old"] * 5
    assert (world.new.calls, world.served.open) == (3, True)
    world.now = 29.9
    assert (world.ask(), world.new.calls) == ("old", 3)
    world.now = 30.0
    assert (world.ask(), world.new.calls) == ("old", 4)
    world.now = 59.9
    assert (world.ask(), world.new.calls) == ("old", 4)
    world.now, world.new.up = 60.0, True
    assert [world.ask() for _ in range(2)] == ["new", "new"]
    assert not world.served.open
    assert world.served.counts == Served(primary=2, fallback=8, errors=4, opened=1)


def test_errors_that_are_far_apart_give_nothing_up(world: World) -> None:
    world.new.up = False
    for world.now in (0.0, 40.0, 80.0, 120.0):
        world.ask()
    assert not world.served.open
    world.now = 130.0
    world.ask()
    assert world.served.open


def test_after_a_recovery_errors_are_counted_anew(world: World) -> None:
    world.new.up = False
    for _ in range(3):
        world.ask()
    world.now, world.new.up = 30.0, True
    world.ask()
    world.new.up = False
    world.ask()
    world.ask()
    assert not world.served.open


def test_what_both_fail_at_is_the_inputs_fault(world: World) -> None:
    for _ in range(10):
        with pytest.raises(ConnectionError, match="old"):
            world.ask("bad")
    assert (world.served.open, world.served.counts) == (False, Served(failed=10))


UNREAD = AdapterParseError("ChatAdapter", dspy.Signature("text -> answer"), "no fields at all")


@pytest.mark.parametrize("error", [UNREAD, ContextWindowExceededError(model="small")], ids=["unread", "too long"])
def test_what_the_gate_calls_a_format_error_is_answered_and_gives_nothing_up(world: World, error: Exception) -> None:
    world.new.raises = error
    assert [world.ask() for _ in range(9)] == ["old"] * 9
    assert not world.served.open
    assert world.served.counts == Served(fallback=9, format_errors=9)


def test_a_primary_that_answers_what_cannot_be_read_is_back(world: World) -> None:
    world.new.up = False
    for _ in range(3):
        world.ask()
    world.now, world.new.raises = 30.0, UNREAD
    assert (world.ask(), world.served.open) == ("old", False)


class Slow(Model):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__("new")
        self.asked = asyncio.Event()
        self.end: asyncio.Future[str] | None = None

    async def acall(self, **inputs: Any) -> str:
        if inputs["text"] != "slow":
            return self(**inputs)
        self.end = asyncio.get_running_loop().create_future()
        self.asked.set()
        return await self.end


async def straggler(error: Exception | None) -> World:
    """A call that was begun before the primary was given up ends a second before the trial."""
    world, slow = World(), Slow()
    world.served.primary = slow
    call = asyncio.create_task(world.served.acall(text="slow"))
    await slow.asked.wait()
    slow.up = False
    for _ in range(3):
        await world.served.acall(text="hi")
    world.now = 29.0
    assert slow.end is not None
    if error is None:
        slow.end.set_result("new")
    else:
        slow.end.set_exception(error)
    assert await call == ("new" if error is None else "old")
    slow.up = True
    return world


def test_an_answer_from_before_does_not_bring_the_primary_back() -> None:
    world = asyncio.run(straggler(None))
    assert world.served.open
    assert world.ask() == "old"
    assert world.served.counts == Served(primary=1, fallback=4, errors=3, opened=1)


def test_an_error_from_before_does_not_put_off_the_trial() -> None:
    world = asyncio.run(straggler(ConnectionError("new")))
    world.now = 30.0
    assert world.ask() == "new"
    assert world.served.counts == Served(primary=1, fallback=4, errors=4, opened=1)


async def trial() -> None:
    """While one call tries a primary that has rested, the others do not; if it never ends, another one tries."""
    world, slow = World(), Slow()
    world.served.primary = slow
    slow.up = False
    for _ in range(3):
        await world.served.acall(text="hi")
    world.now, slow.up = 30.0, True
    tried = asyncio.create_task(world.served.acall(text="slow"))
    await slow.asked.wait()
    assert await world.served.acall(text="hi") == "old"
    world.now = 60.0
    assert await world.served.acall(text="hi") == "new"
    assert not world.served.open
    tried.cancel()


def test_one_call_at_a_time_tries_a_primary_that_has_rested() -> None:
    asyncio.run(trial())


def test_many_tasks_at_once_are_all_answered_and_counted() -> None:
    async def ask() -> Served:
        new, old = Model("new"), Model("old")
        new.up = False
        served = Fallback(new, old, errors=3, rest=30, clock=lambda: 0.0)
        assert await asyncio.gather(*(served.acall(text="hi") for _ in range(200))) == ["old"] * 200
        return served.counts

    assert asyncio.run(ask()) == Served(fallback=200, errors=3, opened=1)


def test_the_primarys_error_is_told_with_that_of_the_fallback(world: World) -> None:
    with pytest.raises(ConnectionError, match="old") as raised:
        world.ask("bad")
    assert str(raised.value.__context__) == "new"


def test_of_many_threads_one_tries_a_primary_that_has_rested(world: World) -> None:
    world.new.up = False
    for _ in range(3):
        world.ask()
    world.now, before, begun = 30.0, world.new.calls, threading.Barrier(8)

    def ask(_: int) -> str:
        begun.wait()
        return str(world.served(text="hi"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["old"] * 8
    assert world.new.calls == before + 1


@pytest.mark.parametrize("errors", [0, -1, 1.5, 2.0, "5", True])
def test_no_errors_at_all_would_never_serve_the_primary(errors: Any) -> None:
    with pytest.raises(UsageError, match="a whole number, at least 1"):
        Fallback(Model("a"), Model("b"), errors=errors)


@pytest.mark.parametrize("name", ["window", "rest"])
@pytest.mark.parametrize("seconds", [0, -5, float("nan"), float("inf"), "60", None, True])
def test_a_time_is_a_number_of_seconds(name: str, seconds: Any) -> None:
    with pytest.raises(UsageError, match=f"{name}=.*: give seconds, a number above 0"):
        Fallback(Model("a"), Model("b"), **{name: seconds})
