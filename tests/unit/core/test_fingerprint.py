from __future__ import annotations

import datetime as dt
import enum
import importlib.util
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pytest_finetune.core.fingerprint import (
    canonical_json,
    data_fingerprint,
    digest,
    plain,
    row_id,
    source_fingerprint,
)
from pytest_finetune.errors import UsageError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)


GOLDEN = Path(__file__).parent / "golden"


class Colour(enum.Enum):
    RED = "red"


class Ticket(BaseModel):
    text: str
    colour: Colour


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


def test_canonical_json_is_sorted_compact_and_unescaped() -> None:
    assert canonical_json({"b": [1, 1.0, True, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,1.0,true,null]}'.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Ticket(text="hi", colour=Colour.RED), {"text": "hi", "colour": "red"}),
        (Point(1, (2, 3)), {"x": 1, "y": [2, 3]}),
        ({"b", "a"}, ["a", "b"]),
        (dt.date(2026, 11, 21), "2026-11-21"),
    ],
)
def test_python_values_have_a_plain_form(value: object, expected: object) -> None:
    assert plain(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "nan is not a number that can be kept"),
        ({"a": [math.inf]}, "inf is not a number that can be kept"),
        ({1: "a"}, "the key 1 is not text"),
        (object(), "a value of type object has no canonical form"),
        ("\ud800", r"the text holds '\\ud800', half a character"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        canonical_json(value)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), SCALARS))
def test_the_order_of_fields_does_not_matter(fields: dict[str, Any]) -> None:
    assert row_id(dict(reversed(fields.items()))) == row_id(fields)


def test_digests_never_change() -> None:
    assert digest({"text": "hi"}) == "e7b995efa755c5ff3b84d2188b58cb4ae916a59470eb3761df8a814f11763500"
    assert row_id({"text": "hi"}) == "e7b995efa755c5ff"
    assert data_fingerprint(["b", "a"]) == "0473ef2dc0d324ab659d3580c1134e9d812035905c4781fdd6d529b0c6860e13"


def test_a_set_of_rows_has_no_order() -> None:
    assert data_fingerprint(["b", "a"]) == data_fingerprint(["a", "b"])
    assert data_fingerprint(["a"]) != data_fingerprint(["a", "b"])


METRIC = '''\
import re
from functools import lru_cache

LIMIT = 3
UNUSED = 1

def helper(text):
    return clean(text)[:LIMIT]

def clean(text):
    return re.sub("x", "y", text)

def unrelated():
    return UNUSED

@lru_cache
def metric(example, prediction, trace=None):
    """Compare the starts."""
    wanted = helper(example.text)
    return wanted == helper(prediction.text)
'''

REFORMATTED = """\
from functools import lru_cache
import re

LIMIT = 3  # letters
UNUSED = 1


def clean(text: str) -> str:
    return re.sub(
        'x',
        'y',
        text,
    )


def helper(text):
    # the start is enough
    return (clean(text)[:LIMIT])


@lru_cache
def metric(
    example, prediction,
    trace = None,
) -> bool:
    wanted = helper( example.text )
    return wanted == helper(prediction.text)
"""

