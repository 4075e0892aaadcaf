"""What requests and training cost, and a cap on that: as well kept as the cost can be counted before.

A request is counted at the most that it may cost, where it says ``max_tokens``. A job is counted by an estimate, of
four bytes to a token, until it is billed: one whose tokens are shorter may pass the cap by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pytest_finetune.calls.traffic import Stopped
from pytest_finetune.core.pricing import CAP, MILLION, Prices, price_of
from pytest_finetune.core.records import Usage
from pytest_finetune.errors import UsageError

ANSWER = 1024  # tokens that an answer without ``max_tokens`` is taken to have at most


class OverBudget(Stopped):
    """The next request might cost more than is left. Not an Exception, so that no program goes on without it."""


class Ledger(Protocol):
    """Adds up what all processes of a run spend; `pytest_finetune.store.Spending` is one."""

    def reserve(self, dollars: float, *, cap: float) -> bool:
        """Book an amount in advance, if the sum then stays within the cap."""
        ...

    def settle(self, reserved: float, actual: float) -> None:
        """Put what was spent in the place of what was booked."""
        ...

    def spent(self) -> float:
        """What was spent and booked by all processes."""
        ...


class Budget:
    """Prices requests and training; with a cap, nothing is sent that would pass it as far as can be counted before.

    Args:
        prices: See `price_of`.
        cap: US dollars that the run may cost; None: no limit.
        ledger: Needed for a cap.
    """

    def __init__(self, prices: Prices = (), *, cap: float | None = None, ledger: Ledger | None = None) -> None:
        self._prices = prices
        self._cap = cap
        self._ledger = ledger

    @property
    def cap(self) -> float | None:
        """US dollars that the run may cost; None: no limit."""
        return self._cap

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars of an answer; None where the model's price is unknown."""
        price = price_of(model, self._prices)
        return None if price is None else price.of(prompt_tokens, completion_tokens)

    def check(self, model: str) -> None:
        """Refuse a cap on what has no price, before anything is sent.

        Raises:
            UsageError: If there is a cap, and the model's price is unknown.
        """
        if self._cap is not None and price_of(model, self._prices) is None:
            raise UsageError(
                f"a cap ({CAP}) needs the price of {model!r}, which is unknown: add"
                f' [tool.pytest-finetune.prices."{model}"] with prompt and completion, in US dollars for a million'
                " tokens, to pyproject.toml"
            )

    def training(self, model: str, tokens: int) -> float:
        """US dollars of training on so many tokens, those of every epoch counted; an estimate if these are one.

        Raises:
            UsageError: If nobody knows what training the model costs.
        """
        price = price_of(model, self._prices)
        if price is None or price.training is None:
            raise UsageError(
                f"a cap ({CAP}) needs the price of training {model!r}, which is unknown: add"
                f' [tool.pytest-finetune.prices."{model}"] with prompt, completion and training, in US dollars for a'
                " million tokens, to pyproject.toml"
            )
        return price.training * tokens / MILLION

    def reserve(self, dollars: float) -> bool:
        """Set an amount aside, if the run then stays within its cap; say whether that was done."""
        return self._cap is None or self._ledger is None or self._ledger.reserve(dollars, cap=self._cap)

    def settle(self, reserved: float, actual: float) -> None:
        """Put what was spent in the place of what was set aside."""
        if self._ledger is not None:
            self._ledger.settle(reserved, actual)

    def spent(self) -> float:
        """US dollars that the run has spent or set aside, as far as anybody counts."""
        return 0.0 if self._ledger is None else self._ledger.spent()

    @contextmanager
    def booked(self, request: Any) -> Iterator[Callable[[Usage | None], None]]:
        """Set aside what a request may cost, for as long as it is under way.

        Args:
            request: A ``dspy.lm15.Request``.

        Yields:
            What is to be told the usage of the answer. A request that gets no answer is taken to have cost all that
            was set aside, unless the endpoint refused it.

        Raises:
            OverBudget: It might cost more than is left.
        """
        if self._cap is None or self._ledger is None:
            yield lambda _: None
            return
        most = self._most(request)
        if not self.reserve(most):
            raise OverBudget(
                f"the next request may cost ${most:.4f}, and ${self.spent():.4f} of the cap of"
                f" ${self._cap:g} are spent or set aside"
            )
        actual = most

        def bill(usage: Usage | None) -> None:
            nonlocal actual
            actual = most if usage is None or usage.cost is None else usage.cost

        try:
            yield bill
        except Exception as error:
            if getattr(error, "status", None) is not None:
                actual = 0.0
            raise
        finally:
            self.settle(most, actual)

    def _most(self, request: Any) -> float:
        """What a request may cost at most: no token is shorter than a byte of the prompt."""
        prompt = sum(len(str(part).encode()) for part in (request.system or "", *request.messages))
        answer = request.config.max_tokens or ANSWER
        return self.cost(request.model, prompt, answer) or 0.0
