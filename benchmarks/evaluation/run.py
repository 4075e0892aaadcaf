"""The gate against DSPy's own evaluation and against a bare client, side by side, on one job.

    python benchmarks/evaluation/run.py [--rows 1000] [--rounds 3] [--only NAME] [--markdown]

Contenders take turns, and each figure is the median over the rounds of a ratio within a round. Every run must report
exactly the true scores, with exactly the requests that it takes; else nothing is reported. See README.md beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contenders import Job, pytest_command
from measuring import Cost, Server, measure

Pair = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        name: What was measured.
        ours: Our figure, with its unit.
        theirs: The peer's, and who it is.
        figures: What is held against the goal, one for each round.
        goal: At most this.
        unit: Of the figures and the goal; none for ratios.
    """

    name: str
    ours: str
    theirs: str
    figures: Sequence[float]
    goal: float
    unit: str = ""

    def cells(self, load: float) -> tuple[str, ...]:
        """As text, with the load of the machine when it was begun."""
        digits = 0 if self.unit else 3
        figure = statistics.median(self.figures)
        low, high = (f"{end:.{digits}f}" for end in (min(self.figures), max(self.figures)))
        spread = f" ({low} to {high})" if len(self.figures) > 1 else ""
        goal = f"{self.goal:.{0 if self.unit else 2}f}{self.unit}"
        met = "met" if figure <= self.goal else "MISSED"
        return self.name, self.ours, self.theirs, f"{figure:.{digits}f}{self.unit}{spread}", goal, met, f"{load:.1f}"


HEAD = ("what", "ours", "peer", "ours / peer (range)", "goal", "is", "load")
WIDTHS = (49, 10, 24, 22, 13, 6, 4)


def alternate(rounds: int, ours: Callable[[], Cost], theirs: Callable[[], Cost]) -> list[tuple[Cost, Cost]]:
    """Pairs of runs, one after the other; who begins alternates."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            pairs.append((ours(), theirs()))
    return pairs


def compared(name: str, peer: str, pairs: Sequence[Pair], goal: float, unit: str) -> Line:
    """A line of ratios."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Line(name, f"{ours:.2f} {unit}", f"{peer} {theirs:.2f} {unit}", [a / b for a, b in pairs], goal)


def walls(pairs: Sequence[tuple[Cost, Cost]]) -> list[Pair]:
    """The seconds of each pair."""
    return [(ours.wall, theirs.wall) for ours, theirs in pairs]


def bound_by_latency(job: Job, rounds: int) -> Iterator[Line]:
    """Long answers: what is there beside waiting?"""
    job = replace(job, latency=0.3)
    pairs = walls(alternate(rounds, job.ours, job.limit))
    yield compared("wall, answers after 300 ms", "limit", pairs, 1.08, "s")


def bound_by_processor(job: Job, rounds: int) -> Iterator[Line]:
    """Short answers: what does a call cost, and how much memory does it take?"""
    job = replace(job, latency=0.05)
    pairs = alternate(rounds, job.ours, job.dspy_evaluate)
    per_call = [(1000 * a.cpu / job.calls, 1000 * b.cpu / job.calls) for a, b in pairs]
    yield compared("CPU per call, 50 ms", "dspy.Evaluate", per_call, 0.75, "ms")
    yield compared("peak memory", "dspy.Evaluate", [(a.peak, b.peak) for a, b in pairs], 1.15, "MB")


def on_two_processors(job: Job, rounds: int) -> Iterator[Line]:
    """No waiting at all, and two workers that share the work."""
    pairs = walls(alternate(rounds, lambda: job.ours(workers=2), job.dspy_evaluate))
    yield compared("wall, 0 ms, two workers (-n 2)", "dspy.Evaluate", pairs, 0.55, "s")