Load = Callable[[str], Callable[..., object]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Give the function ``metric`` of a module with this source."""
    count = iter(range(100))

    def imported(source: str) -> Callable[..., object]:
        path = tmp_path / f"module_{next(count)}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found: Callable[..., object] = module.metric
        return found

    return imported


def test_source_fingerprints_never_change(load: Load) -> None:
    assert source_fingerprint(load(METRIC)) == "c9fbb336d382fb84cc403e1aebd6d096ac31c0ef67ed58f461b273dbcb86d8b6"


@pytest.mark.parametrize("name", ["metric-as-typed", "metric-formatted"])
def test_no_python_and_no_formatter_changes_a_source_fingerprint(load: Load, name: str) -> None:
    source = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert source_fingerprint(load(source)) == "56d86896b31c381f2513bf91caa3b185a407a0b1587804137542401841a497af"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1_000, 1e5", "1_000, 1e6"),
        ("while (n := LIMIT) > 2", "while (n := LIMIT) >= 2"),
        ('"a": 1, **rest', '"a": 2, **rest'),
        ("{text!r:>{WIDTH}}", "{text!s:>{WIDTH}}"),
        ("{LIMIT:.2f}", "{LIMIT:.3f}"),
        ('"tail"', '"tale"'),
        ("Ignore case.", "Mind the case."),
        ("deep=False", "deep=True"),
        ("example[1:2, ::3]", "example[1:2, ::4]"),
        ('r"\\d+"', 'r"\\d"'),
        ("except ValueError", "except KeyError"),
    ],
)
def test_each_part_of_the_syntax_counts(load: Load, old: str, new: str) -> None:
    source = (GOLDEN / "metric-formatted.txt").read_text(encoding="utf-8")
    assert old in source
    assert source_fingerprint(load(source.replace(old, new))) != source_fingerprint(load(source))


def test_formatting_comments_hints_and_docstrings_do_not_matter(load: Load) -> None:
    assert source_fingerprint(load(REFORMATTED)) == source_fingerprint(load(METRIC))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wanted == helper", "wanted != helper"),
        ("LIMIT = 3", "LIMIT = 4"),
        ('"x", "y"', '"x", "z"'),
        ("import re\n", "import regex_lookalike as re\n"),
        ("trace=None", "trace=0"),
        ("LIMIT = 3\n", "LIMIT = 3\nLIMIT += 1\n"),
    ],
    ids=["the function", "a constant", "a helper's helper", "an import", "a default", "a constant changed later"],
)
def test_a_change_of_meaning_shows(load: Load, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regex_lookalike", re)
    changed = METRIC.replace(old, new)
    assert changed != METRIC
    assert source_fingerprint(load(changed)) != source_fingerprint(load(METRIC))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UNUSED = 1", "UNUSED = 2"),
        ("LIMIT = 3", "wanted = 'a module-level namesake of a local'\nLIMIT = 3"),
        ("LIMIT = 3", "text = 'a namesake of a parameter'\nLIMIT = 3"),
    ],
)
def test_what_is_not_reached_does_not_matter(load: Load, old: str, new: str) -> None:
    assert source_fingerprint(load(METRIC.replace(old, new))) == source_fingerprint(load(METRIC))


def test_a_class_docstring_matters_since_it_may_be_a_prompt(load: Load) -> None:
    source = 'class Judge:\n    """Is it {}?"""\n\ndef metric(example, prediction, trace=None):\n    return Judge\n'
    assert source_fingerprint(load(source.format("right"))) != source_fingerprint(load(source.format("wrong")))


def test_conditional_definitions_are_followed(load: Load) -> None:
    source = (
        "try:\n    LIMIT = {}\nexcept NameError:\n    LIMIT = 0\n\ndef metric(e, p, trace=None):\n    return LIMIT\n"
    )
    assert source_fingerprint(load(source.format(1))) != source_fingerprint(load(source.format(2)))


CLOSURE = """\
def at_least(limit, measure):
    def metric(example, prediction, trace=None):
        return measure(prediction) >= limit
    return metric

def double(prediction):
    return 2 * prediction.value

def triple(prediction):
    return 3 * prediction.value

metric = at_least({limit}, {measure})
"""


def test_closed_over_values_and_functions_matter(load: Load) -> None:
    prints = {
        source_fingerprint(load(CLOSURE.format(limit=limit, measure=measure)))
        for limit in (1, 2)
        for measure in ("double", "triple")
    }
    assert len(prints) == 4


def test_a_recursive_inner_function_has_an_end(load: Load) -> None:
    source = (
        "def make():\n    def metric(e, p, trace=None):\n        return metric(e, p) if trace else 1\n"
        "    return metric\n\nmetric = make()\n"
    )
    assert len(source_fingerprint(load(source))) == 64


def test_a_constant_that_the_function_itself_sets_matters(load: Load) -> None:
    source = "CALLS = {}\n\ndef metric(e, p, trace=None):\n    global CALLS\n    CALLS += 1\n    return CALLS\n"
    assert source_fingerprint(load(source.format(0))) != source_fingerprint(load(source.format(9)))


def test_a_file_changed_after_its_import_is_an_error(load: Load) -> None:
    metric = load("def metric(e, p, trace=None):\n    return 1\n")
    Path(metric.__code__.co_filename).write_text("\n\ndef metric(e, p): return 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"metric is no longer where it was when .*module_0.py was imported"):
        source_fingerprint(metric)


class Scorer:
    def __call__(self, example: object, prediction: object, trace: object = None) -> bool:
        return example == prediction and trace is None


def _no_source() -> Callable[..., object]:
    namespace: dict[str, Any] = {}
    exec("def metric(e, p, trace=None): return 1", namespace)  # noqa: S102  # a function without a file
    found: Callable[..., object] = namespace["metric"]
    return found


def _closing_over(value: object) -> Callable[..., object]:
    def metric(example: object, prediction: object, trace: object = None) -> bool:  # noqa: ARG001
        return prediction is value

    return metric


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda e, p, trace=None: 1, r"<lambda> is a lambda"),  # noqa: ARG005
        (Scorer(), "Scorer is not a plain function"),
        (len, "len is not a plain function"),
        (_no_source(), r"metric has no readable source \(<string>\)"),
        (_closing_over(object()), "metric closes over 'value', a object"),
    ],
)
def test_source_that_cannot_be_seen_asks_for_a_version(function: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"{message}.* or pass version="):
        source_fingerprint(function)


class _Base:
    def forward(self) -> int:
        return 1


class _WithSuper(_Base):
    def forward(self) -> int:
        return super().forward() + 1


class _WithOtherSuper(_Base):
    def forward(self) -> int:
        return super().forward() + 2


def test_a_method_that_calls_super_is_read() -> None:
    one, other = source_fingerprint(_WithSuper.forward), source_fingerprint(_WithOtherSuper.forward)
    assert one != other
