"""What a program is, in canonical form, and the fingerprints of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.fingerprint import digest, plain, source_fingerprint
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import UsageError
from pytest_finetune.programs.annotations import allowed_values, is_dspys, type_name
from pytest_finetune.programs.state import dump_state, modules, predictors

if TYPE_CHECKING:
    import dspy

_PROBES = 3
_NOT_DECODING = ("api_", "base_url", "extra_headers", "headers", "organization", "project")
_DSPYS = ("_compiled", "callbacks", "history", "signature")  # attributes of every module, and of DSPy's own ones
_METHODS = ("__init__", "__call__")  # of those that Python names


def describe(program: dspy.Module) -> dict[str, Any]:
    """Give everything about a program that changes its answers, apart from models and adapter.

    That is its class, the code of classes that are not DSPy's own, what its modules hold beside other modules, and
    for each predictor the instructions, the fields with their types and constraints, the decoding parameters and the
    demonstrations.

    Raises:
        UsageError: If a demonstration holds a value that JSON cannot.
    """
    states, held = dump_state(program)["predictors"], _held(program)
    return {
        "class": type(program).__name__,
        "code": _code(program),
        "predictors": {name: states[name] | _declared(part) for name, part in predictors(program).items()},
    } | ({"held": held} if held else {})


def program_fingerprint(program: dspy.Module) -> str:
    """Give the SHA-256 of what a program is.

    Raises:
        UsageError: As ``describe``.
    """
    return digest(describe(program))


def prompt_fingerprint(program: dspy.Module, adapter: dspy.Adapter, rows: Sequence[DataRow]) -> str:
    """Give the SHA-256 of the messages that a program's predictors send; no model is asked.

    It changes exactly when a model would see another format; other texts in the rows are none. Inputs that come from
    other predictors are left out, so that of a later predictor the system message and the demonstrations count.

    Args:
        program: the one that is served, with its state.
        adapter: writes the messages.
        rows: the first three are the probes: of a text only its place counts.

    Raises:
        UsageError: If there is no row, or the adapter cannot write the messages of a predictor.
    """
    if not rows:
        raise UsageError("a prompt's fingerprint needs a row to write the prompt for: the split has none")
    return digest({name: _messages(name, part, adapter, rows) for name, part in predictors(program).items()})


def literals_of(program: dspy.Module) -> dict[str, list[Any]]:
    """Give the values that each output field of a Literal or Enum type allows, also those in a list or Optional."""
    allowed = {name: allowed_values(field.annotation) for name, field in _outputs(program).items()}
    return {name: values for name, values in allowed.items() if values is not None}


def output_fields(program: dspy.Module) -> list[str]:
    """Give the names of what a program's predictors answer, in their order."""
    return list(_outputs(program))


def _outputs(program: dspy.Module) -> dict[str, Any]:
    parts = predictors(program).values()
    return {name: field for part in parts for name, field in part.signature.output_fields.items()}


def _declared(predictor: dspy.Predict) -> dict[str, Any]:
    signature = predictor.signature
    fields = [_field(name, field, name in signature.input_fields) for name, field in signature.fields.items()]
    config = {key: _told(value) for key, value in predictor.config.items() if not key.startswith(_NOT_DECODING)}
    return {"fields": fields, "config": config}


def _field(name: str, field: Any, is_input: bool) -> dict[str, Any]:
    extra = field.json_schema_extra
    return {
        "name": name,
        "role": "input" if is_input else "output",
        "type": type_name(field.annotation),
        "desc": extra.get("desc"),
        "constraints": [extra.get("constraints"), *map(_constraint, field.metadata)],
        "default": None if field.is_required() else _told(field.default),
    }


def _constraint(constraint: object) -> list[Any]:
    """Constraints are small objects that hold numbers, patterns or functions."""
    slots = getattr(constraint, "__dict__", None) or {
        name: getattr(constraint, name, None) for name in getattr(constraint, "__slots__", ())
    }
    return [type(constraint).__name__, {name: _told(value) for name, value in slots.items()}]


def _told(value: object) -> Any:
    """The value; of a function its source; of what else has no canonical form its name, never an address."""
    function = value if isinstance(value, FunctionType) else getattr(value, "func", None)  # a dspy.Tool has one
    if isinstance(function, FunctionType):
        return [function.__qualname__, _source(function)]
    if isinstance(value, dict):
        return {str(key): _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    try:
        return plain(value)
    except UsageError:
        return getattr(value, "__qualname__", type(value).__qualname__)


def _held(program: dspy.Module) -> dict[str, Any]:
    """What the modules hold that is neither a module nor DSPy's: it decides what a ``forward`` does."""
    import dspy

    found = {}
    for name, module in modules(program):
        if isinstance(module, dspy.Predict):
            continue
        own = {key: value for key, value in vars(module).items() if key not in _DSPYS and not _has_modules(value)}
        if own:
            found[name] = {key: _told(value) for key, value in sorted(own.items())}
    return found


def _has_modules(value: object) -> bool:
    import dspy

    if isinstance(value, dict):
        return any(map(_has_modules, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_modules, value))
    return isinstance(value, dspy.Module) or (isinstance(value, type) and issubclass(value, dspy.Signature))


def _code(program: dspy.Module) -> dict[str, Any]:
    """The methods of every class that the user wrote, so that a change of ``forward`` is noticed."""
    import dspy

    classes = {base for _, module in modules(program) for base in type(module).__mro__}
    own = {base.__name__: base for base in classes if issubclass(base, dspy.Module) and not is_dspys(base)}
    return {name: _methods(base) for name, base in sorted(own.items())}


def _methods(base: type) -> dict[str, str | None]:
    functions = {name: _function(value) for name, value in sorted(vars(base).items())}
    return {
        name: _source(function)
        for name, function in functions.items()
        if isinstance(function, FunctionType) and (name in _METHODS or not name.startswith("__"))
    }


def _function(value: object) -> object:
    """The function of a method of any kind."""
    if isinstance(value, property):
        return value.fget
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _source(method: FunctionType) -> str | None:
    try:
        return source_fingerprint(method)
    except UsageError:  # typed at a prompt, or closing over what has no canonical form
        return None


def _messages(name: str, predictor: dspy.Predict, adapter: dspy.Adapter, rows: Sequence[DataRow]) -> list[Any]:
    signature = predictor.signature
    try:
        return [adapter.format(signature, predictor.demos, _inputs(signature, row)) for row in rows[:_PROBES]]
    except Exception as error:
        raise UsageError(
            f"predictor {name}: {type(adapter).__name__} cannot write its messages: {type(error).__name__}: {error}"
        ) from error


def _inputs(signature: type[dspy.Signature], row: DataRow) -> Mapping[str, Any]:
    """What a row gives; of a text nothing but its place, since every adapter writes it as it is."""
    given = {name: row.fields[name] for name in signature.input_fields if name in row.inputs}
    return {name: f"<{name}>" if isinstance(value, str) else value for name, value in given.items()}
