"""The models: two base models that read, and fitted models that have learned from a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from . import storage
from .answers import write_answer
from .features import Query, Size
from .fitting import Hyperparameters, Knowledge, Step, learn, start
from .prompts import Message, Signature, read_demonstrations, read_request, read_row
from .reading import Reader
from .sampling import Sampler, request_text

CONTEXT_LIMITS = {"small": 16, "large": 128}
"""The demonstrations (answered user messages before the last one) that a model takes, by its size."""

_IN_CONTEXT = Hyperparameters(n_epochs=5, batch_size=1, learning_rate_multiplier=2.0)
_KEPT = 3  # checkpoints, as the real service keeps
_NOTHING_LEARNED = Knowledge({})


class ContextLengthExceeded(Exception):
    """More demonstrations than the model takes.

    Args:
        limit: How many it takes.
        given: How many the request holds.
    """

    def __init__(self, limit: int, given: int) -> None:
        super().__init__(
            f"the request holds {given} demonstrations and the model takes {limit}: send fewer, or ask a larger model"
        )
        self.limit = limit
        self.given = given


class UnlearnableFile(Exception):
    """A training file without a row that ends in an assistant's answer."""


class Model(Protocol):
    """What answers chats: immutable, safe to share among threads, and deterministic."""

    def answer(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> str:
        """The assistant's next message.

        Args:
            messages: The chat, ending in a user message.
            temperature: 0 answers with the best; above it, choices, nearest examples and sentences are drawn from the
                softmax of their scores.
            seed: Decides the draw, together with the request's text.

        Raises:
            ContextLengthExceeded: There are more demonstrations than the model takes.
        """
        ...


@dataclass(frozen=True, eq=False)
class _Answering:
    """A model of a size that knows something; both kinds of models are one."""

    size: Size
    knowledge: Knowledge

    def answer(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> str:
        """The assistant's next message; see ``Model.answer``."""
        request = read_request(messages)
        given = sum(
            (asked.role, answered.role) == ("user", "assistant")
            for asked, answered in zip(request.demonstrations, request.demonstrations[1:], strict=False)
        )
        if given > CONTEXT_LIMITS[self.size]:
            raise ContextLengthExceeded(CONTEXT_LIMITS[self.size], given)
        knowledge = self.knowledge
        if given:
            knowledge = _learn_in_context(self, request.signature, request.demonstrations)
        sampler = Sampler(temperature, seed, request_text(request.inputs.values()))
        query = Query(request.inputs)
        reader = Reader(self.size, request.signature, query, sampler)
        values = {}
        for field in request.signature.outputs:
            head = knowledge.head(request.signature, field)
            values[field.name] = head.answer(query, field, sampler) if head else reader.value(field)
        return write_answer(request.signature, values)


@dataclass(frozen=True, eq=False)
class BaseModel(_Answering):
    """A model that has learned from no file: it reads the prompt and learns from its demonstrations."""


@dataclass(frozen=True, eq=False)
class FittedModel(_Answering):
    """A model that has learned from a training file.

    Asked with another signature, it uses what it learned for output fields of the same name that accept its values,
    and answers all others as its base model does. Demonstrations in the prompt are learned on top. What it learns of
    choices, of spans copied out of the input and of lists of such spans holds for inputs it has never seen; any other
    value is that of the nearest training row. It cannot learn arithmetic or free prose.
    """

    def to_bytes(self) -> bytes:
        """The model as a NumPy archive with a JSON manifest; nothing in it is executed when it is read."""
        return storage.to_bytes(self.size, self.knowledge)

    @classmethod
    def from_bytes(cls, data: bytes) -> FittedModel:
        """The model that ``to_bytes`` wrote.

        Raises:
            ValueError: The data is not such a model.
        """
        return cls(*storage.from_bytes(data))


@lru_cache(maxsize=2)
def base_model(size: Literal["small", "large"]) -> BaseModel:
    """The base model of a size.

    The large one also sees pairs of words and takes 128 demonstrations, the small one takes 16.
    """
    return BaseModel(size, _NOTHING_LEARNED)


def fit(
    size: Literal["small", "large"],
    training: Sequence[Sequence[Message]],
    validation: Sequence[Sequence[Message]],
    hyperparameters: Hyperparameters,
    seed: int,
    *,
    parent: FittedModel | None = None,
    on_step: Callable[[Step], None],
) -> list[FittedModel]:
    """Fine-tunes a base model, or a fitted one.

    Args:
        size: The size of the base model.
        training: Rows, each a chat that ends in the assistant's answer.
        validation: Rows that are only measured; may be empty.
        hyperparameters: How to fit.
        seed: Decides the order of the rows.
        parent: A model to go on from, in place of the base model.
        on_step: Told of every step.

    Returns:
        The models at the ends of the last three epochs, oldest first; the last is the fine-tuned model.

    Raises:
        UnlearnableFile: No training row ends in an assistant's answer.
    """
    rows = [read_row(row) for row in training if row and row[-1].role == "assistant"]
    rows = [row for row in rows if row[1].outputs]
    if not rows:
        raise UnlearnableFile(
            "no row of the training file ends in an assistant's answer with a value for an output field: "
            "write at least one such row"
        )
    unseen = [read_row(row) for row in validation if row and row[-1].role == "assistant"]
    kept: deque[FittedModel] = deque(maxlen=_KEPT)
    learn(
        start(size, rows, parent.knowledge if parent else None),
        rows,
        unseen,
        hyperparameters,
        seed,
        on_step,
        lambda knowledge: kept.append(FittedModel(size, knowledge.copy())),
    )
    return list(kept)


@lru_cache(maxsize=32)  # an entry may hold some megabytes, and an optimizer tries about as many prompts
def _learn_in_context(model: _Answering, signature: Signature, turns: tuple[Message, ...]) -> Knowledge:
    """What a model knows after the demonstrations of a prompt."""
    rows = [(signature, example) for example in read_demonstrations(signature, turns) if example.outputs]
    if not rows:
        return model.knowledge
    knowledge = start(model.size, rows, model.knowledge)
    learn(knowledge, rows, [], _IN_CONTEXT, 0)
    return knowledge
