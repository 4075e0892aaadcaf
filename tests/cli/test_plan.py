"""``pytest-finetune plan``: what it says, and that it asks nothing."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.conftest import ALONE, Project, make_rows, write_sources
from tests.test_example_project import copy_of_project

from pytest_finetune.cli import ExitStatus

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
ALONE_IN_THE_WORLD = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.exec"):
        raise RuntimeError(f"{event}: a plan reaches for nothing")

sys.addaudithook(refuse)
from pytest_finetune.cli import run
raise SystemExit(run(["plan", *sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("finetune_tasks", None)  # the next project's file has the same name


@pytest.fixture
def unbuilt(command: Command, tmp_path: Path) -> Command:
    """The command line in a project of which nothing is built."""
    write_sources(tmp_path)
    return command


def table(out: str, heading: str) -> dict[str, list[str]]:
    """The lines of a table by their first cell."""
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith(heading))
    rows = [re.split(r"  +", line.strip()) for line in lines[start : lines.index("", start)]]
    return {row[0]: row[1:] for row in rows}


def without_figures(text: str) -> str:
    """The words: figures, and with them columns and lines, change whenever the models are built anew."""
    return " ".join(re.sub(r"[\d,.]*\d", "#", text).split())


def test_before_the_first_build_it_says_what_the_rows_can_do(unbuilt: Command, tmp_path: Path) -> None:
    done = unbuilt("plan")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out.startswith("tickets: stages on sandbox, as they would be built\n")
    stages = table(done.out, "stage")
    assert list(stages) == ["stage", "baseline", "prompt_optimized", "finetuned", "teacher"]
    assert stages["baseline"][:4] == ["320", "0", "320", "320"]
    assert {line[-1] for name, line in stages.items() if name != "stage"} == {"estimate"}
    assert table(done.out, "320 rows") == {
        "320 rows": ["differ", "certify", "rows for 0.01", "rows for 0.02", "rows for 0.05"],
        "if some rows differ": ["35 %", "0.083", "21,639", "5,410", "866"],
        "if no row differs": ["0 %", "0.010", "299", "149", "59"],
    }
    said = " ".join(done.out.split())
    assert "320 rows can certify a margin of 0.063; 0.02 takes about 3,100." in said
    assert "differ on 20 % of the rows (a guess), with power 0.8 at alpha 0.05." in said
    assert "A gated run takes 1,280 calls, about" in said
    assert "What a retrain's job costs is unknown" in said
    assert not (tmp_path / ".pytest-finetune").exists()


def test_a_margin_and_stopping_early_can_be_asked_about(unbuilt: Command) -> None:
    out = unbuilt("plan", "tickets", "--margin", "0.1", "--alpha", "0.1", "--stop-early").out
    stages = table(out, "stage")
    assert stages["stage"][3] == "share"
    assert int(stages["baseline"][3].removesuffix(" %")) < 80
    assert int(stages["baseline"][4]) < 320
    assert re.search(r"320 rows can certify a margin of 0\.\d+; 0\.1 takes about [\d,]+\.", out)
    assert "at alpha 0.1." in " ".join(out.split())


def test_on_a_built_project_it_says_what_was_measured(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built.path)
    out = command("plan").out
    assert out.startswith("tickets: stages on sandbox, as models.lock pins them\n")
    stages = table(out, "stage")
    assert stages["finetuned"] == ["320", "320", "0", "0", "0", "$0.0000", "320 rows"]
    assert stages["teacher"][-1] == "320 rows (in no claim)"
    assert set(table(out, "320 rows")) == {
        "320 rows",
        "prompt_optimized and baseline",
        "finetuned and prompt_optimized",
        "if no row differs",
    }
    said = " ".join(out.split())
    assert "of the rows, as finetuned and prompt_optimized did, with power 0.8" in said
    assert re.search(r"A retrain's job trains on about [\d,]+ tokens \(as the last one did\) for \$0\.\d+;", said)
    shutil.rmtree(built.path / ".pytest-finetune")
    assert "; with the stages that no claim looked at when they were locked, 1,280 calls" in " ".join(
        command("plan", "--lock", "models.lock").out.split()
    )


def test_a_fresh_clone_is_planned_without_network_process_or_key(tmp_path: Path) -> None:
    clone = copy_of_project(tmp_path)
    environment = {**ALONE, "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", ALONE_IN_THE_WORLD],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitStatus.HELD, "")
    assert "A gated run of all tasks takes" in done.stdout
    for task in ("tickets", "distilled"):
        stages = table(done.stdout[done.stdout.index(f"{task}: ") :], "stage")
        answers, stored, asked, calls, *_, source = stages["finetuned"]
        assert (stored, asked, calls, source) == ("0", answers, answers, f"{answers} rows")
    assert not (clone / ".pytest-finetune").exists()


def test_what_is_unknown_is_said_to_be_and_never_free(unbuilt: Command, tmp_path: Path) -> None:
    tasks = (tmp_path / "finetune_tasks.py").read_text()
    (tmp_path / "finetune_tasks.py").write_text(tasks.replace('student="sandbox-small"', 'student="mystery"'))
    out = unbuilt("plan").out
    assert [line[5] for line in list(table(out, "stage").values())[1:4]] == ["unknown"] * 3
    said = " ".join(out.split())
    assert "tokens, at a cost that is unknown." in said
    assert "The price of 'mystery' is unknown: add [tool.pytest-finetune.prices.'mystery'] with prompt" in said
    assert "$0.0000" not in out


def test_a_model_that_judges_is_said_to_come_on_top(unbuilt: Command, tmp_path: Path) -> None:
    tasks = (tmp_path / "finetune_tasks.py").read_text()
    tasks = tasks.replace('metrics.exact_match("department")', 'metrics.judged(right, model="big")')
    judge = "def right(gold, said, trace=None): ...\n\n\ndef task("
    (tmp_path / "finetune_tasks.py").write_text(tasks.replace("def task(", judge))
    assert "Scoring asks 'big' too, which is not planned." in unbuilt("plan").out


def test_rows_that_are_too_few_are_said_to_be(unbuilt: Command, tmp_path: Path) -> None:
    rows = make_rows(2, train=20, dev=5, test=8)
    (tmp_path / "tickets.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = unbuilt("plan").out
    assert "8 rows are too few to certify any margin; 0.02 takes about 3,100." in out
    assert table(out, "8 rows")["if no row differs"][1] == "-"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["tikets"], ExitStatus.USAGE, "there is no task 'tikets'"),
        (["--margin", "0"], ExitStatus.USAGE, "Invalid value for '--margin'"),
        (["--alpha", "0.6"], ExitStatus.USAGE, "setting 'alpha' (from option): Input should be less than 0.5"),
        (["--lock", "gone.lock"], ExitStatus.NOT_EVALUATED, "plan the first build without --lock"),
    ],
)
def test_what_cannot_be_planned_is_one_message(
    unbuilt: Command, arguments: list[str], status: ExitStatus, words: str
) -> None:
    done = unbuilt("plan", *arguments)
    assert (done.status, done.out) == (status, "")
    assert words in done.err


def test_a_task_without_an_endpoint_is_a_usage_error(unbuilt: Command, tmp_path: Path) -> None:
    tasks = (tmp_path / "finetune_tasks.py").read_text()
    (tmp_path / "finetune_tasks.py").write_text(tasks.replace('endpoint="sandbox",', ""))
    done = unbuilt("plan")
    assert done.status == ExitStatus.USAGE
    assert "task 'tickets' has no endpoint" in done.err


def test_a_lock_that_does_not_fit_is_said(built: Project, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.path)
    built.edit("finetune_tasks.py", 'exact_match("department")', 'token_f1("department")')
    done = command("plan")
    assert done.status == ExitStatus.HELD
    assert "The lock cannot be gated as it is: tickets/baseline" in " ".join(done.out.split())


def test_the_page_shows_what_the_example_project_s_plan_says(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^pytest-finetune plan.*", text, re.MULTILINE)
    ]
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(copy_of_project(tmp_path))
    outputs = [command(*words[1:]) for words in commands]
    assert {done.status for done in outputs} == {ExitStatus.HELD}
    assert without_figures(outputs[0].out) == without_figures(shown)
