"""Several processes, and dead ones: each row is asked for once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.evaluate.colours import METRIC, rows, stage

from pytest_finetune.evaluate import evaluate
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.store import Store

ROOT = Path(__file__).parents[2]


def start(sandbox: Sandbox, path: Path, count: int, concurrency: int, files: int = 1024) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.evaluate.colours", sandbox.base_url, str(path)]
    command += [str(count), str(concurrency), str(files)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)


def asked(sandbox: Sandbox) -> int:
    return int(sandbox.request_counts()["total"])


def wait_for(sandbox: Sandbox, requests: int) -> None:
    end = time.monotonic() + 30
    while asked(sandbox) < requests:
        assert time.monotonic() < end
        time.sleep(0.02)


def scores(process: subprocess.Popen[bytes]) -> dict[str, float]:
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints.decode()
    found: dict[str, float] = json.loads(out)
    return found


def test_two_processes_share_one_evaluation(sandbox: Sandbox, path: Path) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SLOW, seconds=0.05))
    both = [start(sandbox, path, 200, 8) for _ in range(2)]
    one, other = map(scores, both)
    assert one == other
    assert asked(sandbox) == len(one) == 200


def test_a_killed_run_goes_on_where_it_was(sandbox: Sandbox, path: Path) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SLOW, seconds=0.1))
    killed = start(sandbox, path, 100, 8)
    wait_for(sandbox, 40)
    killed.kill()
    killed.communicate()
    sandbox.set_faults()
    with Store.create(path) as store:
        found = evaluate([stage("baseline", sandbox.base_url)], rows(100), METRIC, store, timeout=30)["baseline"]
    assert len({row.row_id for row in found if row.score is not None}) == 100
    assert 100 <= asked(sandbox) <= 100 + 8


def test_ctrl_c_ends_what_hangs_and_keeps_what_is_done(sandbox: Sandbox, path: Path) -> None:
    hang = Fault(kind=FaultKind.HANG, rate=0.2, seconds=60)
    sandbox.set_faults(hang)
    interrupted = start(sandbox, path, 100, 8)
    wait_for(sandbox, 10)
    time.sleep(0.3)
    begin = time.monotonic()
    interrupted.send_signal(signal.SIGINT)
    _, complaints = interrupted.communicate(timeout=30)
    assert time.monotonic() - begin < hang.seconds / 3
    assert b"KeyboardInterrupt" in complaints
    sandbox.set_faults()
    done = asked(sandbox)
    with Store.create(path) as store:
        evaluate([stage("baseline", sandbox.base_url)], rows(100), METRIC, store, timeout=30)
    assert done >= 10
    assert asked(sandbox) == 100


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_few_open_files_are_enough(sandbox: Sandbox, path: Path) -> None:
    assert len(scores(start(sandbox, path, 200, 32, files=256))) == 200
    assert asked(sandbox) == 200
