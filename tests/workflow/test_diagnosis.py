"""What is told of a model at the end of the retrain that built it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.reports.cases import RESULTS

from pytest_finetune.core.diagnosis import Mean, Observed
from pytest_finetune.core.results import Result, StageScore
from pytest_finetune.workflow.diagnosis import after_the_gate


def stage(name: str, mean: float, suite: str | None = None, **more: Any) -> StageScore:
    settings: dict[str, Any] = {"n": 200, "format_errors": 0, "errors": 0, "reused": 0, "lower": 0.0, "upper": 1.0}
    return StageScore(name, suite, "m", mean, **{**settings, **more})


def told(*scores: StageScore, seen: Observed | None = None) -> list[str]:
    result: Result = replace(next(iter(RESULTS.values())), task="colours", scores=scores)
    other = replace(result, task="another", scores=(stage("finetuned", 0.0), stage("prompt_optimized", 1.0)))
    return list(after_the_gate({"colours": seen or Observed("labels")}, [result, other]))


def test_test_rows_and_suites_join_what_the_build_has_seen() -> None:
    scores = [
        stage("finetuned", 0.8, format_errors=20),
        stage("prompt_optimized", 0.85),
        stage("finetuned", 0.6, "guard"),
        stage("prompt_optimized", 0.9, "guard"),
    ]
    lines = told(*scores, seen=Observed("labels", train=Mean(1.0, 200)))
    assert lines[0] == "colours: what keeps the fine-tuned model back"
    assert [line for line in lines[1:] if not line.startswith("    try: ")] == [
        "  unstable format: 10.0% of 200 answers could not be parsed, 0.0% of the prompt-optimized program's",
        "  overfitting: 1.000 on rows it was trained on, 0.800 on others",
        "  no gain over prompts: 0.800, the prompt-optimized program 0.850",
        "  forgetting on guard: 0.900 before, 0.600 now, n=200",
    ]


def test_of_a_model_that_is_well_nothing_is_told() -> None:
    assert told(stage("finetuned", 0.9), stage("prompt_optimized", 0.8)) == []


def test_a_retrain_tells_it_after_the_build_and_at_its_end(built_folder: Path) -> None:
    said = (built_folder / "build.txt").read_text(encoding="utf-8")
    after_build, _, at_the_end = said.partition("= fine-tuned models =")
    assert "tickets: overfitting: " in after_build
    assert "tickets: what keeps the fine-tuned model back\n  overfitting: " in at_the_end
    assert at_the_end.index("certified") < at_the_end.index("what keeps") < at_the_end.index("tickets: locked in")
