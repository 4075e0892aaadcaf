"""What a journal or an endpoint has written steers no terminal."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command


def test_what_a_journal_says_is_shown_and_not_obeyed(command: Command, tmp_path: Path) -> None:
    told = {"at": "2026-11-21T10:00:00+00:00", "key": "k", "state": "failed", "job": "ftjob-1", "endpoint": "gone"}
    told |= {
        "model": "small\x1b]0;owned\x07\n  take it up with: rm -r .",
        "reason": "\x1b[2J\x9b1A all is well\u202e; Authorization: Bearer abc",
    }
    (tmp_path / ".pytest-finetune").mkdir()
    (tmp_path / ".pytest-finetune" / "jobs.jsonl").write_text(json.dumps(told) + "\n")
    done = command("jobs")
    assert (done.status, "all is well" in done.out) == (0, True)
    assert all(character.isprintable() or character == "\n" for character in done.out + done.err)
    assert "abc" not in done.out
    assert "\n  take it up with" not in done.out
