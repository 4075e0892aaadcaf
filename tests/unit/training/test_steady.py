"""How long an endpoint asks to be left alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from pytest_finetune.training.steady import asked_wait


def refusal(told: str | None) -> Exception:
    error = Exception("slow down")
    error.response = SimpleNamespace(headers={} if told is None else {"retry-after": told})  # type: ignore[attr-defined]  # as the errors of openai have it
    return error


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("20", 20.0),
        ("0.5", 0.5),
        ("0", None),
        ("-3", None),
        (None, None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),  # later than any moment that Python knows
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
    ],
)
def test_seconds_are_read_and_nonsense_is_not(told: str | None, seconds: float | None) -> None:
    assert asked_wait(refusal(told)) == seconds


@pytest.mark.parametrize("zone", [timezone.utc, timezone(timedelta(hours=-8)), None])
def test_a_date_is_read_in_whichever_zone(zone: timezone | None) -> None:
    now = datetime.now(zone or timezone.utc)
    text = format_datetime(now + timedelta(seconds=100), usegmt=zone is timezone.utc)
    assert asked_wait(refusal(text)) == pytest.approx(100, abs=2)
    assert asked_wait(refusal(format_datetime(now - timedelta(seconds=100)))) is None


def test_an_error_without_an_answer_asks_for_nothing() -> None:
    assert asked_wait(ConnectionError()) is None
