"""Every error this package raises on purpose.

::

    FinetuneError
    ├── UsageError          a task, marker, option or setting is wrong: nothing was spent
    │   ├── ClaimError      a claim's text does not parse, or names something that does not exist
    │   ├── DatasetError    a data file or split is unusable
    │   └── MissingExtra    an optional library is not installed
    ├── LockError           models.lock is missing, unreadable, or does not fit what is being run
    │   ├── DriftError      data, metric, program, adapter or endpoint differ from what was locked
    │   └── NotPromoted     no version of a stage is in the state that is asked for
    ├── EvidenceError       rows are missing, partial, stale or not comparable: no verdict can be given
    │   └── NotEvaluated    rows are missing because they may not be asked for: a cap, or no network
    ├── EndpointError       an endpoint could not be reached, or refused
    │   ├── NotDeployed     it has no model of the name that is asked for
    │   └── JudgeError      the model that a metric asks gave no score: the row has none
    └── TrainingError       a stage could not be built; what was paid for is kept

A message says what happened, where (file, task, row), and the next command to type.
A claim that does not hold is not an error: it is a verdict.
"""

from __future__ import annotations

from pytest_finetune.secrets import shown


class FinetuneError(Exception):
    """Base of every error that this package raises on purpose; its message holds no secret, wherever it is shown."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message))


class UsageError(FinetuneError):
    """What the user wrote or typed cannot be used; nothing was spent."""


class ClaimError(UsageError):
    """A claim's text does not parse, or names a stage or measure that does not exist."""


class DatasetError(UsageError):
    """A data file cannot be read, a row breaks the rules, or a split is unusable."""


class MissingExtra(UsageError):
    """A feature needs an optional library that is not installed."""


class LockError(FinetuneError):
    """``models.lock`` or an artifact beside it is missing, unreadable, or does not fit the run."""


class DriftError(LockError):
    """What is being run differs from what was locked; the message names each field."""


class NotPromoted(LockError):
    """No version of a stage is in production, or in the other state that is asked for."""


class EvidenceError(FinetuneError):
    """Rows are missing, partial, stale or not comparable, so that no verdict can be given."""


class NotEvaluated(EvidenceError):
    """Rows are missing because they may not be asked for: the cap on cost is reached, or the run is offline."""


class EndpointError(FinetuneError):
    """An endpoint could not be reached, or refused the request."""


class NotDeployed(EndpointError):
    """The endpoint has no model of that name: it was trained, it may be, and is not served."""


class JudgeError(EndpointError):
    """The model that a metric asks gave no score, so that the row has none: its error is never a 0."""


class TrainingError(FinetuneError):
    """A stage could not be built. What was already paid for is kept, and the message says where."""
