"""Which answers are found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dspy.lm15 import Config, Message, Request

from pytest_finetune.calls.records import Replay
from pytest_finetune.core.records import Usage


@dataclass
class Shelf:
    """A store in memory."""

    held: dict[str, str] = field(default_factory=dict)

    def recall(self, key: str) -> str | None:
        return self.held.get(key)

    def record(self, key: str, response: str, *, purpose: str, model: str, usage: Usage | None) -> None:
        assert (purpose, model, usage) == ("training", "small", Usage(1, 2))
        self.held.setdefault(key, response)

    def forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            del self.held[key]


def request(text: str = "Hello", temperature: float | None = 0.0, model: str = "small") -> Request:
    return Request(model=model, messages=(Message.user(text),), config=Config(temperature=temperature))


def test_a_request_without_chance_has_one_answer() -> None:
    replay = Replay(Shelf(), "training")
    assert replay.key("here", request()) == replay.key("here", request())


def test_a_sampled_request_has_another_answer_each_time_and_the_same_ones_in_the_next_process() -> None:
    first, second = Replay(Shelf(), "training"), Replay(Shelf(), "training")
    keys = [first.key("here", request(temperature=None)) for _ in range(3)]
    assert len(set(keys)) == 3
    assert [second.key("here", request(temperature=None)) for _ in range(3)] == keys


def test_all_that_changes_an_answer_is_in_its_key() -> None:
    replay = Replay(Shelf(), "training")
    keys = [
        replay.key("here", request()),
        replay.key("there", request()),
        replay.key("here", request("Bye")),
        replay.key("here", request(model="large")),
        replay.key("here", request(temperature=0.5)),
    ]
    assert len(set(keys)) == len(keys)


def test_what_was_recorded_is_found_and_the_first_answer_stays() -> None:
    replay = Replay(Shelf(), "training")
    assert replay.recall("key") is None
    replay.record("key", "small", {"choices": [1]}, Usage(1, 2))
    replay.record("key", "small", {"choices": [2]}, Usage(1, 2))
    assert replay.recall("key") == {"choices": [1]}
    replay.forget(["key"])
    assert replay.recall("key") is None
