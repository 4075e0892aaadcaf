"""Held-out rows in what a stage was built from: its demonstrations, and the file that its model was trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.fingerprint import canonical_json
from pytest_finetune.core.leaks import MAX_NEAR, Leak, Leaks, Texts, find_leaks
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EvidenceError, LockError
from pytest_finetune.programs import predictors
from pytest_finetune.task import Task
from pytest_finetune.training.contents import messages_of
from pytest_finetune.workflow.stages import PinnedStage

if TYPE_CHECKING:
    import dspy

_SHOWN = 3
_MARK = "\ue000"  # for private use: it stands in no template of an adapter


Written = dict[tuple[str, tuple[str, ...]], Mapping[str, Texts]]
"""What held-out rows say, by the prompt that says it and the fields that are read: the same for most stages."""


def leaks_of(rows: Sequence[DataRow], pinned: PinnedStage, written: Written | None = None) -> Leaks:
    """Find the rows that a stage has seen, in its demonstrations or in the prompts of its training file.

    Rows are compared by those of their input fields that the program reads, as the stage's adapter writes the values,
    without the words around them. A predictor that takes only some of these fields shows no whole row, and is left
    out. So are rows that have all these fields in common with another: the fields do not tell them apart. Rows of
    which the program reads nothing are held against the rows that were mixed in.

    Args:
        rows: The held-out rows that are looked for.
        pinned: A stage of their task.
        written: Kept from stage to stage, since writing prompts is slow.

    Raises:
        LockError: If the training file is missing, damaged, or none.
        EvidenceError: If it has a prompt that the program does not write.
    """
    prompts = {name: _Prompt.of(pinned.adapter, part) for name, part in _parts(pinned).items()}
    own = [prompts[name] for name in predictors(pinned.program)]
    fields = _fields_read(rows, own) or _fields_read(rows, prompts.values())
    whole = {name: prompt for name, prompt in prompts.items() if fields and set(fields).issubset(prompt.fields)}
    if not whole:
        return Leaks()
    seen = {
        where: tuple(inputs[name] for name in fields)
        for where, inputs in chain(_demonstrations(pinned, whole), _training_rows(pinned, prompts.values()))
        if inputs.keys() >= set(fields)
    }
    if not seen:
        return Leaks()
    prompt, known = next(iter(whole.values())), {} if written is None else written
    key = (prompt.pattern.pattern, fields)
    if key not in known:
        known[key] = _texts(rows, prompt, fields)
    return find_leaks(known[key], seen)


def check_leaks(
    task: Task, stages: Mapping[str, Leaks], max_near: float = MAX_NEAR, suite: str | None = None
) -> frozenset[str]:
    """Refuse to judge stages on rows that they have seen.

    Args:
        task: The task.
        stages: What `leaks_of` found, by the stages' names.
        max_near: The share of the rows that may be near to something that any of the stages has seen.
        suite: Whose rows they are; ``None``: the test split's.

    Returns:
        The ids of the rows that are.

    Raises:
        EvidenceError: If a stage has seen a row as it is, or more than ``max_near`` nearly so.
    """
    rows = {row.row_id: row for row in task.held_out(suite).rows}
    whose = f"task {task.id!r}" if suite is None else f"suite {suite!r} of task {task.id!r}"
    kind, fresh = ("test rows", "take a fresh test split") if suite is None else ("rows", "take other rows")
    exact = _found((stage, leaks.exact) for stage, leaks in stages.items())
    if exact:
        raise EvidenceError(
            f"{whose}: {len(exact)} of {len(rows)} {kind} were used to build a stage, whose score on"
            f" them says nothing:\n{_listed(exact, rows)}\n"
            f"Take them out of the training data and build again (pytest --ft-retrain --ft-task {task.id}); or give"
            f" the data a `group` field, which keeps in one split what belongs together; or {fresh}."
        )
    near = _found((stage, leaks.near) for stage, leaks in stages.items())
    if len(near) > max_near * len(rows):
        raise EvidenceError(
            f"{whose}: {len(near)} of {len(rows)} {kind} ({len(near) / len(rows):.1%}) are nearly the"
            f" same as what was used to build a stage; max_near_leaks allows {max_near:.1%}:\n{_listed(near, rows)}\n"
            f"Give the data a `group` field, which keeps in one split what belongs together, or {fresh}; where"
            " rows are that much alike by nature, set max_near_leaks."
        )
    return frozenset(near)


def _found(stages: Iterable[tuple[str, Sequence[Leak]]]) -> dict[str, tuple[str, Leak]]:
    """For each row, the first stage that has seen it."""
    found: dict[str, tuple[str, Leak]] = {}
    for stage, leaks in stages:
        for leak in leaks:
            found.setdefault(leak.row_id, (stage, leak))
    return found


def _listed(found: Mapping[str, tuple[str, Leak]], rows: Mapping[str, DataRow]) -> str:
    lines = [
        f"  {rows[row_id].where} (row {row_id}): stage {stage!r}, {leak.where}, similarity {leak.similarity:.2f}"
        for row_id, (stage, leak) in islice(found.items(), _SHOWN)
    ]
    more = [f"  … and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "\n".join(lines + more)


@dataclass(frozen=True)
class _Prompt:
    """The user message of a predictor.

    Attributes:
        adapter: Writes it.
        signature: The predictor's.
        fields: The inputs that stand in it.
        pattern: What it looks like, with a group for each of them.
    """

    adapter: dspy.Adapter
    signature: type[dspy.Signature]
    fields: tuple[str, ...]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, adapter: dspy.Adapter, predictor: dspy.Predict) -> _Prompt:
        import dspy

        signature = predictor.signature
        declared = signature.input_fields.items()
        fields = tuple(name for name, field in declared if field.annotation is not dspy.History)  # that is messages
        around = _written(adapter, signature, dict.fromkeys(fields, _MARK)).split(_MARK)
        return cls(adapter, signature, fields, re.compile("(.*?)".join(map(re.escape, around)), re.DOTALL))

    def read(self, message: str) -> dict[str, str] | None:
        """The inputs of a message, as text; None where it is not this predictor's."""
        found = self.pattern.fullmatch(message)
        return dict(zip(self.fields, found.groups(), strict=True)) if found else None

    def shown(self, inputs: Mapping[str, Any]) -> dict[str, str]:
        """The given inputs, as text."""
        read = self.read(_written(self.adapter, self.signature, dict.fromkeys(self.fields, "") | dict(inputs)))
        assert read is not None  # noqa: S101  # it was written by the same adapter
        return {name: text for name, text in read.items() if name in inputs}


