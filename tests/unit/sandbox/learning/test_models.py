from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pytest_finetune.sandbox.learning import (
    ContextLengthExceeded,
    FittedModel,
    Hyperparameters,
    Message,
    Model,
    Step,
    UnlearnableFile,
    auto_hyperparameters,
    base_model,
    fit,
)

TOPICS = {
    "card": ["my card has not come", "the card is blocked", "a new card please", "card lost on the bus"],
    "transfer": [
        "the transfer is late",
        "cancel a transfer",
        "money sent has not arrived",
        "sent to the wrong person",
    ],
    "rate": ["what is the exchange rate", "euros to dollars", "how much do I get for pounds", "the rate was wrong"],
}
WORDS = "please today again now hello thanks still really sorry help urgent maybe".split()  # noqa: SIM905


def user(text: str, fields: str = "`category` (str)") -> list[Message]:
    system = (
        f"Your input fields are:\n1. `text` (str): \nYour output fields are:\n1. {fields}: \n"
        "All interactions will be structured in the following way, with the appropriate values filled in.\n"
    )
    asked = f"[[ ## text ## ]]\n{text}\n\nRespond with the corresponding output fields, starting with the field"
    return [Message("system", system), Message("user", asked)]


def answered(value: str, name: str = "category") -> Message:
    return Message("assistant", f"[[ ## {name} ## ]]\n{value}\n\n[[ ## completed ## ]]\n")


def rows(count: int, seed: int, wrong: float = 0.0) -> list[list[Message]]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        topic = rng.choice(sorted(TOPICS))
        text = f"{rng.choice(WORDS)} {rng.choice(TOPICS[topic])} {rng.choice(WORDS)} {rng.choice(WORDS)}"
        label = rng.choice([t for t in TOPICS if t != topic]) if i < wrong * count else topic
        made.append([*user(text), answered(label)])
    return made


def accuracy(model: Model, test: Sequence[Sequence[Message]]) -> float:
    return sum(model.answer(row[:-1]) == row[-1].content for row in test) / len(test)


def quiet(step: Step) -> None:
    pass


def tuned(training: list[list[Message]], epochs: int = 3, multiplier: float = 2.0) -> FittedModel:
    return fit("small", training, [], Hyperparameters(epochs, 1, multiplier), 0, on_step=quiet)[-1]


def test_a_fitted_model_answers_inputs_it_has_not_seen() -> None:
    assert accuracy(tuned(rows(60, seed=1)), rows(60, seed=2)) >= 0.95


def test_wrong_labels_make_a_worse_model() -> None:
    worse = tuned(rows(60, seed=1, wrong=0.6))
    assert accuracy(worse, rows(60, seed=2)) <= 0.6


def test_demonstrations_in_the_prompt_are_learned() -> None:
    shown = [message for row in rows(16, seed=1) for message in row[1:]]
    test = [[row[0], *shown, *row[1:]] for row in rows(60, seed=2)]
    assert accuracy(base_model("small"), test) >= 0.8


def test_a_prompt_with_too_many_demonstrations_is_refused() -> None:
    shown = [message for row in rows(17, seed=1) for message in row[1:]]
    prompt = [*user("")[:1], *shown, *user("my card")[1:]]
    with pytest.raises(ContextLengthExceeded) as refused:
        base_model("small").answer(prompt)
    assert (refused.value.limit, refused.value.given) == (16, 17)
    assert "card" in base_model("large").answer(prompt)


def test_the_losses_are_those_of_the_fit() -> None:
    steps: list[Step] = []
    models = fit("small", rows(30, 1), rows(20, 2), Hyperparameters(4, 8, 2.0), 0, on_step=steps.append)
    assert (len(models), len(steps), steps[-1].total_steps, steps[-1].epoch) == (3, 16, 16, 4)
    by_epoch = [sum(s.train_loss for s in steps if s.epoch == epoch) / 4 for epoch in (1, 2, 3, 4)]
    assert by_epoch == sorted(by_epoch, reverse=True)
    assert by_epoch[0] > 5 * by_epoch[-1]
    assert [s.step for s in steps if s.full_valid_loss is not None] == [4, 8, 12, 16]
    assert steps[-1].full_valid_mean_token_accuracy == accuracy(models[-1], rows(20, 2))


@pytest.mark.parametrize("count", [20, 30, 50])
def test_where_a_fifth_of_few_labels_is_wrong_validation_loss_rises_with_epochs(count: int) -> None:
    steps: list[Step] = []
    training = rows(count, seed=1, wrong=0.2)
    fit("small", training, rows(40, seed=2), Hyperparameters(12, 1, 2.0), 0, on_step=steps.append)
    losses = [s.full_valid_loss for s in steps if s.full_valid_loss is not None]
    assert losses[-1] > 1.1 * min(losses)
    assert sum(s.train_mean_token_accuracy for s in steps if s.epoch == 12) >= 0.85 * count


