from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.diagnosis import Finding, Fix, Kind, Mean, Observed, Step, diagnose
from pytest_finetune.reports.diagnosis import diagnosis

WELL = Observed(
    recipe="bootstrap",
    train=Mean(0.95, 200),
    dev=Mean(0.92, 200),
    test=Mean(0.91, 300),
    prompts_dev=Mean(0.85, 200),
    prompts_test=Mean(0.84, 300),
    unreadable=Mean(0.0, 300),
    kept=(400, 500),
    losses=[Step(step, 1 / step, 1.2 / step + 0.1) for step in range(1, 101)],
    epochs=3,
)
RISING = [Step(step, 1 / step, abs(step - 40) / 40 + 0.2) for step in range(1, 101)]
FALLING = [Step(step, 101 - step, None) for step in range(1, 101)]


def found(**changes: Any) -> list[Finding]:
    return list(diagnose(replace(WELL, **changes)))


def the_one(**changes: Any) -> Finding:
    (finding,) = found(**changes)
    return finding


def test_nothing_is_wrong_with_a_model_that_is_well_or_of_which_nothing_is_known() -> None:
    assert found() == []
    assert diagnose(Observed("labels")) == ()


@pytest.mark.parametrize(
    ("recipe", "kept", "fixes"),
    [
        ("bootstrap", (40, 500), (Fix.STRONG_TEACHER, Fix.LENIENT_METRIC, Fix.GOLD_LABELS, Fix.MORE_ROWS)),
        ("distill", (40, 500), (Fix.LENIENT_METRIC, Fix.GOLD_LABELS, Fix.MORE_ROWS)),
        ("bootstrap", (90, 100), (Fix.MORE_ROWS, Fix.STRONG_TEACHER, Fix.LENIENT_METRIC)),
    ],
)
def test_few_traces_are_told_with_what_lost_them(recipe: str, kept: tuple[int, int], fixes: tuple[Fix, ...]) -> None:
    finding = the_one(recipe=recipe, kept=kept)
    assert finding == Finding(Kind.TOO_FEW_TRACES, {"kept": kept[0], "asked": kept[1]}, fixes)


def test_enough_traces_are_enough() -> None:
    assert found(kept=(200, 1000)) == []


def test_a_model_that_knows_its_rows_and_no_others_is_overfitted() -> None:
    finding = the_one(train=Mean(1.0, 200), test=Mean(0.88, 300))
    assert finding.kind is Kind.OVERFITTING
    assert finding.evidence == {"train": 1.0, "held_out": 0.88, "epochs": 3}
    assert finding.fixes == (Fix.MORE_ROWS, Fix.BEST_CHECKPOINT, Fix.FEWER_EPOCHS, Fix.LOWER_RATE)
    assert the_one(train=Mean(1.0, 200), test=None, dev=Mean(0.88, 200)).evidence["held_out"] == 0.88
    assert the_one(train=Mean(1.0, 200), test=Mean(0.88, 300), epochs=1).fixes == (Fix.MORE_ROWS, Fix.LOWER_RATE)
    assert found(train=Mean(1.0, 20), test=Mean(0.88, 30)) == []  # so few rows show nothing


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    finding = the_one(losses=RISING)
    assert finding.kind is Kind.OVERFITTING
    assert finding.evidence["best_step"] == 40
    assert finding.evidence["last_loss"] > 2 * finding.evidence["best_loss"]
    assert found(losses=[replace(step, train=step.step) for step in RISING]) == []  # it has learnt nothing at all
    assert found(losses=RISING[:9]) == []  # too short to tell


@pytest.mark.parametrize(
    ("losses", "first"), [(FALLING, Fix.MORE_EPOCHS), (WELL.losses[90:], Fix.CHECK_LABELS), ((), Fix.CHECK_LABELS)]
)
def test_a_model_that_does_not_know_its_own_rows_is_underfitted(losses: list[Step], first: Fix) -> None:
    finding = the_one(train=Mean(0.7, 200), test=Mean(0.7, 300), prompts_test=Mean(0.6, 300), losses=losses)
    assert finding.kind is Kind.UNDERFITTING
    assert (finding.evidence["train"], finding.fixes[0]) == (0.7, first)
    assert ("falling" in finding.evidence) == (losses == FALLING)


def test_answers_that_are_right_in_part_are_learnt_in_part() -> None:
    half = {"train": Mean(0.65, 200), "test": Mean(0.64, 300), "prompts_test": Mean(0.5, 300)}
    assert the_one(**half).kind is Kind.UNDERFITTING
    assert found(**half, taught=0.7) == []


def test_what_is_no_better_than_prompts_is_said_to_be() -> None:
    finding = the_one(prompts_test=Mean(0.91, 300))
    assert finding.kind is Kind.NO_GAIN
    assert finding.evidence == {"finetuned": 0.91, "prompts": 0.91, "gain": 0.0}
    assert finding.fixes == (
        Fix.KEEP_PROMPTS,
        Fix.MORE_ROWS,
        Fix.STRONG_TEACHER,
        Fix.BETTER_TOGETHER,
        Fix.MORE_SEEDS,
    )
    only_dev = the_one(test=None, prompts_test=None, prompts_dev=Mean(0.93, 200))
    assert only_dev.evidence["finetuned"] == 0.92


