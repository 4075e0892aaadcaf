from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pytest_finetune.cli import ExitStatus, run


def test_serve_listens_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_finetune", "serve", "--port", "0", "--state", str(tmp_path)]
    server = subprocess.Popen([*command, "--alias", "house=large"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[4]
        with urllib.request.urlopen(f"{address}/models") as answer:  # noqa: S310  # our own server
            names = {model["id"] for model in json.load(answer)["data"]}
        assert names == {"sandbox-small", "sandbox-large", "gpt-4o", "gpt-4o-mini", "house"}
        assert (tmp_path / "sandbox.sqlite").exists()
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached by other machines"),  # noqa: S104  # which is refused
        (["--alias", "house=huge"], "write NAME=small or NAME=large"),
        (["--port", "none"], "'none' is not a valid integer"),
    ],
)
def test_a_wrong_option_is_one_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", *arguments]) == ExitStatus.USAGE
    assert words in capsys.readouterr().err


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitStatus.HELD
    output = capsys.readouterr().out
    assert "serve" in output
    assert "train" in output


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == ExitStatus.USAGE
    assert "No such command 'trian'" in capsys.readouterr().err