def with_stragglers(job: Job, rounds: int) -> Iterator[Line]:
    """A few answers take ten times as long as the others."""
    job = replace(job, rows=min(job.rows, 400), latency=0.1, tail=0.02)
    pairs = walls(alternate(rounds, job.ours, job.limit))
    yield compared(f"wall, 100 ms, 2 % ten times slower, {job.rows} rows", "limit", pairs, 1.15, "s")


def second_run(job: Job, rounds: int) -> Iterator[Line]:
    """Nothing changed, so nothing is asked; importing DSPy is left out on both sides."""
    job, command = replace(job, latency=0.05), [sys.executable, "-c", "import dspy"]
    pairs = []
    for ours, theirs in alternate(rounds, job.ours_again, job.dspy_again):
        loading = statistics.median(measure(command, job.folder).wall for _ in range(3))
        pairs.append((ours.wall - loading, theirs.wall - loading))
    yield compared("second run, no request, less `import dspy`", "dspy, cache on", pairs, 0.10, "s")


def one_stage_changed(job: Job, rounds: int) -> Iterator[Line]:  # noqa: ARG001  # it is a count
    """Other instructions for one stage: its rows are asked anew, and no other."""
    job.ours()
    job.project(changed=True)
    job.gate(asks=job.rows)
    yield Line("requests with one stage of three changed", str(job.rows), "-", [job.rows], job.rows, " requests")


def with_the_store(job: Job, rounds: int) -> Iterator[Line]:
    """The first run pays for the second; here is how much."""
    job = replace(job, latency=0.05)
    job.project()
    pairs = [(job.evaluated(memory=False), job.evaluated(memory=True)) for _ in range(rounds)]
    for what in ("wall", "cpu"):
        figures = [(ours[what], theirs[what]) for ours, theirs in pairs]
        yield compared(f"{what} of a first run with the store, 50 ms", "a dict", figures, 1.10, "s")


def ten_times_the_rows(job: Job, rounds: int) -> Iterator[Line]:  # noqa: ARG001  # once is enough, and takes long
    """Memory must not follow the number of rows."""
    few, many = job.ours().peak, replace(job, rows=10 * job.rows).ours().peak
    fewer = f"{job.rows:,} rows {few:.0f} MB"
    yield Line(f"memory, {10 * job.rows:,} rows", f"{many:.0f} MB", fewer, [many - few], 50, " MB")


def unused(job: Job, rounds: int) -> Iterator[Line]:
    """The plugin is installed, and no test uses it."""
    folder = job.folder / "empty"
    folder.mkdir(exist_ok=True)
    (folder / "test_empty.py").touch()

    def collect(*plugins: str) -> Cost:
        command = pytest_command("--collect-only", "-q", "test_empty.py", plugins=plugins)
        return measure(command, folder, status=5)  # nothing was collected

    pairs = alternate(5 * rounds + 1, lambda: collect("finetune"), collect)[1:]  # the first pair compiles
    spent = [(ours.cpu, theirs.cpu) for ours, theirs in pairs]  # a wall of 0.2 s says more of the machine
    yield compared("CPU of --collect-only, installed and unused", "-p no:finetune", spent, 1.05, "s")


ROWS: dict[str, Callable[[Job, int], Iterator[Line]]] = {
    "latency": bound_by_latency,
    "cpu": bound_by_processor,
    "workers": on_two_processors,
    "stragglers": with_stragglers,
    "second": second_run,
    "changed": one_stage_changed,
    "store": with_the_store,
    "growth": ten_times_the_rows,
    "unused": unused,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="for each of the three stages")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=ROWS, action="append", help="may be given several times")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()

    def show(cells: Sequence[str]) -> None:
        if options.markdown:
            print(f"| {' | '.join(cells)} |", flush=True)
        else:
            print(
                "  ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True
            )

    show(HEAD)
    if options.markdown:
        show(["---"] * len(HEAD))
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        for name in options.only or ROWS:
            load = os.getloadavg()[0]
            for line in ROWS[name](Job(server, Path(folder), options.rows), options.rounds):
                show(line.cells(load))


if __name__ == "__main__":
    main()