def _written(adapter: dspy.Adapter, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> str:
    return _text(adapter.format(signature=signature, demos=[], inputs=dict(inputs))[-1]["content"])


def _text(content: str | list[dict[str, Any]]) -> str:
    """The content of a message as one text; images and the like as JSON."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or canonical_json(part).decode() for part in content)


def _parts(pinned: PinnedStage) -> dict[str, dspy.Predict]:
    """The predictors whose prompts may stand in its training file."""
    mixed = {} if pinned.mixed is None else predictors(pinned.mixed)
    return {**predictors(pinned.program), **{f"{name} of the mix": part for name, part in mixed.items()}}


def _fields_read(rows: Iterable[DataRow], prompts: Iterable[_Prompt]) -> tuple[str, ...]:
    asked = {name for row in rows for name in row.inputs}
    return tuple(sorted(asked & {name for prompt in prompts for name in prompt.fields}))


def _texts(rows: Sequence[DataRow], prompt: _Prompt, fields: Sequence[str]) -> dict[str, Texts]:
    asked = {}
    for row in rows:
        shown = prompt.shown({name: row.fields.get(name, "") for name in fields})
        asked[row.input_id] = tuple(shown[name] for name in fields)
    times = Counter(asked.values())
    return {row.row_id: asked[row.input_id] for row in rows if times[asked[row.input_id]] == 1}


def _demonstrations(pinned: PinnedStage, prompts: Mapping[str, _Prompt]) -> Iterator[tuple[str, Mapping[str, str]]]:
    parts = _parts(pinned)
    for name, prompt in prompts.items():
        for number, demo in enumerate(parts[name].demos, start=1):
            where = f"demonstration {number} of predictor {name!r}"
            yield where, prompt.shown({field: demo[field] for field in prompt.fields if field in demo})


def _training_rows(pinned: PinnedStage, prompts: Iterable[_Prompt]) -> Iterator[tuple[str, Mapping[str, str]]]:
    # The fields of a longer prompt can look like one long value of a shorter.
    longest_first = sorted(prompts, key=lambda prompt: -len(prompt.fields))
    for where, line in _training_lines(pinned):
        message = _asked(line, where, pinned.artifacts.repair)
        inputs = next((read for prompt in longest_first if (read := prompt.read(message)) is not None), None)
        if inputs is None:
            raise EvidenceError(
                f"{pinned.entry.name}: {where} has a prompt that no predictor of the program writes, so that it"
                " cannot be held against the test rows: give each predictor all of its inputs, and build again with"
                f" pytest --ft-retrain --ft-task {pinned.entry.task}"
            )
        yield where, inputs


def _training_lines(pinned: PinnedStage) -> Iterator[tuple[str, bytes]]:
    for ref in dict.fromkeys(pinned.entry.artifacts.trainings.values()):
        file = pinned.artifacts.path(ref)
        for number, line in enumerate(pinned.artifacts.get_bytes(ref).splitlines(), start=1):
            yield f"training row {number} of {file}", line


def _asked(line: bytes, where: str, repair: str) -> str:
    """The last user message of a training row: what comes before it was said earlier."""
    try:
        messages = messages_of(json.loads(line))
        return _text([message["content"] for message in messages if message["role"] == "user"][-1])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise LockError(f"{where} is none: {repair}") from None
