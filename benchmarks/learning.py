"""What the sandbox's models reach and cost: accuracies, span F1, times and sizes.

    python benchmarks/learning.py --data banking77.jsonl
    python benchmarks/learning.py --data banking77.jsonl --served  # the accuracies, through a server

The data are lines of JSON with ``text``, ``category`` and ``split`` (train or test). Prompts are those of DSPy's
ChatAdapter. Everything is seeded: two runs print the same table, but for the times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

import dspy
import openai

from pytest_finetune.sandbox import Sandbox
from pytest_finetune.sandbox.learning import (
    FittedModel,
    Message,
    Model,
    Size,
    Step,
    auto_hyperparameters,
    base_model,
    fit,
)

Row = Mapping[str, Any]
SIZES: tuple[Size, ...] = ("small", "large")
ADAPTER = dspy.ChatAdapter()


@dataclass(frozen=True)
class Task:
    """A signature with its one output, and rows for training and for testing."""

    name: str
    signature: type[dspy.Signature]
    output: str
    training: Sequence[Row]
    test: Sequence[Row]

    def prompt(self, row: Row, demonstrations: Sequence[Row] = ()) -> list[Message]:
        """The chat that asks for a row's output."""
        return [
            Message(m["role"], m["content"]) for m in ADAPTER.format(self.signature, list(demonstrations), dict(row))
        ]

    def training_file(self, rows: Sequence[Row]) -> list[list[Message]]:
        """The rows as chats that end in their answers."""
        return [
            [
                *self.prompt(row),
                Message("assistant", ADAPTER.format_assistant_message_content(self.signature, dict(row))),
            ]
            for row in rows
        ]

    def ask(self, model: Model, row: Row, demonstrations: Sequence[Row] = ()) -> Any:
        """What a model answers for a row."""
        return ADAPTER.parse(self.signature, model.answer(self.prompt(row, demonstrations)))[self.output]

    def traces(self, model: Model, demonstrations: Sequence[Row] = ()) -> list[Row]:
        """The training rows with the model's own answers."""
        return [{**row, self.output: self.ask(model, row, demonstrations)} for row in self.training]

    def right(self, rows: Sequence[Row]) -> list[Row]:
        """Those of our training rows' traces that hold the true answer."""
        return [row for row, true in zip(rows, self.training, strict=True) if row[self.output] == true[self.output]]

    def score(self, model: Model, demonstrations: Sequence[Row] = ()) -> float:
        """Percent of the test rows that are answered exactly."""
        hits = [self.ask(model, row, demonstrations) == row[self.output] for row in self.test]
        return 100 * hits.count(True) / len(hits)

    def tune(self, size: Size, rows: Sequence[Row]) -> tuple[FittedModel, float]:
        """A model fitted to rows with automatic hyperparameters, and the seconds that took."""
        training = self.training_file(rows)
        begun = time.perf_counter()
        models = fit(size, training, [], auto_hyperparameters(len(rows)), 0, on_step=_ignore)
        return models[-1], time.perf_counter() - begun


def _ignore(step: Step) -> None:
    """Nobody watches the fit."""


def classify(name: str, rows: Sequence[Row], labels: Sequence[str], training: int, test: int) -> Task:
    """The task to choose among labels, on rows drawn with a seed from either split."""
    signature = dspy.Signature(
        {
            "text": (str, dspy.InputField()),
            "category": (Literal[tuple(labels)], dspy.OutputField()),
        },
        "Classify the text.",
    )
    drawn: dict[str, list[Row]] = {}
    for split, count in (("train", training), ("test", test)):
        mine = [r for r in rows if r["split"] == split and r["category"] in labels]
        drawn[split] = random.Random(0).sample(mine, min(count, len(mine)))
    return Task(name, signature, "category", drawn["train"], drawn["test"])


class Lab(Protocol):
    """Where models are asked and tuned."""

    def base(self, size: Size) -> Model:
        """The model as it comes."""
        ...

    def tune(self, task: Task, size: Size, rows: Sequence[Row]) -> Model:
        """The model fitted to rows of a task."""
        ...


class Direct:
    """The learners themselves, with no server between."""

    def base(self, size: Size) -> Model:
        """The model as it comes."""
        return base_model(size)

    def tune(self, task: Task, size: Size, rows: Sequence[Row]) -> Model:
        """The model fitted to rows of a task."""
        return task.tune(size, rows)[0]


