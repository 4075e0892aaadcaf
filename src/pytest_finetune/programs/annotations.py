"""One name for each type, however it is spelled, on every Python version.

``Optional[str]`` and ``str | None``, ``typing.List`` and ``list`` are the same type and get the same name. What a
name says about an enum, a pydantic model, a dataclass or a typed dict is all of it, since adding a member changes
what may be answered, and the name of the class alone would not show it.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pytest_finetune.core.fingerprint import canonical_json, plain

_SIMPLE = ((Any, "Any"), (None, "None"), (type(None), "None"), (Ellipsis, "..."))
_COLLECTIONS = (list, tuple, set, frozenset)


def type_name(annotation: Any) -> str:
    """Give the canonical name of a type, as ``dict[str, int | None]`` or ``Colour{red = "r", blue = "b"}``."""
    return _name(annotation, ())


def allowed_values(annotation: Any) -> list[Any] | None:
    """Give the values that a Literal or Enum type allows, in its order; None for types that allow any.

    Optional ones, and collections of them, have the values of what they hold.
    """
    annotation = _unwrapped(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [plain(member) for member in annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [plain(value) for value in arguments if value is not None]
    if _is_union(origin):
        arms = [allowed_values(arm) for arm in arguments if arm is not type(None)]
        return None if None in arms else [value for arm in arms for value in arm or ()]
    if origin in _COLLECTIONS and len(set(arguments) - {Ellipsis}) == 1:
        return allowed_values(arguments[0])
    return None


def _name(annotation: Any, inside: tuple[Any, ...]) -> str:
    annotation = _unwrapped(annotation)
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{_names(annotation, inside)}]"
    if isinstance(annotation, str):
        return annotation
    for simple, name in _SIMPLE:
        if annotation is simple:
            return name
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(canonical_json(value).decode() for value in arguments)}]"
    if _is_union(origin):
        last = [arm for arm in arguments if arm is type(None)]
        return " | ".join(_name(arm, inside) for arm in [*(arm for arm in arguments if arm not in last), *last])
    if origin is not None:
        return f"{_own_name(origin)}[{_names(arguments, inside)}]" if arguments else _own_name(origin)
    return _class(annotation, inside)


def _names(annotations: Iterable[Any], inside: tuple[Any, ...]) -> str:
    return ", ".join(_name(annotation, inside) for annotation in annotations)


def _is_union(origin: Any) -> bool:
    return origin is Union or origin is types.UnionType


def _unwrapped(annotation: Any) -> Any:
    """See through Annotated, ``type X = …`` and NewType: they name a type that is already there."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            return annotation


def _own_name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def _class(annotation: Any, inside: tuple[Any, ...]) -> str:
    name = _own_name(annotation)
    if not isinstance(annotation, type) or annotation in inside or is_dspys(annotation):
        return name
    if issubclass(annotation, enum.Enum):
        members = (f"{member.name} = {canonical_json(member.value).decode()}" for member in annotation)
        return f"{name}{{{', '.join(members)}}}"
    fields = _fields(annotation)
    if fields is None:
        return name
    return f"{name}{{{', '.join(f'{key}: {_name(held, (*inside, annotation))}' for key, held in fields.items())}}}"


def is_dspys(cls: type) -> bool:
    """Say whether DSPy brings a class along, as ``dspy.Image``: what is in it is DSPy's own business."""
    return cls.__module__.partition(".")[0] == "dspy"


def _fields(annotation: type) -> Mapping[str, Any] | None:
    """The fields of a class that holds data; None for other classes."""
    if hasattr(annotation, "model_fields"):
        return {key: field.annotation for key, field in annotation.model_fields.items()}
    if dataclasses.is_dataclass(annotation) or hasattr(annotation, "__total__") or hasattr(annotation, "_fields"):
        return typing.get_type_hints(annotation)
    return None
