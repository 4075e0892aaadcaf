from __future__ import annotations

import json

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tests.sandbox.conftest import ANSWER, COLOURS, REQUEST, SYSTEM, connect, prompt

from pytest_finetune.sandbox import Sandbox, Settings


def text_of(completion: openai.types.chat.ChatCompletion) -> str:
    return completion.choices[0].message.content or ""


def demonstrations(count: int) -> list[ChatCompletionMessageParam]:
    pairs = [(thing, colour) for colour, things in COLOURS.items() for thing in things] * 20
    turns: list[ChatCompletionMessageParam] = []
    for thing, colour in pairs[:count]:
        turns.append({"role": "user", "content": REQUEST.format(thing=thing)})
        turns.append({"role": "assistant", "content": ANSWER.format(colour=colour)})
    return turns


def test_a_completion_has_the_published_shape(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="sandbox-small", messages=prompt("red paint"))
    assert text_of(completion) == ANSWER.format(colour="red")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 50 > completion.usage.completion_tokens > 5
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_a_stream_adds_up_to_the_completion(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="sandbox-small",
            messages=prompt("red paint"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == ANSWER.format(colour="red")
    assert len(pieces) > 3
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_demonstrations_teach(client: openai.OpenAI) -> None:
    asked = prompt("a tomato, ripe")
    taught = [asked[0], *demonstrations(15), asked[1]]
    completion = client.chat.completions.create(model="sandbox-small", messages=taught)
    assert text_of(completion) == ANSWER.format(colour="red")


@pytest.mark.parametrize(("model", "limit"), [("sandbox-small", 16), ("sandbox-large", 128)])
def test_a_context_has_its_limit(client: openai.OpenAI, model: str, limit: int) -> None:
    asked = prompt("moss")
    fits = [asked[0], *demonstrations(limit), asked[1]]
    assert text_of(client.chat.completions.create(model=model, messages=fits)) == ANSWER.format(colour="green")
    too_long = [asked[0], *demonstrations(limit + 1), asked[1]]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=too_long)
    assert caught.value.code == "context_length_exceeded"
    assert f"resulted in {limit + 1} demonstrations" in caught.value.message


def test_a_limit_of_tokens_cuts_the_answer(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="sandbox-small",
        messages=prompt("red paint"),
        max_completion_tokens=3,
    )
    assert completion.choices[0].finish_reason == "length"
    assert text_of(completion) == ANSWER.format(colour="red")[:12]


def test_samples_follow_the_seed(client: openai.OpenAI) -> None:
    def sample(seed: int) -> list[str | None]:
        completion = client.chat.completions.create(
            model="sandbox-small",
            messages=prompt("something"),
            temperature=1.5,
            seed=seed,
            n=12,
        )
        return [choice.message.content for choice in completion.choices]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert len(set(sample(1))) > 1


def test_json_mode_gives_a_json_object(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="sandbox-small",
        messages=[{"role": "user", "content": "Say hello to the world in JSON."}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(text_of(completion)), dict)


def test_responses_answer_like_chat(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="sandbox-small", instructions=SYSTEM, input=REQUEST.format(thing="red paint")
    )
    assert response.output_text == ANSWER.format(colour="red")
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens > 5
    cut = client.responses.create(model="sandbox-small", input="Tell me all there is to tell.", max_output_tokens=1)
    assert cut.status == "incomplete"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="ft:gpt-4o-mini:x::y", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found"
    assert "The model `ft:gpt-4o-mini:x::y` does not exist" in caught.value.message


def test_aliases_are_told_to_the_server() -> None:
    with Sandbox(Settings(aliases={"acme/house-model": "large"})) as sandbox, connect(sandbox) as client:
        names = {model.id for model in client.models.list()}
        assert names == {"sandbox-small", "sandbox-large", "acme/house-model"}
        assert client.models.retrieve("acme/house-model").id == "acme/house-model"
        answer = client.chat.completions.create(model="acme/house-model", messages=prompt("red paint"))
        assert text_of(answer) == ANSWER.format(colour="red")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o-mini")


def test_a_shut_down_model_is_gone(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.set_shutdown("sandbox-large", "2999-12-31")
    described = client.models.retrieve("sandbox-large")
    assert described.model_dump()["shutdown_date"] == "2999-12-31"
    sandbox.set_shutdown("sandbox-large", "2020-01-01")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="sandbox-large", messages=prompt("moss"))
    sandbox.set_shutdown("sandbox-large", None)
    assert client.models.retrieve("sandbox-large").id == "sandbox-large"


def test_base_models_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("sandbox-small")


def test_requests_are_counted_by_model_and_row(sandbox: Sandbox, client: openai.OpenAI) -> None:
    sandbox.forget_requests()
    for thing in ("moss", "moss", "jam"):
        client.chat.completions.create(model="sandbox-small", messages=prompt(thing))
    client.chat.completions.create(model="sandbox-large", messages=prompt("moss"))
    counts = sandbox.request_counts()
    assert counts["total"] == 4
    assert counts["by_model"] == {"sandbox-small": 3, "sandbox-large": 1}
    assert sorted(row["count"] for row in counts["by_row"]) == [1, 1, 2]


def test_a_key_can_be_demanded() -> None:
    with Sandbox(Settings(api_key="secret")) as sandbox:
        with connect(sandbox) as stranger, pytest.raises(openai.AuthenticationError) as caught:
            stranger.models.list()
        assert caught.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=sandbox.base_url, api_key="secret") as known:
            assert known.models.retrieve("sandbox-small").id == "sandbox-small"
        sandbox.set_faults()
