"""Children, timed from outside, and the server that they ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
_NOT_THEIRS = (
    "OPENAI_",
    "PYTEST_",
    "DSPY_",
    "PYTHONDONTWRITEBYTECODE",
)  # what a developer's shell may hold, and would change a run
_THEIRS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class Wrong(SystemExit):
    """A contender gave a wrong score, or asked too much or too little: no figure of it is worth anything."""


@dataclass(frozen=True)
class Cost:
    """What a process took.

    Attributes:
        wall: Seconds.
        cpu: Seconds of processors, user and system, of the process and of all that it waited for.
        peak: The most memory that one of its processes held, in MB.
        output: What it printed.
    """

    wall: float
    cpu: float
    peak: float
    output: str


def script(name: str, *arguments: object) -> list[str]:
    """The command of a script of this folder."""
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def environment(cache: Path) -> dict[str, str]:
    """What children see; DSPy's disk cache, used or not, is in ``cache``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_THEIRS) and not name.lower().endswith("_proxy")
    }
    return {**kept, **_THEIRS, "DSPY_CACHEDIR": str(cache)}


def measure(command: Sequence[str], folder: Path, *, status: int = 0) -> Cost:
    """Run a command in a folder, which also has DSPy's cache; it must end with this exit status.

    This process must stay small: what it holds when it starts a child counts as the child's peak.

    Raises:
        Wrong: If it does not.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=folder, env=environment(folder / "dspy"), stdout=output, stderr=subprocess.STDOUT
        )
        _, ended, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(ended)
        output.seek(0)
        text = output.read()
    if child.returncode != status:
        raise Wrong(f"{' '.join(command)} ended with {child.returncode}:\n{text[-3000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)


class Server:
    """The latency server, in a process of its own."""

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(script("latency_server.py"), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101  # a pipe was asked for
        self._address = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self._address}/v1"

    def reset(self, latency: float = 0.0, tail: float = 0.0) -> None:
        """Count from nought, and answer after so many seconds."""
        self._ask("/reset", {"latency": latency, "tail": tail})

    def stats(self) -> Mapping[str, int]:
        """What was counted."""
        counted: dict[str, int] = self._ask("/stats", None)
        return counted

    def _ask(self, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self._address + path, data=data, timeout=10) as answer:  # noqa: S310  # our own server
            return json.load(answer)
