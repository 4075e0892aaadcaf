"""``pytest-finetune flips``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_finetune.core.claims import Claim, Reading, ScopedClaim, parse
from pytest_finetune.core.records import Policy, Scope
from pytest_finetune.errors import NotEvaluated, UsageError

if TYPE_CHECKING:
    from pytest_finetune.core.results import Flip
    from pytest_finetune.workflow.run import Run


@click.command()
@click.argument("task")
@click.argument("claim")
@click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="The lock (repeatable); else all locks of the project.",
)
@click.option("--on", metavar="SUITE", help="The rows of this suite, in the place of the test split.")
@click.option("--max-rows", type=click.IntRange(1), help="The first so many rows, as a claim that was stopped early.")
@click.option("--limit", type=click.IntRange(1), help="Show so many at most.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The project."
)
def command(
    task: str, claim: str, lock: tuple[Path, ...], on: str | None, max_rows: int | None, limit: int | None, root: Path
) -> None:
    """Show the rows of a TASK on which the two sides of a CLAIM differ.

    pytest-finetune flips tickets "finetuned >= baseline"

    Those that speak against the claim come first. Nothing is asked: the rows are those that are
    recorded, in the local store or beside the lock. A chain is shown comparison by comparison.
    """
    claims = parse(claim)
    for each in claims:
        _refuse_what_cannot_flip(each)
    with _offline(root.resolve(), lock) as run:
        wanted = [ScopedClaim(task, each, Scope(on, max_rows=max_rows)) for each in claims]
        for scoped in wanted:
            run.check_claim(scoped)
        run.expect((scoped, Policy()) for scoped in wanted)
        for scoped in wanted:
            for line in _shown(scoped, _flips(run, scoped), limit):
                click.echo(line)


@contextmanager
def _offline(root: Path, lock: tuple[Path, ...]) -> Iterator[Run]:
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    settings = read_settings(root, options={"models": [str(path) for path in lock]})
    run = Run(replace(settings, offline=True, max_cost=None))
    try:
        run.check()
        yield run
    finally:
        run.close()


def _refuse_what_cannot_flip(claim: Claim) -> None:
    if not isinstance(claim.right, Reading) or not claim.measure.bounded:
        raise UsageError(
            f"'{claim}': rows flip between two sides that are right or wrong: compare the score (or format_errors) of"
            " two stages, as in 'finetuned >= baseline'"
        )


def _flips(run: Run, scoped: ScopedClaim) -> tuple[Flip, ...]:
    from pytest_finetune.workflow.gate import NothingAccepted

    try:
        return run.gate.flips(scoped)
    except NothingAccepted as error:
        raise NotEvaluated(str(error)) from None


def _shown(scoped: ScopedClaim, flips: Sequence[Flip], limit: int | None) -> Iterator[str]:
    from pytest_finetune.reports.flips import flip_lines, heading

    won = sum(flip.difference > 0 for flip in flips)
    yield f"{heading(scoped.claim)}: {won} won, {len(flips) - won} lost"
    for flip in flips[:limit]:
        yield from flip_lines(flip)
    if limit is not None and len(flips) > limit:
        yield f"  … and {len(flips) - limit} more"
