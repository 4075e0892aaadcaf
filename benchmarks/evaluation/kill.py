"""Kill a gate with SIGKILL at random points, run the same command again, and see whether anything was lost.

    python benchmarks/evaluation/kill.py [--times 50] [--seed 0]

Each round gates a project on a fresh store, with two workers. In half of the rounds the whole tree is killed, in the
others one of its three processes; mostly at a random point of the evaluation, sometimes at any time of the run. After
the second run every row must have been stored once, the scores must be the truth, and the database whole. What was in
flight may have been asked for twice, and no other row.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from contenders import STORE, Job, check, gate_command
from measuring import Server, Wrong, environment, measure

ROWS = 60
LATENCY = 0.02
IN_FLIGHT = 8
COMMAND = gate_command(2, "--ft-concurrency", str(IN_FLIGHT))
PATIENCE = 120.0  # seconds for a run of a few
_COUNTS = """
SELECT count(*), count(DISTINCT stage || ' ' || row_id), sum(state = 'scored'), (SELECT count(*) FROM score)
FROM prediction
"""


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    found = [root]
    for pid in found:
        with suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="utf-8").split())
    return found


def blow(random_: random.Random, job: Job, whole_run: float) -> Callable[[], bool]:
    """When to strike: a question that is asked again until the answer is yes."""
    if random_.random() < 0.2:
        moment = time.monotonic() + random_.uniform(0.0, whole_run)
        return lambda: time.monotonic() >= moment
    requests = random_.randint(1, job.calls)
    return lambda: job.server.stats()["requests"] >= requests


def struck(job: Job, random_: random.Random, whole_run: float) -> str:
    """Begin a gate and kill it, or a part of it; say what was done."""
    with tempfile.TemporaryFile() as output:
        project = job.folder / "project"
        seen = environment(project / "dspy")
        gate = subprocess.Popen(COMMAND, cwd=project, env=seen, stdout=output, stderr=output, start_new_session=True)
        due = blow(random_, job, whole_run)
        while not due() and gate.poll() is None:
            time.sleep(random_.uniform(0.0, 0.01))
        asked = job.server.stats()["requests"]
        victim = random_.choice(tree(gate.pid)) if random_.random() < 0.5 else None
        with suppress(ProcessLookupError):
            if victim is None:
                os.killpg(gate.pid, signal.SIGKILL)
            else:
                os.kill(victim, signal.SIGKILL)
        try:
            gate.wait(PATIENCE)  # without one of its workers it goes on
        except subprocess.TimeoutExpired:
            os.killpg(gate.pid, signal.SIGKILL)
            raise Wrong(f"a worker was killed, and the run has not ended after {PATIENCE} s") from None
    what = "everything" if victim is None else "the controller" if victim == gate.pid else "a worker"
    return f"{what} after {asked} requests"


def check_store(path: Path, rows: int) -> None:
    """Every row is there, once, with its score, in a database that is whole.

    Raises:
        Wrong: If not.
    """
    with closing(sqlite3.connect(path)) as connection:
        check("integrity", [("ok",)], connection.execute("PRAGMA integrity_check").fetchall())
        check("rows, different ones, answered, scored", (rows,) * 4, connection.execute(_COUNTS).fetchone())


def main() -> None:
    """Strike so many times; print what was asked twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    twice = []
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        job = Job(server, Path(folder), ROWS, LATENCY)
        project = job.project()
        whole_run = measure(COMMAND, project).wall
        for number in range(1, options.times + 1):
            shutil.rmtree(project / STORE.parent)
            server.reset(LATENCY)
            what = struck(job, random_, whole_run)
            job.check_scores(measure(COMMAND, project).output)
            check_store(project / STORE, job.calls)
            twice.append(server.stats()["requests"] - job.calls)
            print(f"{number:4}  {what}: {twice[-1]} asked twice", flush=True)
            if not 0 <= twice[-1] <= IN_FLIGHT:
                raise Wrong(f"{twice[-1]} rows were asked twice; {IN_FLIGHT} were in flight at most")
    print(f"{options.times} kills: no row lost, none stored twice, every score right, every database whole;")
    print(f"at most {max(twice)} of {job.calls} rows asked twice ({sum(twice) / len(twice):.1f} on average)")


if __name__ == "__main__":
    main()
