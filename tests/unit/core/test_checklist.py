"""What is known of a task, held against the checklist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.checklist import Answer, Checklist, Finding, State, break_even, check
from pytest_finetune.core.prospects import Costs, Facts, Limits, Probe, Scored, Seen, Traces

COSTS = Costs(
    traces=1.0, job=4.0, evaluation=1.0, as_of="2026-11-21", finetuned=0.0001, prompts=0.0003, teacher=0.0021
)
GOOD = Facts(
    task="tickets",
    train=1200,
    test=4000,
    margin=0.02,
    certifiable=0.018,
    needed=3800,
    seen=Seen(0, 0),
    max_near=0.02,
    probe=Probe(1.0, 0.1, constant=False),
    recorded=(0.0, 1.0),
    labels=False,
    traces=Traces(300, 400, "recorded answers of prompt_optimized"),
    prompts=Scored(0.7, 400, 0.66),
    teacher=Scored(0.9, 400, 0.87),
    goal=0.85,
    outside=0.0,
    costs=COSTS,
    receivers=(),
)
VOLUME = Limits(calls_per_month=100_000)
NOTHING = replace(
    GOOD,
    certifiable=None,
    needed=None,
    probe="metric judged asks a model",
    recorded=None,
    traces=None,
    prompts=None,
    teacher=None,
    goal=None,
    outside=None,
    costs=Costs(None, None, None, "2026-11-21"),
)
LOCAL = {"training rows", "leaks", "privacy"}
"""What the data and the settings always tell."""


def found(checklist: Checklist) -> dict[str, Finding]:
    return {finding.name: finding for finding in checklist.findings}


def states(facts: Facts, limits: Limits = VOLUME) -> dict[str, State]:
    return {name: finding.state for name, finding in found(check(facts, limits)).items()}


def test_a_good_case_is_ok_in_everything() -> None:
    checklist = check(GOOD, VOLUME)
    assert {finding.state for finding in checklist.findings} == {State.OK}
    assert checklist.answer is Answer.QUALITY
    assert checklist.because.evidence == "prompt_optimized scores 0.700 on 400 rows: 0.150 to gain"
    assert len(checklist.findings) == 12


@pytest.mark.parametrize(
    ("changes", "answer", "because"),
    [
        ({"train": 49}, Answer.DATA, "training rows"),
        ({"test": 9}, Answer.DATA, "test split"),
        ({"train": 499}, Answer.DATA, "training rows"),
        ({"seen": Seen(81, 0, "test row a and train row b")}, Answer.MEND, "leaks"),
        ({"probe": Probe(1.0, 1.0, constant=True), "recorded": None}, Answer.MEND, "metric"),
        ({"recorded": (1.0, 1.0), "probe": "unknown"}, Answer.MEND, "metric"),
        ({"costs": replace(COSTS, cap=5.9)}, Answer.MEND, "cost"),
        ({"prompts": None}, Answer.PROMPTS, "prompts first"),
        ({"prompts": Scored(0.4, 400), "teacher": Scored(0.45, 400)}, Answer.PROMPTS, "score"),
        ({"prompts": Scored(0.4, 400)}, Answer.QUALITY, "score"),
        ({"prompts": Scored(0.4, 400), "outside": 0.6}, Answer.RETRIEVAL, "knowledge"),
        ({"outside": 0.6}, Answer.QUALITY, "goal"),
        ({"prompts": Scored(0.85, 400)}, Answer.COST, "return"),
        ({"prompts": Scored(0.85, 400), "costs": replace(COSTS, job=None)}, Answer.ENOUGH, "goal"),
        ({"goal": None}, Answer.COST, "return"),
        ({"goal": None, "costs": replace(COSTS, job=None)}, Answer.QUALITY, "goal"),
        ({"goal": None, "prompts": Scored(0.98, 400), "costs": replace(COSTS, job=None)}, Answer.ENOUGH, "goal"),
    ],
)
def test_there_is_one_answer_and_what_decides_it(changes: dict[str, Any], answer: Answer, because: str) -> None:
    checklist = check(replace(GOOD, **changes), VOLUME)
    assert (checklist.answer, checklist.because.name) == (answer, because)


@pytest.mark.parametrize(
    ("name", "changes", "state"),
    [
        ("training rows", {"train": 500}, State.OK),
        ("training rows", {"train": 499}, State.ADVICE),
        ("training rows", {"train": 50}, State.ADVICE),
        ("training rows", {"train": 49}, State.STOP),
        ("training rows", {"train": 500, "unfit": "a label is missing"}, State.STOP),
        ("test split", {"certifiable": 0.02}, State.OK),
        ("test split", {"certifiable": 0.021}, State.ADVICE),
        ("test split", {"certifiable": None}, State.ADVICE),
        ("test split", {"needed": None}, State.UNKNOWN),
        ("test split", {"test": 9, "needed": None}, State.STOP),
        ("leaks", {"seen": Seen(80, 0, "a")}, State.OK),
        ("leaks", {"seen": Seen(81, 0, "a")}, State.STOP),
        ("leaks", {"seen": Seen(80, 81, "a")}, State.ADVICE),
        ("metric", {"recorded": None}, State.OK),
        ("metric", {"recorded": (1.0, 1.0)}, State.ADVICE),
        ("metric", {"recorded": None, "probe": Probe(0.2, 0.4, constant=False)}, State.ADVICE),
        ("metric", {"recorded": None, "probe": "asks a model"}, State.UNKNOWN),
        ("score", {"prompts": Scored(0.5, 400)}, State.OK),
        ("score", {"prompts": Scored(0.49, 400)}, State.ADVICE),
        ("traces", {"traces": Traces(200, 1200, "answers")}, State.OK),
        ("traces", {"traces": Traces(199, 1200, "answers")}, State.ADVICE),
        ("traces", {"traces": Traces(0, 0, "answers")}, State.UNKNOWN),
        ("traces", {"traces": None, "labels": True}, State.OK),
        ("knowledge", {"outside": 0.5}, State.OK),
        ("cost", {"costs": replace(COSTS, cap=6.0)}, State.OK),
        ("cost", {"costs": replace(COSTS, job=None)}, State.UNKNOWN),
        ("cost", {"costs": replace(COSTS, job=None, cap=1.9)}, State.STOP),
        ("return", {"costs": replace(COSTS, finetuned=0.01)}, State.ADVICE),
        ("return", {"costs": replace(COSTS, finetuned=None)}, State.UNKNOWN),
        ("return", {"costs": replace(COSTS, prompts=None, teacher=None)}, State.UNKNOWN),
        ("privacy", {"receivers": ("https://api.openai.com/v1",)}, State.ADVICE),
    ],
)
def test_a_threshold_is_where_it_is_said_to_be(name: str, changes: dict[str, Any], state: State) -> None:
    assert states(replace(GOOD, **changes))[name] is state


def test_the_thresholds_can_be_set() -> None:
    strict = Limits(rows=2000, floor=1300, score=0.8, traces=1000, outside=0.0, calls_per_month=100_000)
    assert states(GOOD)["training rows"] is State.OK
    told = states(replace(GOOD, outside=0.1), strict)
    assert [told[name] for name in ("training rows", "score", "traces", "knowledge")] == [State.STOP] + [
        State.ADVICE
    ] * 3


def test_what_is_not_known_is_unknown() -> None:
    told = states(NOTHING, Limits())
    assert {name for name, state in told.items() if state is not State.UNKNOWN} == LOCAL


def test_a_goal_that_is_met_says_whether_that_is_certain() -> None:
    evidence = [
        found(check(replace(GOOD, prompts=Scored(0.9, 400, low)), Limits()))["goal"].evidence for low in (0.87, 0.83)
    ]
    assert evidence == [
        "prompt_optimized scores 0.900 on 400 rows: the goal is met, certified",
        "prompt_optimized scores 0.900 on 400 rows: the goal is met, not certified",
    ]


def test_the_return_is_computed_against_the_prompts_and_the_teacher() -> None:
    finding = found(check(GOOD, Limits(months=3)))["return"]
    assert finding.state is State.UNKNOWN  # since the volume is
    assert finding.evidence == (
        "pays from 10,000 calls a month on against prompt_optimized, from 1,000 calls a month on against teacher;"
        " a call of prompt_optimized's costs 3 times the fine-tuned model's, of teacher's costs 21 times the"
        " fine-tuned model's"
    )
    assert states(GOOD, Limits(calls_per_month=999))["return"] is State.ADVICE
    assert states(GOOD, Limits(calls_per_month=1000))["return"] is State.OK


OPTIONAL = ("certifiable", "needed", "recorded", "traces", "prompts", "teacher", "goal", "outside", "costs", "probe")
SHOWN_BY = {
    "needed": {"test split"},
    "traces": {"traces"},
    "prompts": {"prompts first", "score", "goal"},
    "outside": {"knowledge"},
    "costs": {"cost", "return"},
}
"""The findings that rest on a fact alone."""


@given(
    st.sets(st.sampled_from(OPTIONAL)), st.integers(0, 2000), st.integers(0, 5000), st.none() | st.integers(0, 10**6)
)
def test_no_unknown_is_ever_taken_for_good(lacking: set[str], train: int, test: int, volume: int | None) -> None:
    changes = {name: getattr(NOTHING, name) for name in lacking}
    checklist = check(replace(GOOD, train=train, test=test, **changes), Limits(calls_per_month=volume))
    told = {name: finding.state for name, finding in found(checklist).items()}
    for fact in lacking & SHOWN_BY.keys():
        assert State.OK not in {told[name] for name in SHOWN_BY[fact]}
    if checklist.stops:
        assert checklist.because in checklist.stops
        assert checklist.answer in (Answer.DATA, Answer.MEND)
    if checklist.answer in (Answer.QUALITY, Answer.COST):
        assert "prompts" not in lacking
        assert train >= Limits().floor
    if checklist.answer is Answer.COST:
        assert told["return"] is State.OK


MONEY = st.floats(0, 1e4)


@given(MONEY, st.floats(1e-6, 1), st.integers(1, 24), MONEY)
def test_from_the_break_even_on_the_savings_pay_and_before_it_they_do_not(
    invested: float, saving: float, months: int, hosting: float
) -> None:
    calls = break_even(invested, saving, months=months, hosting=hosting)
    assert calls is not None
    spent = invested + months * hosting
    slack = 1e-9 * (1 + spent)
    assert months * calls * saving >= spent - slack
    assert calls == 0 or months * (calls - 1) * saving <= spent + slack


@given(MONEY, st.floats(-1, 0), st.integers(1, 24))
def test_what_saves_nothing_never_pays(invested: float, saving: float, months: int) -> None:
    assert break_even(invested, saving, months=months) is None
