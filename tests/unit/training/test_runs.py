from __future__ import annotations

import sys
import threading

import pytest

from pytest_finetune.training.runs import aloud, quiet


def test_only_reports_are_heard_in_the_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    report = aloud(print)
    report("before")
    with quiet():
        print("noise")  # noqa: T201
        print("noise", file=sys.stderr)  # noqa: T201
        report("within")
        thread = threading.Thread(target=report, args=["from a thread"])
        thread.start()
        thread.join()
    report("after")
    assert capfd.readouterr() == ("before\nwithin\nfrom a thread\nafter\n", "")


def test_speaking_while_the_quiet_ends_does_not_silence_what_follows(capfd: pytest.CaptureFixture[str]) -> None:
    speaking, ended = threading.Event(), threading.Event()

    def slowly(sentence: str) -> None:
        speaking.set()
        ended.wait(10)
        print(sentence)  # noqa: T201

    with quiet():
        thread = threading.Thread(target=aloud(slowly), args=["late"])
        thread.start()
        speaking.wait(10)
    ended.set()
    thread.join()
    print("heard")  # noqa: T201
    assert capfd.readouterr().out == "late\nheard\n"
