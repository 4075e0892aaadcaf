"""What a retrain's model suffers from, once its claims have been judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_finetune.core.diagnosis import Mean, Observed, diagnose
from pytest_finetune.core.results import Result, StageScore
from pytest_finetune.reports.diagnosis import diagnosis
from pytest_finetune.task import BASELINE, FINETUNED, PROMPT_OPTIMIZED


def after_the_gate(observed: Mapping[str, Observed], results: Sequence[Result]) -> Iterator[str]:
    """The findings of every task that was built, with what its claims have shown.

    Args:
        observed: What each build has seen, by task.
        results: The claims that were judged.
    """
    for name, seen in observed.items():
        findings = diagnose(_with(seen, [result for result in results if result.task == name]))
        if findings:
            yield f"{name}: what keeps the fine-tuned model back"
            yield from (f"  {line}" for line in diagnosis(findings))


def _with(seen: Observed, results: Sequence[Result]) -> Observed:
    scores = {(score.suite, score.stage): score for result in results for score in result.scores}
    now, before = scores.get((None, FINETUNED)), scores.get((None, PROMPT_OPTIMIZED))
    suites = {}
    for suite in {suite for suite, _ in scores if suite is not None}:
        replaced = scores.get((suite, PROMPT_OPTIMIZED)) or scores.get((suite, BASELINE))
        tuned = scores.get((suite, FINETUNED))
        if replaced and tuned:
            suites[suite] = (_mean(replaced), _mean(tuned))
    return replace(
        seen,
        test=_mean(now) if now else None,
        prompts_test=_mean(before) if before else None,
        unreadable=_unreadable(now) if now else seen.unreadable,
        prompts_unreadable=_unreadable(before) if before else None,
        suites=suites,
    )


def _mean(score: StageScore) -> Mean:
    return Mean(score.mean, score.n)


def _unreadable(score: StageScore) -> Mean:
    return Mean(score.format_errors / score.n if score.n else 0.0, score.n)
