from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.claims import LOCKED, Claim, Reading, Relation, ScopedClaim, ladder, parse
from pytest_finetune.core.records import Measure, Scope
from pytest_finetune.errors import ClaimError

ABOVE = "finetuned >= baseline"
STAGES = ("baseline", "prompt_optimized", "finetuned", "teacher")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("finetuned >= baseline", Claim(Reading("finetuned"), ">=", Reading("baseline"))),
        ("finetuned>=0.85", Claim(Reading("finetuned"), ">=", 0.85)),
        (
            "finetuned >= 0.95 * teacher",
            Claim(Reading("finetuned"), ">=", Reading("teacher", factor=0.95)),
        ),
        ("finetuned >= locked - 0.01", Claim(Reading("finetuned"), ">=", Reading(LOCKED), margin=0.01)),
        ("finetuned >= baseline + .05", Claim(Reading("finetuned"), ">=", Reading("baseline"), margin=-0.05)),
        ("finetuned >= baseline - 0", Claim(Reading("finetuned"), ">=", Reading("baseline"), margin=0.0)),
        (
            "cost(finetuned) <= 0.1 * cost(teacher)",
            Claim(Reading("finetuned", Measure.COST), "<=", Reading("teacher", Measure.COST, 0.1), margin=None),
        ),
        (
            "latency(finetuned) <= latency(teacher) + 2",
            Claim(Reading("finetuned", Measure.LATENCY), "<=", Reading("teacher", Measure.LATENCY), margin=2.0),
        ),
        (
            "format_errors(finetuned) <= 0.02",
            Claim(Reading("finetuned", Measure.FORMAT_ERRORS), "<=", 0.02),
        ),
        (
            "latency_p95(finetuned) <= 1.2 * latency_p95(baseline)",
            Claim(
                Reading("finetuned", Measure.LATENCY, percentile=95),
                "<=",
                Reading("baseline", Measure.LATENCY, 1.2, percentile=95),
            ),
        ),
        ("cost_p5(finetuned) <= 0.01", Claim(Reading("finetuned", Measure.COST, percentile=5), "<=", 0.01)),
        (
            "tokens_p50(finetuned) <= tokens_p50(locked) + 20",
            Claim(
                Reading("finetuned", Measure.TOKENS, percentile=50),
                "<=",
                Reading(LOCKED, Measure.TOKENS, percentile=50),
                margin=20.0,
            ),
        ),
    ],
)
def test_reads_each_form(text: str, expected: Claim) -> None:
    assert parse(text, stages=STAGES) == (expected,)


def test_a_claim_prints_its_percentile() -> None:
    (claim,) = parse("1.5*latency_p95( finetuned )<=latency_p95(teacher)+.5")
    assert str(claim) == "1.5 * latency_p95(finetuned) <= latency_p95(teacher) + 0.5"
    assert (claim.percentile, claim.stages) == (95, ("finetuned", "teacher"))


def test_a_scoped_claim_prints_its_slices_and_its_suite() -> None:
    (claim,) = parse(ABOVE)
    assert str(ScopedClaim("tickets", claim)) == ABOVE
    assert str(ScopedClaim("tickets", claim, Scope(suite="safety", by="lang"))) == f"{ABOVE} by lang on safety"


def test_a_chain_is_one_claim_per_relation_and_its_margin_belongs_to_the_last() -> None:
    texts = [str(claim) for claim in parse("finetuned >= prompt_optimized >= baseline - 0.02")]
    assert texts == ["finetuned >= prompt_optimized", "prompt_optimized >= baseline - 0.02"]


def test_a_number_on_the_left_is_turned_to_the_right() -> None:
    assert [str(claim) for claim in parse("0.9 >= finetuned >= 0.85")] == [
        "finetuned <= 0.9",
        "finetuned >= 0.85",
    ]


def test_the_ladder_goes_rung_by_rung() -> None:
    assert [str(claim) for claim in ladder(0.85)] == [
        "prompt_optimized >= baseline",
        "finetuned >= prompt_optimized",
        "finetuned >= 0.85",
    ]
    assert len(ladder()) == 2