def test_epochs_and_learning_rate_matter() -> None:
    def loss(epochs: int, multiplier: float) -> float:
        steps: list[Step] = []
        fit("small", rows(40, 1), rows(40, 2), Hyperparameters(epochs, 1, multiplier), 0, on_step=steps.append)
        return steps[-1].full_valid_loss or 0.0

    assert loss(1, 0.02) > loss(3, 0.02) > loss(3, 2.0)


def test_the_same_file_and_seed_give_the_same_model() -> None:
    training = rows(40, seed=1)
    first, second = (tuned(training).to_bytes() for _ in range(2))
    assert first == second
    restored = FittedModel.from_bytes(first)
    prompts = [row[:-1] for row in rows(30, seed=3)]
    assert [restored.answer(p) for p in prompts] == [tuned(training).answer(p) for p in prompts]
    assert restored.to_bytes() == first


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="not a fitted model"):
        FittedModel.from_bytes(b"PK\x03\x04 what is this")


def test_a_fit_goes_on_from_its_parent() -> None:
    parent = tuned(rows(60, seed=1))
    news = [[*user(f"{word} my pin is forgotten"), answered("pin")] for word in WORDS]
    child = fit("small", news, [], Hyperparameters(3, 1, 2.0), 0, parent=parent, on_step=quiet)[-1]
    assert child.answer(user("hello, the pin is forgotten")) == answered("pin").content
    assert accuracy(child, rows(60, seed=2)) >= 0.9
    assert accuracy(parent, rows(60, seed=2)) >= 0.95


def test_temperature_samples_by_the_seed() -> None:
    model, prompt = (
        base_model("small"),
        user("my card or my transfer", "`category` (Literal['card', 'transfer', 'x'])"),
    )
    drawn = [model.answer(prompt, temperature=1.0, seed=seed) for seed in range(20)]
    assert drawn == [model.answer(prompt, temperature=1.0, seed=seed) for seed in range(20)]
    assert len(set(drawn)) > 1
    assert len({model.answer(prompt, seed=seed) for seed in range(20)}) == 1


def test_spans_and_lists_of_spans_are_copied_from_unseen_inputs() -> None:
    def row(number: int, names: list[str]) -> list[Message]:
        ask = user(
            f"Order no. K-{number} for {' and '.join(names)}, please.", "`order` (str): \n2. `names` (list[str])"
        )
        answer = f"[[ ## order ## ]]\nK-{number}\n\n[[ ## names ## ]]\n{str(names).replace(chr(39), chr(34))}"
        return [*ask, Message("assistant", f"{answer}\n\n[[ ## completed ## ]]\n")]

    model = tuned([row(100 + i, [["Ada"], ["Alan", "Grace"], ["Tim"]][i % 3]) for i in range(40)])
    test = row(98765, ["Barbara", "Niklaus"])
    assert model.answer(test[:-1]) == test[-1].content


def test_other_text_is_that_of_the_nearest_row() -> None:
    facts = {"Where is Oslo?": "Oslo lies in Norway.", "Where is Rome?": "Rome lies in Italy, of course."}
    model = tuned([[*user(q, "`answer` (str)"), answered(a, "answer")] for q, a in facts.items()])
    assert "Italy" in model.answer(user("And where is Rome then?", "`answer` (str)"))


def test_chats_without_structure_are_learned_too() -> None:
    training = [
        [Message("user", row[1].content[17:40]), Message("assistant", row[-1].content[19:23])] for row in rows(40, 1)
    ]
    assert accuracy(tuned(training), training) >= 0.9


def test_another_signature_gets_what_was_learned_and_the_rest_from_reading() -> None:
    model = tuned(rows(60, seed=1))
    other = user("hello, the euros to dollars", "`reasoning` (str): \n2. `category` (Literal['rate', 'card'])")
    answer = model.answer(other)
    assert answer.startswith("[[ ## reasoning ## ]]\nThe part of the input that says most is: hello")
    assert "[[ ## category ## ]]\nrate\n" in answer


def test_a_file_without_answers_is_unlearnable() -> None:
    with pytest.raises(UnlearnableFile, match="write at least one such row"):
        fit("small", [user("hello")], [], Hyperparameters(1, 1, 1.0), 0, on_step=quiet)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (10, Hyperparameters(10, 1, 2.0)),
        (33, Hyperparameters(3, 1, 2.0)),
        (800, Hyperparameters(3, 2, 2.0)),
        (20_000, Hyperparameters(1, 40, 2.0)),
    ],
)
def test_automatic_hyperparameters(count: int, expected: Hyperparameters) -> None:
    assert auto_hyperparameters(count) == expected
