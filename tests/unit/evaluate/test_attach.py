"""How an engine comes below the LMs of a program."""

from __future__ import annotations

import dspy

from pytest_finetune.calls import Calling, Engine, Retries, Traffic
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.evaluate.attach import attach

ENDPOINT = Endpoint("here", "http://127.0.0.1:9/v1")


class Two(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        super().__init__()
        self.one = dspy.Predict("a -> b")
        self.two = dspy.Predict("b -> c")


def attached(program: dspy.Module) -> tuple[dspy.Module, list[dspy.LM]]:
    return attach(program, "baseline", Calling(Traffic(2), Retries(), 5.0))


def test_decoding_is_kept_and_the_connection_is_the_engines() -> None:
    program = Two()
    program.set_lm(ENDPOINT.lm("small", temperature=0.5, max_tokens=9, timeout=1.0))
    copy, (lm,) = attached(program)
    assert copy is not program
    assert {id(predictor.lm) for predictor in copy.predictors()} == {id(lm)}
    assert (lm.model, lm.kwargs) == ("openai/small", {"temperature": 0.5, "max_tokens": 9})
    assert (lm.cache, lm.num_retries) == (False, 0)
    assert isinstance(lm.engine, Engine)
    assert program.one.lm.kwargs["api_key"] == "none"


def test_each_lm_of_a_program_has_its_engine() -> None:
    program = Two()
    program.one.lm, program.two.lm = ENDPOINT.lm("small"), ENDPOINT.lm("large")
    copy, lms = attached(program)
    assert [lm.model for lm in lms] == ["openai/small", "openai/large"]
    assert [predictor.lm for predictor in copy.predictors()] == lms


def test_models_with_other_parameters_are_no_exception() -> None:
    program = Two()
    program.set_lm(ENDPOINT.lm("o3-mini", temperature=1.0, max_tokens=20_000))
    _, (lm,) = attached(program)
    assert lm.kwargs == {"temperature": 1.0, "max_completion_tokens": 20_000}


def test_the_engine_knows_of_its_model_what_the_lm_knew() -> None:
    lm = ENDPOINT.lm("gpt-4o-mini")
    engine = Engine(lm, Calling(Traffic(1), Retries(), 5.0))
    assert engine.supports_response_schema is lm.supports_response_schema is True
    assert engine.supports_function_calling is lm.supports_function_calling is True
    assert engine.supports_reasoning is lm.supports_reasoning is False
    assert engine.supported_params == lm.supported_params