@dataclass(frozen=True)
class Remote:
    """A model that answers through ``dspy.LM``."""

    lm: dspy.LM

    def answer(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> str:
        """What the server says."""
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return str(self.lm(messages=chat, temperature=temperature, seed=seed)[0])


@dataclass(frozen=True)
class Served:
    """A running sandbox, reached as a user reaches it: through ``dspy.LM`` and the official client."""

    sandbox: Sandbox

    def base(self, size: Size) -> Model:
        """The model as it comes."""
        return self._remote(f"sandbox-{size}")

    def tune(self, task: Task, size: Size, rows: Sequence[Row]) -> Model:
        """The model that a fine-tuning job gives."""
        file = [{"messages": [dataclasses.asdict(m) for m in row]} for row in task.training_file(rows)]
        content = "".join(json.dumps(row) + "\n" for row in file).encode()
        with openai.OpenAI(base_url=self.sandbox.base_url, api_key="none") as client:
            uploaded = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
            jobs = client.fine_tuning.jobs
            job = jobs.create(model=f"sandbox-{size}", training_file=uploaded.id, seed=0)
            while job.status not in {"succeeded", "failed"}:
                time.sleep(0.05)
                job = jobs.retrieve(job.id)
        return self._remote(str(job.fine_tuned_model))

    def _remote(self, model: str) -> Remote:
        return Remote(dspy.LM(f"openai/{model}", api_base=self.sandbox.base_url, api_key="none", cache=False))


def ladder(task: Task, lab: Lab) -> Iterator[tuple[str, float]]:
    """The stages of the small model and of the large one, in percent."""
    sizes: tuple[tuple[Size, int], ...] = (("small", 16), ("large", 110))
    for size, demonstrations in sizes:
        base = lab.base(size)
        drawn = random.Random(0).sample(list(task.training), demonstrations)
        own, prompted = task.traces(base), task.traces(base, drawn)
        yield f"{size}: zero-shot", task.score(base)
        yield f"{size}: {demonstrations} demonstrations", task.score(base, drawn)
        yield f"{size}: tuned on own traces, unfiltered", task.score(lab.tune(task, size, own))
        yield f"{size}: tuned on own traces, right ones", task.score(lab.tune(task, size, task.right(own)))
        yield f"{size}: tuned on prompted traces, right ones", task.score(lab.tune(task, size, task.right(prompted)))
        yield f"{size}: tuned on gold", task.score(lab.tune(task, size, task.training))


_FIRST = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "John", "Karen", "Leslie", "Radia", "Tim")
_LAST = ("Abel", "Bauer", "Castro", "Dietz", "Engel", "Fuchs", "Gomez", "Haas", "Ivanov", "Keller", "Lopez", "Novak")
_GOODS = ("kettle", "lamp", "blender", "router", "jacket", "camera", "keyboard", "drill", "tent", "speaker")
_LETTERS = [
    "Hello, my name is {person} and order {order} has not arrived yet.",
    "I ordered a {goods} last week ({order}) but {person} never got a confirmation.",
    "Please send the {goods} to {person}; the reference is {order}.",
    "{person} here. The {goods} from order {order} is broken, what now?",
    "Order {order}: can you change the name to {person}? Thanks!",
    "On Monday {person} called you about a {goods}. Our number for it is {order}.",
    "Why was {person} charged twice for {order}? We bought one {goods}.",
    "The {goods} is too small. Could {person} return it? It was shipped as {order}.",
]
_NAME_LISTS = [
    "Invite {people} to the meeting on Friday.",
    "{people} have signed the contract, I have not.",
    "I spoke with {people} about the budget for Berlin.",
    "Nobody has answered the letter so far.",
    "According to the minutes, {people} were there.",
]


def letters(
    rows: int, rng: random.Random, first: Sequence[str], last: Sequence[str], templates: Sequence[str]
) -> list[Row]:
    """Letters with a person, an order number and people's names, each made up anew."""
    made: list[Row] = []
    for _ in range(rows):
        people = [f"{rng.choice(first)} {rng.choice(last)}" for _ in range(rng.randint(1, 3))]
        order = f"{rng.choice('ABCDEFGH')}{rng.choice('KLMN')}-{rng.randint(1000, 99999)}"
        text = rng.choice(templates).format(person=people[0], order=order, goods=rng.choice(_GOODS))
        listed = rng.choice(_NAME_LISTS)
        names = list(dict.fromkeys(people)) if "{people}" in listed else []
        made.append(
            {
                "text": text,
                "order_number": order,
                "customer": people[0],
                "note": listed.format(people=" and ".join(names) if len(names) < 3 else ", ".join(names)),
                "names": names,
            }
        )
    return made


