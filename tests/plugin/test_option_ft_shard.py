"""``--ft-shard``: the jobs of a matrix evaluate a share each, and their stores are joined."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.conftest import Project

from pytest_finetune.cli import run as run_command

STORE = Path(".pytest-finetune") / "rows.sqlite"


def test_the_joined_shares_give_the_verdicts_of_one_run(built: Project, tmp_path: Path) -> None:
    whole = built.gate("-q")
    shares = []
    for number in (1, 2):
        shutil.rmtree(built.path / ".pytest-finetune")
        result = built.gate("-q", "-rs", f"--ft-shard={number}/2")
        result.assert_outcomes(skipped=3)
        assert result.ret == 0
        result.stdout.fnmatch_lines([f"SKIPPED*share {number}/2 is evaluated (*pytest-finetune merge, then*"])
        shares.append(shutil.copy(built.path / STORE, tmp_path / f"{number}.sqlite"))
    (built.path / STORE).unlink()
    built.forget_what_was_accepted()
    assert run_command(["merge", *map(str, shares), "--into", str(built.path / STORE)]) == 0
    joined = built.gate("-q", "--ft-offline")
    joined.assert_outcomes(passed=3)
    assert [line for line in joined.outlines if "PASSED" in line] == [
        line for line in whole.outlines if "PASSED" in line
    ]


@pytest.mark.parametrize("share", ["0/2", "3/2", "2", "a/b", "-1/2"])
def test_what_is_no_share_is_refused(built: Project, share: str) -> None:
    result = built.gate(f"--ft-shard={share}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "write K/N with 1 <= K <= N, such as 2/4" in result.stderr.str()
