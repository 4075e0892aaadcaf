from __future__ import annotations

import json
import threading
from copy import deepcopy
from typing import Any, Literal

import dspy
import pytest

from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.programs import attach, dump_state, load_state, predictors

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]
NAMES = ["first", "steps[0]", "by_language['de']", "answer.predict"]


def inputs(predictor: Any) -> dict[str, str]:
    given = {"text": "My bill is wrong", "summary": "bill"}
    return {name: given[name] for name in predictor.signature.input_fields if name in given}


def messages(program: Any, adapter: Any) -> dict[str, list[dict[str, Any]]]:
    return {
        name: adapter.format(part.signature, part.demos, inputs(part)) for name, part in predictors(program).items()
    }


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(state))
    return loaded


def test_predictors_have_the_names_that_dspy_gives_them(pipeline: Any) -> None:
    assert list(predictors(pipeline)) == NAMES == [name for name, _ in pipeline.named_predictors()]


def test_predictors_of_compiled_sub_modules_are_found_and_those_of_candidates_are_not(optimized: Any) -> None:
    assert list(predictors(optimized)) == NAMES


def test_a_predictor_is_a_program_too() -> None:
    assert list(predictors(dspy.Predict("text -> answer"))) == ["self"]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: type(adapter).__name__)
def test_a_loaded_state_gives_the_same_prompts(optimized: Any, adapter: Any) -> None:
    fresh = type(optimized)()
    before = messages(fresh, adapter)

    loaded = load_state(fresh, through_json(dump_state(optimized)))

    assert messages(loaded, adapter) == messages(optimized, adapter)
    assert messages(fresh, adapter) == before  # the program itself is left alone
    assert before != messages(loaded, adapter)


def test_a_loaded_state_dumps_as_itself(optimized: Any) -> None:
    state = through_json(dump_state(optimized))
    assert dump_state(load_state(type(optimized)(), state)) == state


def test_a_demonstration_keeps_what_prompts_show_and_nothing_else(optimized: Any) -> None:
    state = dump_state(optimized)["predictors"]["answer.predict"]
    assert state["demos"] == [
        {
            "text": "I was charged twice",
            "customer": {"name": "Zoë", "since": "2024-02-29T12:00:00Z"},
            "reasoning": "money",
            "category": "billing",
            "urgency": "high",
            "tags": ["refund", "card"],
        },
        {"text": "It crashes", "customer": None, "category": "technical", "tags": ["crash"]},
    ]
    assert [field["type"] for field in state["fields"]][-2:] == ['Urgency{LOW = "low", HIGH = "high"}', "list[str]"]


def test_a_state_holds_no_address_and_no_key(classify: Any) -> None:
    classify.set_lm(dspy.LM("openai/m", api_base="https://user:pw@host/v1?key=k", api_key="sk-secret"))
    state = json.dumps(dump_state(classify))
    assert not [
        word for word in ("openai", "host", "user", "sk-secret", "lm") if f'"{word}' in state or word == state
    ]
    assert "secret" not in state


def test_values_without_a_json_form_are_named(classify: Any) -> None:
    classify.predict.demos = [dspy.Example(text="a"), dspy.Example(text=float("nan"), category="billing")]
    with pytest.raises(UsageError) as error:
        dump_state(classify)
    assert str(error.value) == (
        "predictor predict, demonstration 2, field text: nan is not a number that can be kept: "
        "use null where there is none"
    )


def test_a_set_is_kept_in_the_same_order_everywhere(classify: Any) -> None:
    classify.predict.demos = [dspy.Example(tags={"c", "a", "b"})]
    assert dump_state(classify)["predictors"]["predict"]["demos"] == [{"tags": ["a", "b", "c"]}]


def mismatch(program: Any, state: Any) -> str:
    with pytest.raises(LockError) as error:
        load_state(program, state)
    told, _, command = str(error.value).partition(": build again")
    assert command == " with `pytest --ft-retrain`, or take back the program that the state was made from"
    return told


def test_a_renamed_predictor_is_named(classify: Any) -> None:
    state = dump_state(classify)
    state["predictors"]["think"] = state["predictors"].pop("predict")
    assert mismatch(classify, state) == (
        "the locked state does not fit the program: predictors: think is gone; predict is new"
    )


def test_another_type_is_named() -> None:
    state = dump_state(dspy.Predict("text -> label: Literal['a', 'b']"))
    assert mismatch(dspy.Predict("text -> label: Literal['a', 'b', 'c']"), state) == (
        "the locked state does not fit the program: fields of predictor self: "
        'label: Literal["a", "b"] is gone; label: Literal["a", "b", "c"] is new'
    )


def test_another_order_of_fields_is_named() -> None:
    state = dump_state(dspy.Predict("a, b -> c"))
    assert mismatch(dspy.Predict("b, a -> c"), state) == (
        "the locked state does not fit the program: fields of predictor self: their order was a: str, b: str, c: str"
    )


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("version",), 2, "version: Input should be 1"),
        (("predictors", "predict", "demos"), {}, "predictors.predict.demos: Input should be a valid list"),
        (("predictors", "predict", "lm"), {}, "predictors.predict.lm: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_state_is_refused(classify: Any, path: tuple[str, ...], value: Any, told: str) -> None:
    state = dump_state(classify)
    *parents, last = path
    place = state
    for key in parents:
        place = place[key]
    place[last] = value
    assert mismatch(classify, state) == f"this is no state of a program: {told}"


def test_attaching_reaches_every_predictor_of_a_copy(optimized: Any) -> None:
    lm = dspy.LM("openai/m", api_base="http://localhost:1/v1", api_key="none")

    attached = attach(optimized, lm)

    assert [part.lm for part in predictors(attached).values()] == [lm] * 4
    assert list(predictors(attached)) == [name for name, _ in attached.named_predictors()]
    assert {part.lm for part in predictors(optimized).values()} == {None}


def test_each_predictor_has_its_own_lm_or_that_of_all(optimized: Any) -> None:
    own, rest = (dspy.LM(f"openai/{name}", api_base="http://localhost:1/v1", api_key="none") for name in "mn")

    attached = attach(optimized, {"first": own, "": rest})

    assert {name: part.lm for name, part in predictors(attached).items()} == {
        name: own if name == "first" else rest for name in NAMES
    }
    with pytest.raises(
        UsageError, match=r"^predictor 'steps\[0\]' of Pipeline has no model: there is one for each of first,"
    ):
        attach(optimized, {"first": own})


def test_a_program_that_cannot_be_copied_is_refused(pipeline: Any, caplog: pytest.LogCaptureFixture) -> None:
    pipeline.steps.append(threading.Lock())
    with pytest.raises(UsageError, match=r"^Pipeline cannot be copied: beside its predictors it holds something"):
        attach(pipeline, None)
    assert "Failed to deep copy attribute" in caplog.text


class Rating(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Rate it."""

    text: str = dspy.InputField()
    good: Literal["yes", "no"] = dspy.OutputField()


def test_loading_changes_no_signature_class() -> None:
    program = dspy.Predict(Rating)
    state = deepcopy(dump_state(program))
    state["predictors"]["self"]["instructions"] = "Rate it well."
    assert load_state(program, state).signature.instructions == "Rate it well."
    assert Rating.instructions == "Rate it."
