"""What is refused where it is given, and not at the call that would first suffer from it."""

from __future__ import annotations

import math
from typing import TypeGuard

from pytest_finetune.errors import UsageError


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no time to wait.

    Raises:
        UsageError: If it is not a number above 0, and below infinity.
    """
    if not (_is_number(value) and 0 < value < math.inf):
        raise UsageError(f"{name}={value!r}: give seconds, a number above 0")


def check_share(value: object) -> None:
    """Refuse what is no share of the users.

    Raises:
        UsageError: If it is not a number from 0 to 1.
    """
    if not (_is_number(value) and 0 <= value <= 1):
        raise UsageError(f"share={value!r}: give the share of the users that get the candidate, from 0 to 1")


def check_user(value: object) -> None:
    """Refuse what tells no user from others: all of them would get the same program.

    Raises:
        UsageError: If it is not a text, or is empty.
    """
    if not (isinstance(value, str) and value):
        raise UsageError(
            f"user={value!r}: give what tells this user from all others, a str, as str(account.id); for one who has"
            " no name, the id of the session"
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
