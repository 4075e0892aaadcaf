"""What a job is estimated to cost, set aside under the run's cap before anything is sent for it."""

from __future__ import annotations

from pytest_finetune.calls import Budget
from pytest_finetune.training.refusals import too_dear
from pytest_finetune.training.request import JobRequest


class Deposit:
    """The estimated cost of one request's job: set aside before its file is uploaded, settled by what it was billed.

    A job that is taken up sets nothing aside: it was paid for by the run that began it.

    Args:
        budget: Of the run.
        request: What the job is made from.
        endpoint: Its name, for messages.
        comeback: The command that takes the work up again, for messages.
    """

    def __init__(self, budget: Budget, request: JobRequest, endpoint: str, comeback: str) -> None:
        self._budget = budget
        self._request = request
        self._endpoint = endpoint
        self._comeback = comeback
        self._dollars: float | None = None

    def make(self) -> None:
        """Set the cost aside, unless that has been done.

        Raises:
            UsageError: If there is a cap, and nobody knows what training the model costs.
            TrainingError: If the cap would be passed.
        """
        if self.is_made or self._budget.cap is None:
            return
        request = self._request
        dollars = self._budget.training(request.model, request.tokens * request.most_epochs)
        if not self._budget.reserve(dollars):
            raise too_dear(
                request,
                self._endpoint,
                dollars=dollars,
                cap=self._budget.cap,
                spent=self._budget.spent(),
                comeback=self._comeback,
            )
        self._dollars = dollars

    @property
    def is_made(self) -> bool:
        """Whether the cost is set aside."""
        return self._dollars is not None

    def give_back(self) -> None:
        """There will be no job."""
        self._settle(0.0)

    def settle(self, trained_tokens: int | None) -> None:
        """The job has ended; where the endpoint does not tell what it billed, all stays spent."""
        if self._dollars is not None and trained_tokens is not None:
            self._settle(self._budget.training(self._request.model, trained_tokens))

    def _settle(self, actual: float) -> None:
        if self._dollars is not None:
            self._budget.settle(self._dollars, actual)
            self._dollars = None
