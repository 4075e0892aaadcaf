"""Pairs of answers to one prompt, of which the metric prefers one: what preference training (DPO) learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_finetune.programs import predictors
from pytest_finetune.training.bootstrap import calls_of
from pytest_finetune.training.rows import Call, training_row
from pytest_finetune.training.runs import Run

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.metrics import Metric

Pair = tuple[Call, Call]
"""What one predictor did in the better run, and what it did with the same inputs in the worse one."""


@dataclass(frozen=True)
class Compared:
    """One row, asked of two programs.

    Attributes:
        pairs: The calls that differ, of predictors that were given the same; empty where there is nothing to prefer.
        score: Of the better answer, higher better.
    """

    pairs: tuple[Pair, ...] = ()
    score: float = 0.0


def compare(
    ours: Sequence[Run], theirs: Sequence[Run], programs: tuple[dspy.Module, dspy.Module], metric: Metric
) -> list[Compared]:
    """Hold the answers of two programs against each other, row by row.

    A row counts where both programs answered, and the metric tells their answers apart. Of its calls those are taken
    that both made with the same inputs: a pair has one prompt, and what came before must not differ.

    Args:
        ours: Runs of the first program.
        theirs: Runs of the second one, of the same rows.
        programs: Both.
        metric: Its score decides, higher better; what it accepts does not matter.
    """
    names = [{id(predictor): name for name, predictor in predictors(program).items()} for program in programs]
    found = []
    for one, other in zip(ours, theirs, strict=True):
        scored = [(run.score(metric), calls_of(run, known)) for run, known in zip((one, other), names, strict=True)]
        (worse, bad), (better, good) = sorted(scored, key=lambda part: part[0])
        answered = one.prediction is not None and other.prediction is not None
        found.append(Compared(_pairs(good, bad), better) if answered and better > worse else Compared())
    return found


def _pairs(good: Sequence[Call], bad: Sequence[Call]) -> tuple[Pair, ...]:
    pairs = []
    for call in good:
        name, inputs, outputs = call
        twin = next((other for other in bad if (other[0], other[1]) == (name, inputs)), None)
        if twin is not None and twin[2] != outputs:
            pairs.append((call, twin))
    return tuple(pairs)


def preference_row(adapter: dspy.Adapter, signature: Any, pair: Pair) -> Mapping[str, Any]:
    """Write a pair as a row of a training file, in the form of OpenAI's guide "Direct preference optimization".

    Args:
        adapter: See `check_adapter`.
        signature: The predictor's, as it will be served.
        pair: Its better and its worse call.
    """
    good, bad = (training_row(adapter, signature, inputs, outputs)["messages"] for _, inputs, outputs in pair)
    return {
        "input": {"messages": good[:-1]},
        "preferred_output": good[-1:],
        "non_preferred_output": bad[-1:],
    }