def span_tasks() -> Iterator[Task]:
    """Two spans and a list of spans; no person of the test rows is in training, nor are two of the eight letters."""
    training = letters(300, random.Random(1), _FIRST[:6], _LAST[:6], _LETTERS[:6])
    test = letters(200, random.Random(2), _FIRST[6:], _LAST[6:], _LETTERS)
    for output, given, annotation in (
        ("order_number", "text", str),
        ("customer", "text", str),
        ("names", "note", list[str]),
    ):
        signature = dspy.Signature(
            {given: (str, dspy.InputField()), output: (annotation, dspy.OutputField())}, "Extract."
        )
        yield Task(output, signature, output, training, test)


def token_f1(given: Any, expected: Any) -> float:
    """The F1 of the tokens in two values (lists are joined), as in SQuAD (Rajpurkar et al., 2016, section 6.1)."""
    left, right = (" ".join(v).split() if isinstance(v, list) else v.split() for v in (given, expected))
    if not left or not right:
        return float(left == right)
    shared = sum(min(left.count(token), right.count(token)) for token in set(left))
    return 2 * shared / (len(left) + len(right))


def milliseconds(call: Callable[[], object], repeats: int = 200) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def costs(task: Task, size: Size) -> Iterator[tuple[str, str]]:
    """Times and sizes of a task's models."""
    asked = [task.prompt(row) for row in task.test]
    shown = [task.prompt(row, task.training[:16]) for row in task.test]
    tuned, seconds = task.tune(size, task.training)
    packed = tuned.to_bytes()
    turns, base = iter(asked * 10), base_model(size)
    prompted = iter(shown * 10)
    yield "fit", f"{seconds:.2f} s"
    yield "fitted answer", f"{milliseconds(lambda: tuned.answer(next(turns))):.3f} ms"
    yield "zero-shot answer", f"{milliseconds(lambda: base.answer(next(turns))):.3f} ms"
    yield "answer with 16 demonstrations, seen before", f"{milliseconds(lambda: base.answer(next(prompted))):.3f} ms"
    yield "packed", f"{len(packed) / 1e6:.1f} MB"
    yield "unpack", f"{milliseconds(lambda: FittedModel.from_bytes(packed), 5):.0f} ms"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with text, category and split")
    parser.add_argument("--served", action="store_true", help="the accuracies, through a server and its clients")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the random tens")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.data.read_text().splitlines()]
    every = sorted({row["category"] for row in rows})
    tens = {"first ten": every[:10], **{f"ten, seed {s}": random.Random(s).sample(every, 10) for s in options.seeds}}
    tasks = [classify(name, rows, labels, 800, 300) for name, labels in tens.items()]
    with ExitStack() as stack:
        lab: Lab = Served(stack.enter_context(Sandbox())) if options.served else Direct()
        columns = [list(ladder(task, lab)) for task in tasks]
    print(f"{'exact match, percent (800 training rows, 300 test rows)':60}" + "".join(f"{n:>13}" for n in tens))
    for line in zip(*columns, strict=True):
        print(f"{line[0][0]:60}" + "".join(f"{score:13.1f}" for _, score in line))
    if options.served:
        return

    whole = classify("all", rows, every, 8000, 1000)
    tuned, seconds = whole.tune("small", whole.training)
    print(f"\n{len(every)} values, {len(whole.training)} rows, small, fitted in {seconds:.1f} s")
    print(f"  zero-shot {whole.score(base_model('small')):.1f}, tuned on gold {whole.score(tuned):.1f}")

    print("\ntoken F1, percent (300 training rows, 200 test rows, no name in both)   zero-shot   tuned")
    for task in span_tasks():
        models = (base_model("small"), task.tune("small", task.training)[0])
        f1 = [100 * statistics.mean(token_f1(task.ask(m, r), r[task.output]) for r in task.test) for m in models]
        print(f"{task.output:72}" + "".join(f"{score:9.1f}" for score in f1))

    for task, size in product((tasks[0], whole), SIZES):
        print(f"\n{task.name}, {len(task.training)} rows, {size}")
        for name, figure in costs(task, size):
            print(f"  {name:50}{figure}")


if __name__ == "__main__":
    main()
