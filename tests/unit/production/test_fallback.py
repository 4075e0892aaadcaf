from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_finetune.errors import UsageError
from pytest_finetune.production import Fallback, Served


class Model:
    """Answers with its name while it is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.calls = 0

    def __call__(self, text: str) -> str:
        self.calls += 1
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
    assert (world.served.open, world.served.counts) == (False, Served())


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


def test_no_errors_at_all_would_never_serve_the_primary() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Fallback(Model("a"), Model("b"), errors=0)
