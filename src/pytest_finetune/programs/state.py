"""What optimizing a program changes, as plain data: out of a program, and back into a fresh one.

DSPy's own ``save`` and ``load`` will not do. They keep no field names and no types, so that a state goes silently
into a program of another shape; they leave out the predictors of a compiled sub-module; they write down addresses
and headers; and a missing predictor is a bare ``KeyError``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticSerializationError

from pytest_finetune.core.fingerprint import plain
from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.programs.annotations import type_name

if TYPE_CHECKING:
    import dspy

_REBUILD = "build again with `pytest --ft-retrain`, or take back the program that the state was made from"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Field(_Part):
    name: str
    type: str
    desc: str
    prefix: str | None = None


class _Predictor(_Part):
    """What one predictor's prompt is made of; ``criteria`` is what DSPy tunes for decision types."""

    instructions: str
    fields: list[_Field]
    demos: list[dict[str, Any]]
    criteria: dict[str, Any] = {}


class _State(_Part):
    version: Literal[1] = 1
    predictors: dict[str, _Predictor]


def modules(program: dspy.Module) -> Iterator[tuple[str, dspy.Module]]:
    """Give every module of a program once, itself first, named as DSPy names them.

    DSPy's own walk stops at sub-modules that an optimizer has marked as compiled.
    """
    return _walk("self", program, set())


def predictors(program: dspy.Module) -> dict[str, dspy.Predict]:
    """Give the predictors of a program by name, those of compiled sub-modules included."""
    import dspy

    return {name: module for name, module in modules(program) if isinstance(module, dspy.Predict)}


def dump_state(program: dspy.Module) -> dict[str, Any]:
    """Give a program's state as JSON can hold it: instructions, fields and demonstrations of each predictor.

    Models, keys, traces and versions are not in it. Values of demonstrations become what they look like in a prompt;
    fields that the predictor does not have are left out, since no prompt shows them.

    Raises:
        UsageError: If a demonstration holds a value that JSON cannot, naming the predictor and the field.
    """
    states = {name: _dump(name, predictor) for name, predictor in predictors(program).items()}
    return _State(predictors=states).model_dump()


def load_state(program: dspy.Module, state: Mapping[str, Any]) -> dspy.Module:
    """Give a copy of a program with a state in it.

    Args:
        program: as the task makes it.
        state: what ``dump_state`` gave for a program of the same shape.

    Raises:
        LockError: If the state is none, or predictors, fields or types are not those of the program.
        UsageError: If the program cannot be copied.
    """
    try:
        held = _State.model_validate(state)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise LockError(f"this is no state of a program: {where}: {problem['msg']}: {_REBUILD}") from None
    loaded = _copy(program)
    own = predictors(loaded)
    _check_same("predictors", sorted(held.predictors), sorted(own))
    for name, predictor in own.items():
        _load(name, predictor, held.predictors[name])
    return loaded


def attach(program: dspy.Module, lm: dspy.BaseLM | Mapping[str, dspy.BaseLM]) -> dspy.Module:
    """Give a copy of a program in which every predictor has its LM, and no sub-module is marked as compiled.

    Args:
        program: Of any shape.
        lm: What all predictors ask; or what each asks, by its name, with ``""`` for all that are not named.

    Raises:
        UsageError: If the program cannot be copied, or a predictor has no LM.
    """
    lms = lm if isinstance(lm, Mapping) else {"": lm}
    attached = _copy(program)
    for _, module in modules(attached):
        module._compiled = False  # noqa: SLF001  # DSPy has no public way to make a frozen module whole again
    for name, predictor in predictors(attached).items():
        if name not in lms and "" not in lms:
            raise UsageError(
                f"predictor {name!r} of {type(program).__name__} has no model: there is one for each of"
                f" {', '.join(lms)}, and none for all. A suite's own program must have predictors of these names"
            )
        predictor.lm = lms[name] if name in lms else lms[""]
    return attached


