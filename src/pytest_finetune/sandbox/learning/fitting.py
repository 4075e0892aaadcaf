"""Learning from examples: what kind each output field is, the fit epoch by epoch, and its losses.

A fit begins where the base model (or the parent) stands, so that few rows cost little of what reading alone gives.
Demonstrations in a prompt are learned by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import TypeAlias

import numpy as np

from . import choice, schemas, spans
from .choice import Choice
from .features import Query, Size, Vocabulary, input_grams
from .linear import Cell, Descent, Progress, sum_up
from .prompts import Example, Field, Signature
from .recall import Recall
from .schemas import Value
from .spans import Spans

Head: TypeAlias = Choice | Spans | Recall
Row: TypeAlias = tuple[Signature, Example]
Work: TypeAlias = list[tuple[Head, Query, Value, Cell | None]]

_RATE = 0.5  # of a step, for a learning-rate multiplier of 1 and a batch of one row
_COPIED = 0.8  # share of values that the input must hold before a field counts as copied
_UNLEARNABLE = Progress(-log(1e-7), 0, 1)  # a value that the field's head cannot give


@dataclass(frozen=True)
class Hyperparameters:
    """How to fit.

    Args:
        n_epochs: How often every row is seen.
        batch_size: Rows in one step.
        learning_rate_multiplier: Scales the steps; a batch of n rows takes the step of one, times the root of n
            (Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014, section 5).
    """

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


@dataclass(frozen=True)
class Step:
    """The state of a fit after one step; losses are means over the decisions (values, or tags of tokens), in nats.

    The losses of a step's batch are taken before it is learned, those of the validation rows after; ``full_valid_*``
    only at the end of an epoch.
    """

    step: int
    total_steps: int
    epoch: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None
    valid_mean_token_accuracy: float | None
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What was learned, by the names of a signature's fields and by the name of the output field."""

    groups: Mapping[str, Mapping[str, Head]]

    def head(self, signature: Signature, field: Field) -> Head | None:
        """What answers a field: learned for this signature, or else for one that shares an input field."""
        own = group_name(signature)
        asked = {given.name for given in signature.inputs}
        for name in sorted(self.groups, key=lambda name: name != own):
            head = self.groups[name].get(field.name)
            if head and asked & set(name.partition(" -> ")[0].split(", ")) and head.suits(field):
                return head
        return None

    def copy(self) -> Knowledge:
        """One that keeps what is known now."""
        return Knowledge({name: {f: h.copy() for f, h in group.items()} for name, group in self.groups.items()})


def group_name(signature: Signature) -> str:
    """The field names of a signature, such as ``text -> reasoning, category``."""
    names = (", ".join(field.name for field in fields) for fields in (signature.inputs, signature.outputs))
    return " -> ".join(names)


