"""Rows on which the two sides of a claim differ, a few short lines each."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping

from pytest_finetune.core.claims import Claim, Reading
from pytest_finetune.core.results import Flip, Result
from pytest_finetune.reports.figures import claim_of, printable

_NARROWEST, _WIDEST = 60, 110  # cells of the terminal
_SPARE = 6  # by which a summary indents the rows
_INDENT = "    "
_ARROW = " -> "
_ID = 8  # characters of a row's id


def flipped(result: Result) -> Iterator[str]:
    """The flipped rows that a result carries, and the command that shows the others."""
    if not result.flips:
        return
    claim = claim_of(result)
    yield f"{heading(claim)}, worst first:"
    for flip in result.flips:
        yield from flip_lines(flip)
    others = result.verdict.wins + result.verdict.losses - len(result.flips)
    if others > 0:
        yield printable(f"  … and {others:,} more: {_command(result, claim)}")


def heading(claim: Claim) -> str:
    """Whose answers are shown: ``Flipped rows (baseline -> finetuned)``."""
    assert isinstance(claim.right, Reading)  # noqa: S101  # against a number no row flips
    return f"Flipped rows ({claim.right.stage}{_ARROW}{claim.left.stage})"


def flip_lines(flip: Flip) -> Iterator[str]:
    """Where the row is, what was asked and expected, and what both sides answered; as wide as the terminal."""
    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST) - _SPARE
    yield printable(f"  {flip.where}, row {flip.row_id[:_ID]}: {'won' if flip.difference > 0 else 'lost'}")
    for label, text in (("asked", flip.inputs), ("expected", flip.expected)):
        start = f"{_INDENT}{label:<10}"
        yield start + _value(text, width - len(start))
    start = f"{_INDENT}{'answered':<10}"
    yield start + _change(flip, width - len(start) - len(_ARROW))


def _change(flip: Flip, room: int) -> str:
    """Both answers; a short one leaves its room to the other."""
    before, after = flip.before or "(nothing)", flip.after or "(nothing)"
    taken = _cells(_value(before, room // 2))
    after = _value(after, room - taken)
    return f"{_value(before, room - _cells(after))}{_ARROW}{after}"


def _value(text: str, room: int) -> str:
    """The value of the one field; several fields with their names, each cut to its share; else the text."""
    fields = _fields(text)
    if fields is None:
        return _cut(text, room)
    if len(fields) == 1:
        return _cut(_plain(next(iter(fields.values()))), room)
    share = max(room // len(fields) - 2, 1)
    return _cut(", ".join(_cut(f"{name}: {_plain(value)}", share) for name, value in fields.items()), room)


def _fields(text: str) -> Mapping[str, object] | None:
    """The fields of a JSON object; None where the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # a model's answer may be any text
        return None
    return found if isinstance(found, dict) and found else None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, room: int) -> str:
    """The text on one line, cut to so many cells of the terminal."""
    from rich.cells import set_cell_size

    text = " ".join(printable(text).split())
    return text if _cells(text) <= room else f"{set_cell_size(text, max(room - 1, 0)).rstrip()}…"


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _command(result: Result, claim: Claim) -> str:
    """What shows all flipped rows of a claim."""
    options = map(shlex.quote, result.flips_options)
    return " ".join(["pytest-finetune flips", shlex.quote(result.task), f'"{claim}"', *options])
