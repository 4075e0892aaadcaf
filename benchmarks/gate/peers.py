"""The gate against what others do, on the same data: false PASS, false FAIL and power.

    python -m venv peers && peers/bin/pip install evalsig==0.1.2 statgate==0.1.1  # Python 3.11 or newer
    python -m benchmarks.gate.peers --peers peers/bin/python [--reps N] [--markdown]

Run from the repository's root. Without ``--peers`` only the rules that need no package are compared. The claim is
"at least as good, give or take 5 points", at 5 % each way: at the margin (Δ = -0.05) each PASS and each FAIL is an
error.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import IO

from benchmarks.gate.error_rates import Draw, binary, fixed_binary, graded, rare, show, stopping_early

from pytest_finetune.core.stats import State, mcnemar_mid_p

MARGIN = 0.05
DATA: tuple[tuple[str, Draw, int], ...] = (
    ("binary", binary, 100),
    ("binary", binary, 500),
    ("graded", graded, 100),
    ("graded", graded, 500),
    ("rare catastrophe", rare, 100),
    ("rare catastrophe", rare, 500),
)
PEERS = {
    "evalsig": "evalsig 0.1.2, compare",
    "evalsig_sequential": "evalsig 0.1.2, sequential_gate",
    "statgate": "statgate 0.1.1, compare",
    "statgate_sequential": "statgate 0.1.1, sequential",
}
Judge = Callable[[Sequence[float]], tuple[str, float]]
_WORDS = {State.ABOVE: "PASS", State.BELOW: "FAIL", State.UNDECIDED: "INCONCLUSIVE"}


def observed(differences: Sequence[float]) -> tuple[str, float]:
    """The scores as they are: a >= b."""
    return ("PASS" if sum(differences) >= 0 else "FAIL"), 1.0


def observed_within(differences: Sequence[float]) -> tuple[str, float]:
    """The scores as they are, less the margin: a >= b - m."""
    return ("PASS" if fmean(differences) >= -MARGIN else "FAIL"), 1.0


def not_worse(differences: Sequence[float]) -> tuple[str, float]:
    """PASS unless McNemar's mid-p test says "worse" at 5 %."""
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return ("FAIL" if losses > wins and mcnemar_mid_p(wins, losses) <= 0.1 else "PASS"), 1.0


def tango(differences: Sequence[float]) -> tuple[str, float]:
    """Binary scores, all rows."""
    state, used = fixed_binary(differences, MARGIN)
    return _WORDS[state], used


def betting(differences: Sequence[float]) -> tuple[str, float]:
    """Any scores, row by row."""
    state, used = stopping_early(differences, MARGIN)
    return _WORDS[state], used


class Worker:
    """`peer_worker.py`, running in the peers' interpreter."""

    def __init__(self, python: str, stack: ExitStack) -> None:
        command = [python, str(Path(__file__).with_name("peer_worker.py"))]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._ask: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout

    def judge(self, peer: str) -> Judge:
        """Ask one peer."""

        def ask(differences: Sequence[float]) -> tuple[str, float]:
            print(
                json.dumps({"peer": peer, "margin": MARGIN, "differences": differences}), file=self._ask, flush=True
            )
            verdict, used = json.loads(self._answers.readline())
            return verdict, used

        return ask


def judges(name: str, worker: Worker | None) -> Iterator[tuple[str, Judge]]:
    """Everybody who can judge such data."""
    yield "a >= b", observed
    yield "a >= b - m", observed_within
    yield "McNemar: not significantly worse", not_worse
    if worker is not None:
        yield from ((title, worker.judge(peer)) for peer, title in PEERS.items())
    if name != "graded":
        yield "this package, Tango", tango
    yield "this package, betting", betting


def compared(reps: int, worker: Worker | None) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    yield ("data", "n", "method", "false PASS", "false FAIL", "PASS at 0", "rows used at 0")
    for name, draw, n in DATA:
        rng = random.Random(f"{name} {n}")
        bad, equal = ([draw(rng, n, delta) for _ in range(reps)] for delta in (-MARGIN, 0.0))
        for title, judge in judges(name, worker):
            wrong, right = [judge(sample) for sample in bad], [judge(sample) for sample in equal]
            rates = (
                sum(verdict == "PASS" for verdict, _ in wrong) / reps,
                sum(verdict == "FAIL" for verdict, _ in wrong) / reps,
                sum(verdict == "PASS" for verdict, _ in right) / reps,
            )
            used = fmean(share for _, share in right)
            yield (name, str(n), title, *(f"{rate:.1%}" for rate in rates), f"{used:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", metavar="PYTHON", help="the interpreter that evalsig and statgate are installed in"
    )
    parser.add_argument("--reps", type=int, default=200, help="test sets per cell")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    with ExitStack() as stack:
        worker = Worker(options.peers, stack) if options.peers else None
        show(compared(options.reps, worker), markdown=options.markdown)


if __name__ == "__main__":
    main()
