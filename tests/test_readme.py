"""The README is run: its main command prints what it shows, so it cannot drift."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.test_example_project import copy_of_project, run_pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_THE_MACHINE = ("platform ", "rootdir: ", "plugins: ", "Using --randomly-seed")


def block(name: str) -> list[str]:
    """The lines of the fenced block after a marker such as ``<!-- main -->``."""
    found = re.search(rf"<!-- {name} -->\s*```\w*\n(.*?)```\s*<!-- end -->", README, re.DOTALL)
    assert found, f"README.md has no block <!-- {name} -->"
    return found[1].splitlines()


def normalised(lines: list[str]) -> list[str]:
    """Without times, versions and places."""
    kept = (line for line in lines if line.strip() and not line.startswith(OF_THE_MACHINE))
    shown = (re.sub(r"in \d+\.\d+s(?: \(\d+:\d\d:\d\d\))?", "in <time>", line) for line in kept)
    return [re.sub(r"\S*/(?=example_project/)", "", re.sub("={2,}", "==", line)).strip() for line in shown]


def test_the_main_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    install, command = block("main")
    assert install == "python -m pip install -e '.[sandbox]'"
    program, *args = shlex.split(command)
    assert [program, *args[:2]] == ["python", "-m", "pytest"]
    copy_of_project(tmp_path)
    done = run_pytest(tmp_path, *args[2:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert normalised(done.stdout.splitlines()) == normalised(block("output"))


def test_the_test_commands_are_those_of_this_project() -> None:
    assert block("tests") == ["python -m pip install -e '.[dev]'", "python -m pytest -n 2"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"sandbox", "dev"} <= set(project["project"]["optional-dependencies"])
    assert project["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]


def test_what_it_links_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []
