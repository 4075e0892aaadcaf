"""What is set aside for a request, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from dspy.lm15 import Config, Message, Request

from pytest_finetune.calls import Budget, OverBudget
from pytest_finetune.core.pricing import Price
from pytest_finetune.core.records import Usage
from pytest_finetune.errors import UsageError

PRICES = [{"small": Price(1.0, 2.0)}]
PROMPT = "x" * 1000


@dataclass
class Book:
    """A ledger in memory."""

    dollars: float = 0.0

    def reserve(self, dollars: float, *, cap: float) -> bool:
        if self.dollars + dollars > cap:
            return False
        self.dollars += dollars
        return True

    def settle(self, reserved: float, actual: float) -> None:
        self.dollars += actual - reserved

    def spent(self) -> float:
        return self.dollars


class Refused(Exception):
    status = 429


def request(max_tokens: int | None = 100) -> Request:
    return Request(model="small", messages=(Message.user(PROMPT),), config=Config(max_tokens=max_tokens))


def budget(book: Book, cap: float = 1.0) -> Budget:
    return Budget(PRICES, cap=cap, ledger=book)


def test_more_than_any_answer_can_cost_is_set_aside_and_then_put_right() -> None:
    book = Book()
    with budget(book).booked(request()) as bill:
        assert book.dollars >= (1000 * 1.0 + 100 * 2.0) / 1e6
        bill(Usage(300, 10, 0.00032))
    assert book.dollars == pytest.approx(0.00032)


def test_a_request_that_might_pass_the_cap_is_not_sent() -> None:
    book = Book(0.9995)
    refusal = r"may cost \$0\.00\d+, and \$0\.9995 of the cap of \$1 are spent"
    with pytest.raises(OverBudget, match=refusal), budget(book).booked(request()):
        pytest.fail("it was sent")
    assert book.dollars == 0.9995


def test_a_refused_request_is_free_and_one_that_was_lost_on_the_way_is_not() -> None:
    book = Book()
    with pytest.raises(Refused), budget(book).booked(request()):
        raise Refused
    assert book.dollars == pytest.approx(0.0)
    with pytest.raises(ConnectionError), budget(book).booked(request()):
        raise ConnectionError
    assert book.dollars >= 1200 / 1e6


def test_an_answer_without_usage_counts_as_the_most() -> None:
    book = Book()
    with budget(book).booked(request()) as bill:
        bill(None)
    assert book.dollars >= 1200 / 1e6


def test_a_cap_on_a_model_without_a_price_is_refused() -> None:
    with pytest.raises(UsageError, match=r'needs the price of \'large\'.*\[tool\.pytest-finetune\.prices\."large"\]'):
        budget(Book()).check("large")
    budget(Book()).check("small")
    Budget().check("large")


def test_an_unknown_price_is_no_cost_of_zero() -> None:
    assert Budget().cost("small", 1, 1) is None
    assert Budget(PRICES).cost("small", 1_000_000, 1_000_000) == 3.0
