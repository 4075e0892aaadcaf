"""Ages and sizes, as people write them."""

from __future__ import annotations

import re

from pytest_finetune.errors import UsageError

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def age(text: str) -> float:
    """An age in seconds.

    Args:
        text: As in ``36h``.

    Raises:
        UsageError: If it is no age, or none at all.
    """
    return _amount(text, _SECONDS, "write an age as 90m, 36h, 30d or 4w")


def size(text: str) -> int:
    """A size in bytes.

    Args:
        text: As in ``200MB``.

    Raises:
        UsageError: If it is no size, or none at all.
    """
    return round(_amount(text.upper(), _BYTES, "write a size as 500KB, 200MB or 1.5GB"))


def _amount(text: str, units: dict[str, int], advice: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip())
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise UsageError(advice)
    return float(found[1]) * units[found[2]]