def test_a_gain_within_the_noise_of_seeds_is_none() -> None:
    lucky = {"test": None, "prompts_test": None, "dev": Mean(0.92, 200), "seeds": (0.80, 0.92, 0.86)}
    finding = the_one(**lucky)
    assert finding.kind is Kind.NO_GAIN
    assert (round(finding.evidence["gain"], 6), round(finding.evidence["noise"], 6)) == (0.01, 0.12)
    assert Fix.MORE_SEEDS not in finding.fixes
    assert found(**{**lucky, "seeds": (0.90, 0.92, 0.91)}) == []


def test_answers_that_cannot_be_parsed_count_where_prompts_did_better() -> None:
    finding = the_one(unreadable=Mean(0.05, 300))
    assert (finding.kind, finding.evidence) == (Kind.UNSTABLE_FORMAT, {"unreadable": 0.05, "n": 300})
    assert found(unreadable=Mean(0.05, 300), prompts_unreadable=Mean(0.06, 300)) == []
    assert found(unreadable=Mean(0.02, 300)) == []


def test_a_suite_that_fell_is_forgetting_and_one_that_did_not_is_none() -> None:
    suites = {"general": (Mean(0.9, 200), Mean(0.7, 200)), "safety": (Mean(0.9, 200), Mean(0.89, 200))}
    finding = the_one(suites=suites)
    assert (finding.kind, finding.about) == (Kind.FORGETTING, "general")
    assert finding.evidence == {"before": 0.9, "now": 0.7, "n": 200}
    assert finding.fixes[0] is Fix.MIX


SCORES = st.builds(Mean, st.floats(0, 1), st.integers(1, 500))
STEPS = st.lists(st.tuples(st.floats(0, 10), st.none() | st.floats(0, 10)), max_size=40).map(
    lambda losses: [Step(number, *loss) for number, loss in enumerate(losses, 1)]
)


@given(
    train=st.none() | SCORES,
    dev=st.none() | SCORES,
    test=st.none() | SCORES,
    prompts_test=st.none() | SCORES,
    unreadable=st.none() | SCORES,
    kept=st.none() | st.tuples(st.integers(0, 300), st.integers(0, 300)),
    losses=STEPS,
    seeds=st.lists(st.floats(0, 1), max_size=4),
)
def test_every_finding_has_evidence_and_fixes_and_words(**seen: Any) -> None:
    findings = diagnose(replace(WELL, **seen))
    assert all(finding.evidence and finding.fixes for finding in findings)
    assert len({(finding.kind, finding.about) for finding in findings}) == len(findings)
    assert Kind.UNDERFITTING not in {f.kind for f in findings} or Kind.OVERFITTING not in {f.kind for f in findings}
    lines = list(diagnosis(findings))
    assert len(lines) == 2 * len(findings)
    assert "nan" not in "".join(lines)


def test_a_diagnosis_is_told_in_two_lines() -> None:
    findings = found(
        train=Mean(1.0, 200),
        test=Mean(0.83, 300),
        kept=(40, 500),
        losses=RISING,
        suites={"general": (Mean(0.9, 200), Mean(0.7, 200))},
        unreadable=Mean(0.05, 300),
        prompts_unreadable=Mean(0.01, 300),
    )
    told = list(diagnosis(findings, fixes=1))
    assert told == [
        "too few traces: 40 of 500 rows survived; 200 should",
        "  try: let a strong model answer (teacher='MODEL', recipe='distill')",
        "unstable format: 5.0% of 300 answers could not be parsed, 1.0% of the prompt-optimized program's",
        "  try: collect more, and more different, labelled rows",
        (
            "overfitting: 1.000 on rows it was trained on, 0.830 on others; validation loss 0.438 around step 40, "
            "1.46 at the end; n_epochs was 3"
        ),
        "  try: collect more, and more different, labelled rows",
        "no gain over prompts: 0.830, the prompt-optimized program 0.840",
        "  try: keep the prompt-optimized program: it costs no training",
        "forgetting on general: 0.900 before, 0.700 now, n=200",
        "  try: mix in rows of that work (mix=Mix(dataset, program=…)), other ones than the suite's",
    ]
    assert all("; then " in line for line in list(diagnosis(findings))[1::2])


def test_every_fix_is_offered_somewhere_and_has_words() -> None:
    cases = [
        found(kept=(40, 500)),
        found(kept=(90, 100)),
        found(unreadable=Mean(0.05, 300)),
        found(losses=RISING),
        found(train=Mean(0.7, 200), test=Mean(0.7, 300), prompts_test=Mean(0.8, 300), losses=FALLING),
        found(suites={"general": (Mean(0.9, 200), Mean(0.7, 200))}),
    ]
    assert {fix for findings in cases for finding in findings for fix in finding.fixes} == set(Fix)
    assert all(len(list(diagnosis(findings))) == 2 * len(findings) for findings in cases)
