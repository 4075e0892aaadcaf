"""``pytest-finetune rows``."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from pytest_finetune.core.records import RowState
from pytest_finetune.errors import UsageError
from pytest_finetune.reports.figures import printable

if TYPE_CHECKING:
    from pytest_finetune.store.browse import Browser, KeptRow, Selection

Function = TypeVar("Function", bound=Callable[..., Any])

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_COUNTED = ("score", "tokens", "cost", "latency")
_GIVE_WAY = ("task", "stage", "model", "served by", "error or output")  # where the terminal is narrow
_NARROWEST = 8  # characters
_LEFT_OUT = ("served by", "latency", "tokens", "cost", "error or output", "asked", "model", "task")  # then, in turn
_LONGEST = 200  # characters of an error or output
_PREFIX = 8  # characters of a row's id
_GAP = "  "
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _ago(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """When it was, so long ago."""
    from pytest_finetune.store.quantities import age

    try:
        return None if value is None else time.time() - age(value)
    except UsageError as error:
        raise click.BadParameter(f"{error}, not {value!r}.", ctx, param) from None


def _filters(function: Function) -> Function:
    """The options that say which rows, and of which store."""
    for option in (
        click.option("--root", type=_FOLDER, default=Path(), help="The project."),
        click.option("--store", type=click.Path(path_type=Path), help="The store; else that of the project."),
        click.option("--newer", "after", callback=_ago, metavar="AGE", help="Asked for within that time: 36h, 30d."),
        click.option(
            "--older", "before", callback=_ago, metavar="AGE", help="Asked for longer ago than that: 36h, 30d."
        ),
        click.option("--row", metavar="PREFIX", help="Rows whose id begins so."),
        click.option(
            "--state",
            type=click.Choice([state.value for state in RowState if state is not RowState.NOT_RUN]),
            help="Rows that ended so.",
        ),
        click.option("--model", metavar="NAME", help="Rows that this model was asked for; * stands for anything."),
        click.option("--stage", metavar="NAME", help="Rows of this stage."),
        click.option("--task", metavar="NAME", help="Rows of this task."),
    ):
        function = option(function)
    return function


@contextmanager
def _selected(*, root: Path, store: Path | None, **wanted: Any) -> Iterator[tuple[Browser, Selection]]:
    """The store, and the rows of it that the options say."""
    from pytest_finetune.store.browse import Selection, browsing
    from pytest_finetune.workflow.run import STORE
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root.resolve())
    with browsing(store or settings.folder / STORE, text=settings.store_text) as browser:
        yield browser, Selection(**wanted)


@click.group(invoke_without_command=True)
@_filters
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show so many at most.")
@click.option("--all", "everything", is_flag=True, help="Show all.")
@click.pass_context
def command(ctx: click.Context, /, limit: int, everything: bool, **wanted: Any) -> None:
    """List the rows that were asked for, the latest first; export or prune them.

    A column that says nothing, or that a narrow terminal has no room for, is left out. Dates are
    in UTC. Where several metrics scored an answer, all their scores are shown.
    """
    if ctx.invoked_subcommand is not None:
        given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"put the options after {ctx.invoked_subcommand!r}, which they are for.")
        return
    with _selected(**wanted) as (browser, selection):
        count = browser.count(selection)
        most = count if everything else limit
        for line in _table([_cells(row) for row in browser.rows(selection, most=most)]):
            click.echo(line)
    if count == 0:
        click.echo("No row is selected.")
    elif count > most:
        click.echo(f"… and {count - most} more (--all)")


@command.command()
@_filters
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option(
    "-o", "--output", "file", type=click.File("w", encoding="utf-8"), default="-", help="A file; else the terminal."
)
def export(form: str, file: IO[str], **wanted: Any) -> None:
    """Write rows out, with all that is stored of them.

    In CSV a text that a spreadsheet would take for a formula, since it begins with = + - or @,
    has an apostrophe before it.
    """
    with _selected(**wanted) as (browser, selection):
        write = _write_jsonl if form == "jsonl" else _write_csv
        write(browser.rows(selection), file)


@command.command()
@_filters
@click.option("--all", "everything", is_flag=True, help="Delete all rows.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(everything: bool, dry_run: bool, yes: bool, **wanted: Any) -> None:
    """Delete answers and their scores. The next run that needs them asks for them again."""
    narrowed = any(value is not None for name, value in wanted.items() if name not in {"root", "store"})
    if narrowed is everything:
        raise click.UsageError("say which rows by --task, --older or another filter, or --all for every row.")
    with _selected(**wanted) as (browser, selection):
        answers = browser.answers(selection)
        count = sum(answers.values())
        click.echo(f"Answers to delete: {count}" + (", of them" if count else ""))
        for (task, stage), some in answers.items():
            click.echo(f"{some:6} of task {task!r}, stage {stage!r}")
        if count == 0 or dry_run or not (yes or click.confirm("Delete them?")):
            click.echo("Nothing is deleted.")
            return
        browser.drop(selection)
        click.echo("They are deleted.")


# --- writing out ----------------------------------------------------------------------------------------------


def _write_jsonl(rows: Iterator[KeptRow], file: IO[str]) -> None:
    for row in rows:
        values = {**asdict(row), "asked_at": _moment(row.asked_at).isoformat()}
        file.write(json.dumps(values, ensure_ascii=False) + "\n")


def _write_csv(rows: Iterator[KeptRow], file: IO[str]) -> None:
    from pytest_finetune.store.browse import KeptRow

    lines = csv.DictWriter(file, [field.name for field in fields(KeptRow)], lineterminator="\n")
    lines.writeheader()
    for row in rows:
        values = {**asdict(row), "asked_at": _moment(row.asked_at).isoformat(), "scores": json.dumps(row.scores)}
        lines.writerow({name: _no_formula(value) for name, value in values.items()})


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


# --- the table ------------------------------------------------------------------------------------------------


def _cells(row: KeptRow) -> dict[str, str]:
    """What the table says of a row, by column."""
    told = row.prompt_tokens is not None and row.completion_tokens is not None
    scores = sorted(set(row.scores.values()))
    text = row.error or row.output or ""
    cells = {
        "asked": f"{_moment(row.asked_at):%Y-%m-%d}",
        "task": row.task,
        "stage": row.stage,
        "model": row.model,
        "row": row.row[:_PREFIX],
        "state": row.state,
        "score": "/".join(f"{score:.3g}" for score in scores),
        "tokens": str((row.prompt_tokens or 0) + (row.completion_tokens or 0)) if told else "",
        "cost": "" if row.cost is None else f"${row.cost:.6f}",
        "latency": "" if row.latency is None else f"{row.latency:.2f} s",
        "served by": "" if row.served_model in {None, row.model} else str(row.served_model),
        "error or output": text[:_LONGEST],
    }
    return {name: printable(cell) for name, cell in cells.items()}


def _table(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Aligned lines that fit the terminal; a column that is empty throughout is left out."""
    from rich.cells import cell_len

    lines = [{name: name for name in rows[0]}, *rows] if rows else []
    widths = {name: max(cell_len(line[name]) for line in lines) for name in (rows[0] if rows else ())}
    widths = _shrunk({name: width for name, width in widths.items() if any(row[name] for row in rows)})
    for line in lines:
        cells = (_fitted(line[name], width, right=name in _COUNTED) for name, width in widths.items())
        yield _GAP.join(cells).rstrip()


def _shrunk(widths: dict[str, int]) -> dict[str, int]:
    """The widths that the terminal has room for."""
    room = shutil.get_terminal_size().columns
    least = {name: min(width, _NARROWEST) if name in _GIVE_WAY else width for name, width in widths.items()}
    for name in _LEFT_OUT:
        if _total(least) > room:
            least.pop(name, None)
    widths = {name: widths[name] for name in least}
    while _total(widths) > room and widths != least:
        widest = max((name for name in widths if widths[name] > least[name]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _fitted(text: str, width: int, *, right: bool) -> str:
    """The text, cut or filled to so many cells of the terminal."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)
