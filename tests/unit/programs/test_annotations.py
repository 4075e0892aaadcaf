# ruff: noqa: PYI030, PYI051, PYI061, UP006, UP007, UP035, UP045  (other spellings are what is tested)
from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Dict, List, Literal, NewType, Optional, Tuple, TypedDict, Union

import dspy
import pydantic
import pytest

from pytest_finetune.programs import allowed_values, type_name


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Ticket(pydantic.BaseModel):
    """A ticket, which may belong to another one."""

    number: int
    colour: Colour | None = None
    parent: Ticket | None = None


@dataclass
class Point:
    x: float
    y: float


class Options(TypedDict):
    deep: bool


class Pair(typing.NamedTuple):
    left: int
    right: str


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (str, "str"),
        (None, "None"),
        (Any, "Any"),
        (Optional[str], "str | None"),
        (str | None, "str | None"),
        (None | str, "str | None"),
        (Union[int, str, None], "int | str | None"),
        (List[str], "list[str]"),
        (list[str], "list[str]"),
        (List, "list"),
        (Dict[str, List[int]], "dict[str, list[int]]"),
        (Tuple[int, ...], "tuple[int, ...]"),
        (Sequence[str], "Sequence[str]"),
        (typing.Sequence[str], "Sequence[str]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (Literal["b", "a"], 'Literal["b", "a"]'),
        (Literal[1, True, None], "Literal[1, true, null]"),
        (Literal[Colour.RED], 'Literal["r"]'),
        (Annotated[int, "positive"], "int"),
        (UserId, "int"),
        (Colour, 'Colour{RED = "r", BLUE = "b"}'),
        (Point, "Point{x: float, y: float}"),
        (Options, "Options{deep: bool}"),
        (Pair, "Pair{left: int, right: str}"),
        (Ticket, 'Ticket{number: int, colour: Colour{RED = "r", BLUE = "b"} | None, parent: Ticket | None}'),
        (dspy.Image, "Image"),
    ],
)
def test_each_type_has_one_name(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (Literal["a", 1], ["a", 1]),
        (Optional[Literal["a", "b"]], ["a", "b"]),
        (Literal["a"] | Literal["b"], ["a", "b"]),
        (Literal["a", None], ["a"]),
        (list[Literal["a", "b"]], ["a", "b"]),
        (tuple[Colour, ...], ["r", "b"]),
        (Colour, ["r", "b"]),
        (Annotated[Colour, "any"], ["r", "b"]),
        (Literal["a"] | str, None),
        (list[str], None),
        (dict[str, Colour], None),
        (bool, None),
    ],
)
def test_values_that_a_type_allows(annotation: Any, values: list[object] | None) -> None:
    assert allowed_values(annotation) == values
