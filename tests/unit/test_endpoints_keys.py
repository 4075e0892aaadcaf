"""Keys that a command prints, limits per minute, and what is kept out of messages."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.endpoints.keys import KeyCommand
from pytest_finetune.endpoints.rates import Bucket, rates_of
from pytest_finetune.errors import EndpointError


def python(source: str) -> str:
    """A command line that runs some Python."""
    return shlex.join([sys.executable, "-c", source])


def counting(folder: Path) -> str:
    """A command that prints another key each time, and fails where there is a file ``broken``."""
    return python(
        f"import pathlib as p; f = p.Path({str(folder)!r}); n = len(list(f.glob('run*'))); (f / f'run{{n}}').touch();"
        " assert not (f / 'broken').exists(); print(f'token-{n}')"
    )


def test_a_key_is_kept_until_it_is_refused(tmp_path: Path) -> None:
    command = KeyCommand(counting(tmp_path))
    assert [command.key("ours"), command.key("ours")] == ["token-0", "token-0"]
    command.refused(0)
    assert command.key("ours") == "token-1"
    command.refused(0)  # of another thread, which used the first key too
    assert command.key("ours") == "token-1"
    command.refused(1)
    assert command.key("ours") == "token-2"


def test_an_old_key_is_renewed_and_serves_on_where_there_is_no_new_one(tmp_path: Path) -> None:
    command = KeyCommand(counting(tmp_path), kept=0.0)
    assert [command.key("ours"), command.key("ours")] == ["token-0", "token-1"]
    (tmp_path / "broken").touch()
    assert command.key("ours") == "token-1"
    command.refused(0)
    with pytest.raises(EndpointError, match="ended with status 1"):
        command.key("ours")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("print('hidden-1'); raise SystemExit('hidden-2')", "ended with status 1;"),
        ("print('hidden-1\\nhidden-2')", "printed 2 lines; it must print the key alone;"),
        ("pass", "printed 0 lines;"),
    ],
)
def test_what_a_command_prints_is_never_shown(source: str, problem: str) -> None:
    endpoint = Endpoint("ours", "http://here/v1", api_key_command=python(source))
    with pytest.raises(EndpointError) as caught:
        endpoint.key()
    assert f"endpoint 'ours': its api_key_command ({sys.executable} …) {problem}" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(EndpointError, match=r"\(no-such-command …\) cannot be run \(FileNotFoundError\)"):
        KeyCommand("no-such-command --token hidden").key("ours")


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "")
    with pytest.raises(EndpointError, match="'ours' needs a key in the environment variable OURS, which is not set"):
        Endpoint("ours", "http://here/v1", api_key_env="OURS").check()
    with pytest.raises(EndpointError, match="'ours' needs header X-Team in the environment variable OURS"):
        Endpoint("ours", "http://here/v1", headers_env={"X-Team": "OURS"}).check()


@given(st.floats(1, 6000), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 300)), min_size=1, max_size=40))
def test_no_more_flows_out_of_a_bucket_than_into_it(per_minute: float, takes: Sequence[tuple[float, float]]) -> None:
    now = 0.0
    bucket = Bucket(per_minute, clock=lambda: now)
    sent = []
    for pause, amount in takes:
        now += pause
        sent.append((now + bucket.take(amount), amount))
    times, amounts = zip(*sent, strict=True)
    assert list(times) == pytest.approx(sorted(times))  # in the order in which they came
    burst = max(1.0, per_minute / 60)
    for first, start in enumerate(times):
        for at, used in zip(times[first:], accumulate(amounts[first:]), strict=True):
            allowed = burst + (at - start) * per_minute / 60 + amounts[first]
            assert used <= allowed * (1 + 1e-9) + 1e-6
    for at, used in zip(times, accumulate(amounts), strict=True):
        assert used <= (burst + at * per_minute / 60) * (1 + 1e-9) + 1e-6


def test_workers_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [rates_of("alone", 60, None).request() for _ in range(3)]
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    shared = [rates_of("shared", 60, None).request() for _ in range(3)]
    assert alone == pytest.approx([0, 1, 2], abs=0.1)
    assert shared == pytest.approx([0, 2, 4], abs=0.1)
    assert Endpoint("x", "", requests_per_minute=5).at_once(32) == 5
    assert Endpoint("x", "").at_once(32) == 32


def test_tokens_that_were_booked_and_not_used_are_given_back() -> None:
    rates = rates_of("tokens", None, 600)  # ten in a second
    assert rates.request(110) == pytest.approx(10, abs=0.1)
    rates.settle(110, 10)
    assert rates.request(10) == pytest.approx(1, abs=0.1)
