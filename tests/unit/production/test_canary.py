from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.errors import UsageError
from pytest_finetune.production import Canary, Routed

SHARES = st.floats(0, 1)


class Program:
    """Answers with its name, unless it is asked to fail."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, text: str) -> str:
        if text == "fail":
            raise ValueError(self.name)
        return f"{self.name}: {text}"

    async def acall(self, **inputs: Any) -> str:
        return self(**inputs)


def canary(share: float = 0.5, salt: str = "") -> Canary:
    return Canary(Program("stable"), Program("candidate"), share=share, salt=salt)


@given(st.text(min_size=1), SHARES, SHARES)
def test_a_user_who_has_the_candidate_keeps_it_when_the_share_grows(user: str, one: float, other: float) -> None:
    small, large = sorted([one, other])
    assert canary(small).takes_candidate(user) <= canary(large).takes_candidate(user)
    assert not canary(0).takes_candidate(user)
    assert canary(1).takes_candidate(user)


def test_the_share_is_kept_to_and_the_users_are_the_same_in_every_process() -> None:
    chosen = [number for number in range(10_000) if canary(0.05).takes_candidate(f"user {number}")]
    assert 430 <= len(chosen) <= 570
    assert chosen[:5] == [11, 15, 28, 38, 42]  # pinned: users must not move
    other = [number for number in range(10_000) if canary(0.05, "second try").takes_candidate(f"user {number}")]
    assert len(set(chosen) & set(other)) < 60


def test_each_user_is_answered_by_one_program_and_calls_are_counted() -> None:
    routes = canary()
    answers = {user: {routes(user=user, text="hi") for _ in range(3)} for user in map(str, range(100))}
    assert all(len(of_user) == 1 for of_user in answers.values())
    users = sum(answer == {"candidate: hi"} for answer in answers.values())
    assert routes.counts == Routed(stable=3 * (100 - users), candidate=3 * users)
    assert asyncio.run(routes.acall(user="1", text="hi")) in answers["1"]
    assert routes.counts.stable + routes.counts.candidate == 301


def test_errors_are_counted_and_raised() -> None:
    routes = canary(1.0)
    with pytest.raises(ValueError, match="candidate"):
        routes(user="a", text="fail")
    with pytest.raises(ValueError, match="candidate"):
        asyncio.run(routes.acall(user="a", text="fail"))
    assert routes.counts == Routed(candidate=2, candidate_errors=2)


def test_threads_lose_no_count() -> None:
    routes = canary()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: routes(user=str(number), text="hi"), range(2_000)))
    assert routes.counts.stable + routes.counts.candidate == 2_000


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "0.5", None, True])
def test_a_share_is_a_share(share: Any) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        canary(share)


@pytest.mark.parametrize("user", [None, "", 4711, b"ann"])
def test_who_has_no_name_is_not_routed_with_all_others_who_have_none(user: Any) -> None:
    routes = canary()
    with pytest.raises(UsageError, match="what tells this user from all others"):
        routes(user=user, text="hi")
    with pytest.raises(UsageError, match="what tells this user from all others"):
        asyncio.run(routes.acall(user=user, text="hi"))
    assert routes.counts == Routed()