def auto_hyperparameters(rows: int) -> Hyperparameters:
    """What "auto" stands for: three epochs (more below 34 rows), batches of 0.2 % of the rows, a multiplier of two.

    The rule for epochs is that of OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning": at
    least 100 and at most 25,000 examples are seen, in 1 to 25 epochs.

    Args:
        rows: Rows of the training file.
    """
    epochs = 3
    if rows * epochs < 100:
        epochs = min(25, 100 // max(1, rows))
    elif rows * epochs > 25_000:
        epochs = max(1, 25_000 // rows)
    return Hyperparameters(epochs, max(1, min(256, round(0.002 * rows))), 2.0)


def start(size: Size, rows: Sequence[Row], parent: Knowledge | None) -> Knowledge:
    """What is known before the first step, for every output field that the rows hold."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_name(row[0]), []).append(row)
    known = dict(parent.groups) if parent else {}
    return Knowledge(
        {**known, **{name: _start_group(size, group, known.get(name)) for name, group in groups.items()}}
    )


def learn(
    knowledge: Knowledge,
    training: Sequence[Row],
    validation: Sequence[Row],
    hyperparameters: Hyperparameters,
    seed: int,
    on_step: Callable[[Step], None] | None = None,
    on_epoch: Callable[[Knowledge], None] | None = None,
) -> None:
    """Fits the knowledge in place, and tells of every step and epoch."""
    work, unseen = _prepare(knowledge, training), _prepare(knowledge, validation)
    size = hyperparameters.batch_size
    rate = _RATE * hyperparameters.learning_rate_multiplier / sqrt(size)
    descents = _descents(work, rate)
    random = np.random.default_rng(seed)
    in_epoch = ceil(len(work) / size)
    for step in range(hyperparameters.n_epochs * in_epoch):
        epoch, place = divmod(step, in_epoch)
        if place == 0:
            order = random.permutation(len(work))
        progress = _learn_batch([work[i] for i in order[place * size : (place + 1) * size]], descents)
        last = place + 1 == in_epoch
        if on_step:
            window = [unseen[i % len(unseen)] for i in range(step * size, (step + 1) * size)] if unseen else []
            on_step(
                Step(
                    step + 1,
                    hyperparameters.n_epochs * in_epoch,
                    epoch + 1,
                    *_means(progress),
                    *(_means(_measure(window)) if window else (None, None)),
                    *(_means(_measure(unseen)) if unseen and last else (None, None)),
                )
            )
        if on_epoch and last:
            on_epoch(knowledge)


def _start_group(size: Size, rows: Sequence[Row], parent: Mapping[str, Head] | None) -> dict[str, Head]:
    signature = rows[0][0]
    queries = [Query(example.inputs) for _, example in rows]
    columns = {
        field: (
            [query for query, (_, example) in zip(queries, rows, strict=True) if field.name in example.outputs],
            [example.outputs[field.name] for _, example in rows if field.name in example.outputs],
        )
        for field in signature.outputs
    }
    known = dict(parent or {})
    kinds = {field: _kind(field, *column, known.get(field.name)) for field, column in columns.items() if column[1]}
    keys = {
        field: _keys(field, columns[field][1], known.get(field.name)) for field in kinds if kinds[field] is Choice
    }
    vocabulary = _vocabulary(size, signature, queries, keys, known)
    heads: dict[str, Head] = {}
    for field, kind in kinds.items():
        before = known.get(field.name)
        if kind is Choice:
            begun = choice.start(size, field, signature.instructions, keys[field], vocabulary)
            heads[field.name] = choice.grow(begun, before) if isinstance(before, Choice) else begun
        elif kind is Spans:
            heads[field.name] = Spans.of(*columns[field], before if isinstance(before, Spans) else None)
        else:
            heads[field.name] = Recall.of(*columns[field])
    return {**known, **heads}


def _kind(field: Field, queries: Sequence[Query], values: Sequence[Value], parent: Head | None) -> type[Head]:
    """What a field is: a choice where it declares one or where values repeat, else copied, else recalled."""
    if isinstance(parent, Choice) or schemas.choices(field.schema):
        return Choice
    holding = [spans.held(query, value) for query, value in zip(queries, values, strict=True)]
    if isinstance(parent, Spans) or (sum(holding) >= _COPIED * len(values) and any(map(spans.copied, values))):
        return Spans
    return Choice if 2 * len({schemas.key(value) for value in values}) <= len(values) else Recall


def _keys(field: Field, values: Sequence[Value], parent: Head | None) -> tuple[str, ...]:
    """The values of a choice: those of the parent, those declared, and those seen."""
    known = parent.keys if isinstance(parent, Choice) else ()
    declared = map(schemas.key, schemas.choices(field.schema))
    return tuple(dict.fromkeys([*known, *declared, *sorted(map(schemas.key, values))]))


def _vocabulary(
    size: Size,
    signature: Signature,
    queries: Sequence[Query],
    keys: Mapping[Field, tuple[str, ...]],
    parent: Mapping[str, Head],
) -> Vocabulary:
    """The n-grams of the inputs and of the values' names, which all choices of a signature share."""
    labels = (
        row for field in keys for row in choice.read_labels(size, field, signature.instructions, keys[field])[0]
    )
    # Each vocabulary of a parent extends the one before it: the longest knows all of them.
    choices = (head.vocabulary for head in parent.values() if isinstance(head, Choice))
    known = max(choices, key=lambda vocabulary: len(vocabulary.index), default=None)
    rows = (input_grams(size, query.inputs) for query in queries)
    return Vocabulary.of(size, [*rows, *labels] if keys else [], known)


def _prepare(knowledge: Knowledge, rows: Sequence[Row]) -> list[Work]:
    """What is to be decided in each row; recalled fields count only where there is nothing else to measure."""
    prepared: list[Work] = []
    for signature, example in rows:
        query = Query(example.inputs)
        heads = knowledge.groups.get(group_name(signature), {})
        fitted = [name for name in example.outputs if isinstance(heads.get(name), (Choice, Spans))]
        prepared.append(
            [
                (heads[name], query, example.outputs[name], _cell(heads[name], query, example.outputs[name]))
                for name in fitted or example.outputs
                if name in heads
            ]
        )
    return prepared


def _cell(head: Head, query: Query, value: Value) -> Cell | None:
    return None if isinstance(head, Recall) else head.cell(query, value)


def _descents(rows: Iterable[Work], rate: float) -> dict[Head, Descent]:
    shown: dict[Choice | Spans, set[int]] = {}
    for head, _, _, cell in (part for work in rows for part in work):
        if cell is not None and not isinstance(head, Recall):
            # Tags are no values: a file without a span of two tokens does say that there are none.
            places = cell.right.tolist() if isinstance(head, Choice) else range(len(head.softmax.bias))
            shown.setdefault(head, set()).update(places)
    return {head: Descent(head.softmax, rate, places) for head, places in shown.items()}


def _learn_batch(batch: Iterable[Work], descents: Mapping[Head, Descent]) -> Progress:
    """One step of every head; what is recalled is known by heart, and counts for nothing."""
    parts: list[Progress] = []
    cells: dict[Head, list[Cell]] = {}
    for head, _, _, cell in (part for work in batch for part in work):
        if cell is not None:
            cells.setdefault(head, []).append(cell)
        elif not isinstance(head, Recall):
            parts.append(_UNLEARNABLE)
    parts.extend(descents[head].learn(mine) for head, mine in cells.items())
    return sum_up(parts)


def _measure(rows: Iterable[Work]) -> Progress:
    parts: list[Progress] = []
    for head, query, value, cell in (part for work in rows for part in work):
        if isinstance(head, Recall):
            parts.append(head.measure(query, value))
        else:
            parts.append(_UNLEARNABLE if cell is None else head.softmax.measure([cell]))
    return sum_up(parts)


def _means(progress: Progress) -> tuple[float, float]:
    """Mean loss and accuracy; of no decisions, nothing is wrong."""
    if not progress.decisions:
        return 0.0, 1.0
    return progress.loss / progress.decisions, progress.right / progress.decisions
