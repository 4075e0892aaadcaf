"""From rows to the evidence of a claim, and what no verdict may rest on."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pytest_finetune.core.claims import Claim, Reading
from pytest_finetune.core.records import Evidence, Measure, Pair, Row
from pytest_finetune.errors import EvidenceError

_DATED = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8})$")  # gpt-x-2026-05-01, claude-x-20260501, gemini-x@20260501
MAX_MISSING = 0.02  # a larger share of missing pairs, and there is no verdict
MIN_ROWS = 10  # fewer, and no figure means anything


def pair_rows(
    claim: Claim,
    left: Iterable[Row],
    right: Iterable[Row] = (),
    *,
    row_ids: Sequence[str],
    groups: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
    same_model: bool = False,
    same_program: bool = False,
) -> Evidence:
    """Pair the rows of a claim's two sides.

    Args:
        claim: What is to be judged.
        left: Rows of the left side's stage, in any order.
        right: Rows of the right side's stage (for ``locked``: the rows last accepted); none against a number.
        row_ids: Every row of the dataset, in salted hash order.
        groups: Row id -> cluster, where the dataset has a group field.
        parts: Row id -> slice, in a claim that is sliced.
        same_model: Both sides are served by the same model.
        same_program: Both sides run the same program state.

    Returns:
        The evidence. Repeats are averaged; a row of which any repeat lacks a value counts as missing.
    """
    mine, theirs = _by_row(left), _by_row(right)
    pairs, missing = list[Pair](), list[str]()
    for row_id in row_ids:
        a = _mean_value(mine.get(row_id, ()), claim.measure)
        bar = claim.right
        b = _mean_value(theirs.get(row_id, ()), claim.measure) if isinstance(bar, Reading) else bar
        if a is None or b is None:
            missing.append(row_id)
        else:
            pairs.append(Pair(row_id, a, b, (groups or {}).get(row_id), (parts or {}).get(row_id)))
    return Evidence(
        pairs=tuple(pairs),
        missing=tuple(missing),
        same_model=same_model,
        same_program=same_program,
        same_outputs=_same_outputs([(mine[pair.row_id], theirs.get(pair.row_id, ())) for pair in pairs]),
    )


def _by_row(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.row_id].append(row)
    return found


def _mean_value(repeats: Sequence[Row], measure: Measure) -> float | None:
    values = [value for row in repeats if (value := row.value(measure)) is not None]
    return fmean(values) if values and len(values) == len(repeats) else None


def _same_outputs(sides: Sequence[tuple[Iterable[Row], Iterable[Row]]]) -> bool:
    """Whether both gave the same answers to all rows, repeat by repeat.

    A row without an output on both sides, as a refused one, says nothing; half of the rows must say something.
    """
    outputs = [
        tuple([row.output for row in sorted(side, key=lambda row: row.repeat)] for side in both) for both in sides
    ]
    told = [(a, b) for a, b in outputs if any(output is not None for output in (*a, *b))]
    return 2 * len(told) > len(sides) and all(a == b for a, b in told)


def names_model(served: str, model: str) -> bool:
    """Whether what a server calls a model is that model, or a dated snapshot of it."""
    return served == model or _DATED.sub("", served) == model


def is_of_family(served: str, model: str) -> bool:
    """Whether what a server calls a model is that model, whichever its snapshot, and in whose folder it is."""
    one, other = (_DATED.sub("", name.rpartition("/")[2].lower()) for name in (served, model))
    return one == other


def check_evidence(claim: Claim, evidence: Evidence) -> None:
    """Refuse evidence that no verdict may rest on.

    Raises:
        EvidenceError: Fewer than `MIN_ROWS` rows; more than `MAX_MISSING` of the pairs missing; a value that is not
            finite, or a score outside [0, 1]; or different models with identical outputs on every row (unless
            ``locked``).
    """
    if evidence.n_expected < MIN_ROWS:
        raise EvidenceError(
            f"'{claim}': rows to judge it on: {evidence.n_expected}, where a verdict needs {MIN_ROWS}. Give the "
            "dataset a larger test split."
        )
    if evidence.n_missing > MAX_MISSING * evidence.n_expected:
        raise EvidenceError(_missing_message(claim, evidence))
    top = 1.0 if claim.measure.bounded else math.inf
    for pair in evidence.pairs:
        for value in (pair.left, pair.right):
            if not (math.isfinite(value) and 0 <= value <= top):
                raise EvidenceError(
                    f"'{claim}': row {pair.row_id} has the {claim.measure} {value!r}; it must be a finite "
                    f"number {'in [0, 1]: mend the metric' if claim.measure.bounded else 'of at least 0'}."
                )
    if evidence.same_outputs and not evidence.same_model and not claim.uses_locked:
        raise EvidenceError(
            f"'{claim}': two different models gave identical outputs on all {len(evidence.pairs)} rows: one "
            "of them was probably never called. Check the model ids of both stages, and the endpoint's cache."
        )


def remarks(claim: Claim, evidence: Evidence) -> tuple[str, ...]:
    """What a reader must know of evidence that `check_evidence` lets through, in sentences."""
    found = []
    if evidence.same_outputs and evidence.same_model and not evidence.same_program and not claim.uses_locked:
        found.append(
            "Both sides gave identical outputs on every row, although their programs differ: the model seems to"
            " pay no heed to what the optimizer changed."
        )
    if evidence.missing:
        found.append(f"{len(evidence.missing)} of {evidence.n_expected} rows lack a value and were left out.")
    return tuple(found)


def _missing_message(claim: Claim, evidence: Evidence) -> str:
    where = "both sides" if isinstance(claim.right, Reading) else "the left side"
    advice = f"The endpoint did not report {claim.measure}, or its price is unknown."
    if claim.measure.bounded:
        advice = "A provider's error is never a score: run again, which asks only for the missing rows."
    return (
        f"'{claim}': {evidence.n_missing} of {evidence.n_expected} rows have no {claim.measure} on {where} (first: "
        f"{', '.join(evidence.missing[:3])}); a verdict allows {MAX_MISSING:.0%}. {advice}"
    )


def check_metric(rows: Iterable[Row]) -> None:
    """Refuse a metric that gives one and the same score to every row of every stage.

    Args:
        rows: All rows of all stages of one task. One stage alone may be perfect: nothing follows from it.

    Raises:
        EvidenceError: The metric is constant over two or more stages.
    """
    scores, stages = set[float](), set[str]()
    for row in rows:
        if (score := row.value(Measure.SCORE)) is not None:
            scores.add(score)
            stages.add(row.stage)
    if len(scores) == 1 and len(stages) > 1:
        raise EvidenceError(
            f"the metric gave {scores.pop():g} to every row of {', '.join(sorted(stages))}: it cannot tell "
            "them apart, so that no comparison means anything. Check the metric, or take a harder test split."
        )
