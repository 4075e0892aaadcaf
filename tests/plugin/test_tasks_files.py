"""Tasks files: where they are found, and what is said of one that cannot be used."""

from __future__ import annotations

import pytest
from tests.conftest import TASKS, Project


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "<project>/finetune_tasks.py:1: SyntaxError: invalid syntax"),
        ("\nimport dsppy\n", "<project>/finetune_tasks.py:2: ModuleNotFoundError: No module named 'dsppy'"),
        ("\n\n1 / 0\n", "<project>/finetune_tasks.py:3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)\n", "<project>/finetune_tasks.py:2: SystemExit: 0"),
        (f"{TASKS}\nbroken = task(adapter='yaml')\n", ": Task: adapter 'yaml' is not one of chat, json, xml"),
        (
            f"{TASKS}\nother = task(name='tickets')\n",
            "two tasks are called 'tickets', in <project>/finetune_tasks.py",
        ),
        (None, "there is no tasks file: finetune_tasks.py not found in <project>"),
    ],
)
def test_one_that_cannot_be_used_is_one_error_before_anything_runs(
    built: Project, text: str | None, message: str
) -> None:
    if text is None:
        (built.path / "finetune_tasks.py").unlink()
    else:
        built.write("finetune_tasks.py", text)
    result = built.gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = built.said(result)
    assert said.count(message) == 1
    assert "Traceback" not in said


def test_it_is_one_error_for_all_workers_too(built: Project) -> None:
    built.write("finetune_tasks.py", "1 / 0\n")
    result = built.gate("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert built.said(result).count("ZeroDivisionError") == 1


def test_a_test_that_imports_it_gets_the_same_object(built: Project) -> None:
    built.write("finetune_tasks.py", f"{TASKS}\nonce = []\n")
    built.write(
        "deep/below/test_import.py",
        "import finetune_tasks\nimport pytest\n"
        "@pytest.mark.ft_claim('tickets', 'finetuned >= baseline')\n"
        "def test_it(ft_task): assert ft_task is finetune_tasks.tickets\n",
    )
    built.gate("--import-mode=importlib").assert_outcomes(passed=4)


def test_it_may_be_elsewhere_and_there_may_be_several(built: Project) -> None:
    built.write("pytest.ini", "[pytest]\nft_tasks = tuning/*_tasks.py\nft_models = models.lock\n")
    built.move("tuning", "finetune_tasks.py", "tickets.jsonl")
    built.write("tuning/more_tasks.py", "from finetune_tasks import task\n\nreplies = task()\n")
    built.edit("test_models.py", '"tickets"', '"tuning/tickets"')
    built.write(
        "test_all.py", "def test_it(ft_tasks): assert list(ft_tasks) == ['tuning/tickets', 'tuning/replies']\n"
    )
    built.run().assert_outcomes(passed=4)
