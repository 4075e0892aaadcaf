from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.unit.core.cases import ABOVE, flips
from tests.unit.reports.cases import RESULTS, judged

from pytest_finetune.core.records import Scope
from pytest_finetune.core.results import Flip
from pytest_finetune.reports.flips import flip_lines, flipped

FLIP = Flip(
    row_id="a1b2c3d4e5f6",
    where="data/tickets.jsonl:412",
    inputs="I was charged twice",
    expected="billing",
    before='{"category":"billing"}',
    after='{"category":"account"}',
    difference=-1.0,
)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_row_is_told_in_four_lines() -> None:
    assert list(flip_lines(FLIP)) == [
        "  data/tickets.jsonl:412, row a1b2c3d4: lost",
        "    asked     I was charged twice",
        "    expected  billing",
        "    answered  billing -> account",
    ]
    won, *_ = flip_lines(replace(FLIP, difference=0.5))
    assert won.endswith(": won")


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        ('{"category":"account"}', "account"),
        ('{"score":0.5}', "0.5"),
        ('{"labels":["a","b"]}', '["a", "b"]'),
        ('{"category":"account","reasoning":"short"}', "category: account, reasoning: short"),
        ("I cannot say", "I cannot say"),
        ("refused: no", "refused: no"),
        ("{}", "{}"),
        ('["a"]', '["a"]'),
        ("", "(nothing)"),
        ('{"category":"two\\nlines\\u001b[31m"}', "two lines [31m"),
        ("[" * 100_000, None),
    ],
)
def test_the_value_of_the_one_field_is_shown_else_what_there_is(after: str, shown: str | None) -> None:
    line = list(flip_lines(replace(FLIP, after=after)))[-1]
    if shown is None:
        assert line == f"    answered  billing -> {'[' * 48}…"
    else:
        assert line == f"    answered  billing -> {shown}"


def test_each_of_several_fields_keeps_its_share() -> None:
    long = json.dumps({"reasoning": "because " * 50, "category": "account"})
    line = list(flip_lines(replace(FLIP, after=long)))[-1]
    assert line == "    answered  billing -> reasoning: because be…, category: account"


def test_a_long_text_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, room in (("70", 64), ("20", 54), ("500", 104)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = list(flip_lines(replace(FLIP, inputs="word " * 99, before="b" * 999, after="a" * 999)))
        assert len(lines[1]) in {room - 1, room}
        assert lines[1].endswith("…")
        assert len(lines[3]) == room
        assert lines[3].count("…") == 2


TEXTS = st.text() | st.dictionaries(st.text(), st.text() | st.integers(), max_size=4).map(json.dumps)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_whatever_is_said_the_lines_are_printable_and_fit(asked: str, expected: str, before: str, after: str) -> None:
    lines = list(flip_lines(replace(FLIP, inputs=asked, expected=expected, before=before, after=after)))
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert max(map(cell_len, lines)) <= 74


def test_the_rest_is_counted_and_the_command_given() -> None:
    result = judged(ABOVE, flips(10, 40, 150))
    lines = list(flipped(replace(result, flips=result.flips[:1])))
    assert lines[0] == "Flipped rows (baseline -> finetuned), worst first:"
    assert lines[-1] == '  … and 49 more: pytest-finetune flips tickets "finetuned >= baseline"'
    assert len(lines) == 6
    suite = judged(ABOVE, flips(10, 40, 150), scope=Scope("must not"))
    assert list(flipped(suite))[-1].endswith("flips tickets \"finetuned >= baseline\" --on 'must not'")


def test_nothing_is_left_to_count_where_all_are_shown() -> None:
    result = judged(ABOVE, flips(1, 1, 150))
    assert len(list(flipped(result))) == 1 + 2 * 4


def test_no_row_flips_against_a_number() -> None:
    assert list(flipped(RESULTS["bar failed"])) == []