def test_stages_to_evaluate_leave_locked_out() -> None:
    (claim,) = parse("finetuned >= locked")
    assert (claim.stages, claim.uses_locked) == (("finetuned",), True)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("finetunned >= baseline", "Did you mean 'finetuned'?", "finetunned"),
        ("costs(finetuned) <= 1", "Did you mean 'cost'?", "costs"),
        ("finetuned > baseline", "only '>=' and '<=' compare", "> "),
        ("finetuned >= 85", "score lies in [0, 1]: did you mean 0.85?", "85"),
        ("finetuned - 0.1 >= baseline", "A margin goes after the last side", "- 0.1"),
        ("finetuned >= baseline - 0.1 >= 0.2", "A margin goes after the last side", ">= 0.2"),
        ("finetuned >= 0.8 - 0.1", "a number takes no margin", "- 0.1"),
        ("0.8 <= finetuned - 0.1", "a number takes no margin", "- 0.1"),
        ("cost(finetuned) >= baseline", "baseline is compared with cost(finetuned)", "baseline"),
        (
            "latency_p95(finetuned) <= latency(baseline)",
            "latency(baseline) is compared with latency_p95(finetuned): both sides need one measure",
            "latency(baseline)",
        ),
        ("score_p95(finetuned) >= 0.5", "score is compared by its mean", "score_p95"),
        ("latncy_p95(finetuned) <= 2", "unknown measure 'latncy'. Did you mean 'latency'?", "latncy_p95"),
        ("latency_p0(finetuned) <= 2", "unknown measure 'latency_p0'. Did you mean 'latency'?", "latency_p0"),
        ("latency_p05(finetuned) <= 2", "unknown measure 'latency_p05'", "latency_p05"),
        ("latency_p100(finetuned) <= 2", "unknown measure 'latency_p100'", "latency_p100"),
        ("format_errors_p50(finetuned) <= 0", "format_errors is compared by its mean", "format_errors_p50"),
        (
            "latency_p95(finetuned) <= latency_p90(baseline)",
            "latency_p90(baseline) is compared with latency_p95(finetuned): both sides need one measure",
            "latency_p90(baseline)",
        ),
        ("finetuned >= 0.5 * finetuned", "compared with itself", "0.5 *"),
        ("0.1 >= 0.2", "two numbers are compared", "0.2"),
        ("locked >= 0.8", "'locked' stands for the other side's stage", "locked"),
        ("0.9 * finetuned >= 0.8", "a factor makes no sense against a number", "0.9"),
        ("finetuned >= 0 * baseline", "a factor must be more than 0", "0 *"),
        ("finetuned >= 1e999", "this number is too large", "1e999"),
        ("cost(finetuned) <= cost(baseline) + 1e999", "this number is too large", "1e999"),
        ("finetuned >= baseline - 1.5", "a margin of 1.5 says nothing", "1.5"),
        ("finetuned >= baseline -", "expected a number", ""),
        ("finetuned >= cost(baseline", "expected ')'", ""),
        ("finetuned >= ", "expected a stage, a measure or a number", ""),
        ("finetuned", "nothing is compared here", ""),
        ("finetuned baseline", "cannot read 'baseline' here", "baseline"),
        ("finetuned >= base$line", "cannot read '$'", "$line"),
        ("finetuned >= baseline $", "cannot read '$'", "$"),
    ],
)
def test_a_mistake_shows_its_place_and_what_was_meant(text: str, message: str, place: str) -> None:
    with pytest.raises(ClaimError) as caught:
        parse(text, stages=STAGES)
    head, shown, caret = str(caught.value).split("\n")
    assert message in head
    assert shown.strip() == text.strip()
    assert shown[caret.index("^") :].startswith(place)


def test_an_unknown_stage_lists_those_that_exist() -> None:
    with pytest.raises(ClaimError, match="Stages: baseline, finetuned, locked, prompt_optimized, teacher"):
        parse("xyz >= baseline", stages=STAGES)


def test_a_min_score_outside_its_range_is_a_mistake() -> None:
    with pytest.raises(ClaimError, match=r"did you mean 0\.85"):
        ladder(85)


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != LOCKED)
POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
RELATIONS = st.sampled_from(list[Relation]([">=", "<="]))


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    measure = draw(st.sampled_from(Measure))
    top = 1.0 if measure.bounded else 1e6
    percentile = None if measure.bounded else draw(st.none() | st.integers(1, 99))
    left, right = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    if draw(st.booleans()):
        bar = draw(st.floats(min_value=0, max_value=top))
        return Claim(Reading(left, measure, percentile=percentile), draw(RELATIONS), bar)
    margin = draw(st.none() | st.floats(min_value=-top, max_value=top, exclude_min=True, exclude_max=True))
    return Claim(
        Reading(left, measure, draw(POSITIVE), percentile),
        draw(RELATIONS),
        Reading(draw(st.just(right) | st.just(LOCKED)), measure, draw(POSITIVE), percentile),
        margin,
    )


@given(claims())
def test_what_a_claim_prints_reads_back_as_the_same_claim(claim: Claim) -> None:
    assert parse(str(claim)) == (claim,)


@given(st.text(alphabet="ab >=<*()+-.019eclockdp_\t", max_size=30))
def test_any_text_is_a_claim_or_a_claim_error(text: str) -> None:
    try:
        assert parse(text)
    except ClaimError as error:
        assert "^" in str(error)  # noqa: PT017  # a text of the alphabet may also be a valid claim
