"""Being installed must cost nothing: the plugin loads light, fast and silent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["dspy", "openai", "httpx", "pydantic", "sklearn", "numpy", "rich", "jinja2", "click", "sqlite3"]

PROBE = """
import json, sys, time
import pytest
before = set(sys.modules)
start = time.perf_counter()
import pytest_finetune.plugin, pytest_finetune.plugin.fixtures
spent = time.perf_counter() - start
new = sorted(set(sys.modules) - before)
print(json.dumps({"ms": spent * 1000, "new": new}))
"""


def probe() -> tuple[float, list[str]]:
    output = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    result = json.loads(output)
    return result["ms"], result["new"]


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    _, new = probe()
    assert [name for name in new if name.split(".")[0] in HEAVY] == []
    assert len(new) <= 20


def test_loading_the_plugin_takes_at_most_ten_milliseconds() -> None:
    assert min(probe()[0] for _ in range(5)) <= 10


def run_suite(folder: Path, *args: str) -> str:
    (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *args]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in output.splitlines() if " in " not in line and "plugins:" not in line)


def test_a_suite_that_does_not_use_the_plugin_prints_the_same(tmp_path: Path) -> None:
    assert run_suite(tmp_path) == run_suite(tmp_path, "-p", "no:finetune")


def test_fixtures_are_described(pytester: pytest.Pytester) -> None:
    output = pytester.runpytest_subprocess("--fixtures").stdout.str()
    assert "ft_sandbox [session scope]" in output
    assert "A local OpenAI-shaped server that learns from the files it is given" in output