def _copy(program: dspy.Module) -> dspy.Module:
    """A deep copy; DSPy's own gives a shallow one where an attribute cannot be copied."""
    copied = program.deepcopy()
    shared = {id(module) for _, module in modules(program)} & {id(module) for _, module in modules(copied)}
    if shared:
        raise UsageError(
            f"{type(program).__name__} cannot be copied: beside its predictors it holds something that has no copy, "
            "such as a client or a lock: keep that outside of the module, or give it a __deepcopy__"
        )
    return copied


def _walk(name: str, module: dspy.Module, seen: set[int]) -> Iterator[tuple[str, dspy.Module]]:
    import dspy

    seen.add(id(module))
    yield name, module
    prefix = "" if name == "self" else f"{name}."
    for attribute, value in _members(module):
        if isinstance(value, dspy.Module) and id(value) not in seen:
            yield from _walk(f"{prefix}{attribute}", value, seen)


def _members(module: dspy.Module) -> Iterator[tuple[str, Any]]:
    """Attributes, and the items of those that are lists or dicts, as DSPy sees them."""
    for name, value in vars(module).items():
        yield name, value
        if isinstance(value, list | tuple):
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{name}[{key!r}]", item) for key, item in value.items())


def _dump(name: str, predictor: dspy.Predict) -> _Predictor:
    signature = predictor.signature
    demos = [
        _demo(f"predictor {name}, demonstration {n}", signature, demo) for n, demo in enumerate(predictor.demos, 1)
    ]
    return _Predictor(
        instructions=signature.instructions,
        fields=_fields(signature),
        demos=demos,
        criteria=plain(getattr(predictor, "fields", {})),
    )


def _fields(signature: type[dspy.Signature]) -> list[_Field]:
    return [
        _Field(
            name=name,
            type=type_name(field.annotation),
            desc=field.json_schema_extra.get("desc") or "",
            prefix=field.json_schema_extra.get("prefix"),
        )
        for name, field in signature.fields.items()
    ]


def _demo(where: str, signature: type[dspy.Signature], demo: Any) -> dict[str, Any]:
    """The fields of a demonstration that a prompt shows, in the order of the signature."""
    shown: dict[str, Any] = {}
    for name in signature.fields:
        if name in demo:
            try:
                shown[name] = _as_shown(demo[name])
            except UsageError as error:
                raise UsageError(f"{where}, field {name}: {error}") from None
    return shown


def _as_shown(value: Any) -> Any:
    """Turn a value into what DSPy's adapters turn it into before they write it."""
    if isinstance(value, set | frozenset):
        return plain(value)  # sorted: the order of a set differs between processes
    try:
        return plain(TypeAdapter(type(value)).dump_python(value, mode="json", fallback=str))
    except (PydanticSchemaGenerationError, PydanticSerializationError):
        return str(value)


def _load(name: str, predictor: dspy.Predict, state: _Predictor) -> None:
    import dspy

    signature = predictor.signature
    _check_same(
        f"fields of predictor {name}",
        [f"{field.name}: {field.type}" for field in state.fields],
        [f"{field.name}: {field.type}" for field in _fields(signature)],
    )
    signature = signature.with_instructions(state.instructions)
    for field in state.fields:
        changes = field.model_dump(include={"desc", "prefix"}, exclude_none=True)
        signature = signature.with_updated_fields(field.name, **changes)
    predictor.signature = signature
    predictor.demos = [dspy.Example(demo).with_inputs(*signature.input_fields) for demo in state.demos]
    if state.criteria:
        predictor.fields = copy.deepcopy(state.criteria)


def _check_same(what: str, locked: list[str], now: list[str]) -> None:
    if locked == now:
        return
    changes = [f"{item} is gone" for item in locked if item not in now]
    changes += [f"{item} is new" for item in now if item not in locked]
    told = "; ".join(changes) or f"their order was {', '.join(locked)}"
    raise LockError(f"the locked state does not fit the program: {what}: {told}: {_REBUILD}")
