"""The line that shows how far the evaluation is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from tests.conftest import Project

from pytest_finetune.evaluate import Progress
from pytest_finetune.reports.progress import line


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(450), "rows 0/450"),
        (
            Progress(450, done=180, asked=120, reused=60, cost=0.0042, seconds=10),
            "rows 180/450, 60 reused, 12.0/s, $0.0042, 22 s left",
        ),
        (
            Progress(45_000, done=180, asked=120, errors=3, cost=None, seconds=10),
            "rows 180/45,000, 3 without an answer, 12.0/s, 62 min left",
        ),
    ],
)
def test_it_says_how_far_how_fast_and_how_dear(progress: Progress, words: str) -> None:
    assert line(progress) == words


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("options", "shown"), [([], True), (["-q"], False)])
def test_it_is_shown_on_a_terminal(built: Project, options: list[str], shown: bool) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    command = [sys.executable, "-m", "pytest", "-p", "finetune", "--finetune-models=models.lock", *options]
    ours, theirs = os.openpty()
    with subprocess.Popen(command, cwd=built.path, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
    os.close(ours)
    assert process.returncode == 0
    assert (b"/960, " in said) is shown
    assert b"3 passed" in said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def test_it_is_not_shown_to_a_file(built: Project) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    result = built.gate()
    result.assert_outcomes(passed=3)
    assert "/960, " not in result.stdout.str()
