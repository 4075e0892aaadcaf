"""Judges samples with evalsig and statgate, in their own interpreter; started by `peers.py`.

Reads one line of JSON per question, ``{"peer": ..., "margin": ..., "differences": [...]}``, and writes one per
answer, ``[verdict, share of the rows used]``. Both packages are two-sided: alpha 0.1 gives each way the 5 % of the
others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

ALPHA = 0.1


class Peers:
    """Each method judges "the mean difference is at least -margin"."""

    def statgate(self, differences: list[float], margin: float) -> tuple[str, float]:
        """BCa bootstrap on all rows (fewer resamples than its default, for time; the permutations do not decide)."""
        statgate = import_module("statgate")
        settings = statgate.GateSettings(margin=margin, alpha=ALPHA, resamples=2000, permutations=100, seed=1)
        report = statgate.evaluate_gate(*self._records(differences), settings)
        return str(report.verdict), 1.0

    def statgate_sequential(self, differences: list[float], margin: float) -> tuple[str, float]:
        """Mixture SPRT, looked at after each 25 rows."""
        statgate, runner = import_module("statgate"), import_module("statgate.sequential_runner")
        settings = statgate.GateSettings(margin=margin, alpha=ALPHA)
        batches = statgate.SequentialSettings(max_cases=len(differences))
        outcome = runner.run_replay(*self._records(differences), settings, batches)
        return str(outcome.verdict), outcome.pairs_used / len(differences)

    def _records(self, differences: list[float]) -> tuple[list[Any], list[Any]]:
        record = import_module("statgate").EvalRecord
        baseline = [record(case_id=f"{i:05}", score=0.5 - d / 2) for i, d in enumerate(differences)]
        candidate = [record(case_id=f"{i:05}", score=0.5 + d / 2) for i, d in enumerate(differences)]
        return baseline, candidate

    def evalsig(self, differences: list[float], margin: float) -> tuple[str, float]:
        """Its comparison on all rows, one-sided at 5 %, of a candidate that is given the margin."""
        evalsig = import_module("evalsig")

        def run(name: str, scores: list[float]) -> Any:
            items = [evalsig.ItemResult(item_id=f"{i:05}", score=score) for i, score in enumerate(scores)]
            return evalsig.RunFrame(name, name, "task", "score", items)

        baseline = run("baseline", [0.5 - d / 2 for d in differences])
        candidate = run("candidate", [0.5 + d / 2 + margin for d in differences])
        found = evalsig.compare(baseline, candidate, alpha=ALPHA / 2, one_sided=True, n_resamples=2000, rng=1)
        return ("PASS" if found.significant else "INCONCLUSIVE"), 1.0

    def evalsig_sequential(self, differences: list[float], margin: float) -> tuple[str, float]:
        """Its confidence sequence, looked at after each row."""
        evalsig = import_module("evalsig")

        outcome = evalsig.sequential_gate([d + margin for d in differences], alpha=ALPHA)
        return ("PASS" if outcome.stopped else "INCONCLUSIVE"), outcome.n_pairs / len(differences)


NAMES = {"SHIP": "PASS", "BLOCK": "FAIL"}


def main() -> None:
    """Answer until the questions end."""
    peers = Peers()
    for line in sys.stdin:
        question = json.loads(line)
        judge: Callable[[list[float], float], tuple[str, float]] = getattr(peers, question["peer"])
        verdict, used = judge(question["differences"], question["margin"])
        print(json.dumps([NAMES.get(verdict, verdict), used]), flush=True)


if __name__ == "__main__":
    main()
