"""What a model costs, and that nothing is taken for free that is not known."""

from __future__ import annotations

import pytest

from pytest_finetune.core.pricing import OPENAI_PRICES, SANDBOX_PRICES, Price, price_of, price_of_all


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "ft:gpt-4o-mini"),
        ("ft:gpt-4.1:acme:tickets:abc:ckpt-step-20", "ft:gpt-4.1"),
    ],
)
def test_a_snapshot_and_a_tuned_model_cost_what_their_family_costs(model: str, name: str) -> None:
    assert price_of(model, [OPENAI_PRICES]) == OPENAI_PRICES[name]


@pytest.mark.parametrize("model", ["gpt-4o-audio", "ft:gpt-4.1-nano:acme::1", "my-own", "gpt-4", "", "ft:"])
def test_what_is_in_no_list_is_unknown(model: str) -> None:
    assert price_of(model, [OPENAI_PRICES]) is None


def test_models_have_a_price_together_where_they_have_the_same() -> None:
    prices = [{"a": Price(1, 2), "b": Price(1, 2), "c": Price(3, 4)}]
    assert price_of_all(["a", "b", "a"], prices) == Price(1, 2)
    assert price_of_all(["a", "c"], prices) is None
    assert price_of_all(["a", "unknown"], prices) is None


def test_the_name_that_says_most_is_taken() -> None:
    prices = {"*": Price(9, 9), "ft:*": Price(3, 3), "ft:base": Price(2, 2), "ft:base:acme::1": Price(1, 1)}
    assert [price_of(model, [prices]) for model in ("x", "ft:x", "ft:base:acme::2", "ft:base:acme::1")] == [
        Price(9, 9),
        Price(3, 3),
        Price(2, 2),
        Price(1, 1),
    ]


def test_the_users_own_price_goes_before_ours() -> None:
    own = {"ft:*": Price(7, 7)}
    assert price_of("ft:gpt-4o:acme::1", [own, OPENAI_PRICES]) == Price(7, 7)
    assert price_of("gpt-4o", [own, OPENAI_PRICES]) == OPENAI_PRICES["gpt-4o"]


def test_prices_are_for_a_million_tokens() -> None:
    assert SANDBOX_PRICES["sandbox-small"].of(2_000_000, 500_000) == pytest.approx(0.30 + 0.30)
