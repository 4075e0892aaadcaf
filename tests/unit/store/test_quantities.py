from __future__ import annotations

import pytest

from pytest_finetune.errors import UsageError
from pytest_finetune.store.quantities import age, size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("36h", 129_600), ("30d", 2_592_000), ("2 w", 1_209_600), ("0.5h", 1800)]
)
def test_ages(text: str, seconds: float) -> None:
    assert age(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("1GB", 10**9), ("200mb", 2 * 10**8), ("1.5 KB", 1500), (" 2GB ", 2 * 10**9)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "36", "h", "-1h", "0h", "3y", "1e3h", "nan h", "36h 5m"])
def test_what_is_no_age_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"^write an age as 90m, 36h, 30d or 4w$"):
        age(text)


@pytest.mark.parametrize("text", ["", "1000", "0MB", "1TB", "-1GB"])
def test_what_is_no_size_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"^write a size as 500KB, 200MB or 1.5GB$"):
        size(text)
