"""``pytest-finetune jobs``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from pytest_finetune.cli import say
from pytest_finetune.reports.figures import printable
from pytest_finetune.secrets import shown

if TYPE_CHECKING:
    from pytest_finetune.workflow.jobs import Jobs, KnownJob

Function = TypeVar("Function", bound=Callable[..., object])

_ELSEWHERE = {"adopt": "pytest_finetune.cli.adopt"}
"""Verbs that have a module of their own, loaded when it is asked for."""


class _Verbs(click.Group):
    """Its own verbs, and those of other modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(ctx, name)
        command: click.Command = importlib.import_module(_ELSEWHERE[name]).command
        return command


def _where(function: Function) -> Function:
    """The options that say whose jobs."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in (
        click.option("--root", type=folder, default=Path(), help="The project."),
        click.option("--endpoint", metavar="NAME", help="Ask only this endpoint; else those that the journal names."),
    ):
        function = option(function)
    return function


@contextmanager
def _jobs(root: Path, endpoint: str | None) -> Iterator[Jobs]:
    from pytest_finetune.workflow.jobs import Jobs
    from pytest_finetune.workflow.run import Run
    from pytest_finetune.workflow.settings import read_settings

    run = Run(read_settings(root.resolve()), retrain=True)
    try:
        yield Jobs(run, say, endpoint)
    finally:
        run.close()


@click.group(cls=_Verbs, invoke_without_command=True)
@_where
@click.pass_context
def command(ctx: click.Context, root: Path, endpoint: str | None) -> None:
    """List the fine-tuning jobs that the journal or an endpoint knows of, the oldest first.

    A job that goes on is taken up by the command that began it, which is shown; it is not paid for
    twice. Of an endpoint's jobs those are listed that pytest-finetune began.
    """
    if ctx.invoked_subcommand is not None:
        given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            raise click.UsageError(f"put the options after {ctx.invoked_subcommand!r}, which they are for.")
        return
    with _jobs(root, endpoint) as jobs:
        found = jobs.all()
    if not found:
        say("There are no jobs. The command that begins one: pytest-finetune train")
    for job in found:
        for line in _told(job):
            say(printable(line))


@command.command()
@click.argument("job")
@_where
def watch(job: str, root: Path, endpoint: str | None) -> None:
    """Follow a job until it ends. Ctrl-C ends the watching, and not the job."""
    with _jobs(root, endpoint) as jobs:
        try:
            known = jobs.watch(job)
        except KeyboardInterrupt:
            say(f"Job {job} goes on; come back with: pytest-finetune jobs watch {job}")
            raise
    say(f"It made {known.model}.")
    _say_comeback(known)


@command.command()
@click.argument("job")
@_where
def resume(job: str, root: Path, endpoint: str | None) -> None:
    """Let a paused job go on."""
    with _jobs(root, endpoint) as jobs:
        known = jobs.resume(job)
    say(f"Job {job} goes on ({known.status}).")
    _say_comeback(known)


@command.command()
@click.argument("job")
@_where
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(job: str, root: Path, endpoint: str | None, yes: bool) -> None:
    """Cancel a job. What it has learnt is lost, and what it has cost is owed."""

    def confirm(known: KnownJob) -> bool:
        return yes or click.confirm(shown(f"Cancel job {job} on {known.endpoint} ({known.said or known.status})?"))

    with _jobs(root, endpoint) as jobs:
        known = jobs.cancel(job, confirm)
    say(f"Job {job}: {known.status}.")


@command.command()
@click.argument("job")
@_where
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(job: str, root: Path, endpoint: str | None, yes: bool) -> None:
    """Never take a JOB up again: the next build starts a new one, which is paid for anew.

    JOB is an id, or the key of an attempt whose answer was lost. On the endpoint nothing changes.
    """
    question = f"Give up {job}, so that the next build pays for a new job?"
    if not (yes or click.confirm(question)):
        say("Nothing is forgotten.")
        return
    with _jobs(root, endpoint) as jobs:
        known = jobs.forget(job)
    say(f"{job} is not taken up again.")
    _say_comeback(known, "Start anew with")


def _told(job: KnownJob) -> Iterator[str]:
    """A job in a line or two; nothing is cut, since ids are copied."""
    whose = f" for predictor {job.predictor}" if job.predictor else ""
    yield f"{job.id or f'no job yet, key {job.key}'}  {job.status}"
    yield f"  of {job.begun:%Y-%m-%d %H:%M} UTC on {job.endpoint}, tunes {job.base}{whose}"
    if job.model:
        yield f"  made {job.model}"
    if job.said:
        yield f"  {job.said}"
    if job.status == "paused":
        yield f"  let it go on with: pytest-finetune jobs resume {job.id}"
    if job.goes_on and job.comeback:
        yield f"  take it up with: {job.comeback}"


def _say_comeback(job: KnownJob, words: str = "Take it up with") -> None:
    if job.comeback:
        say(f"{words}: {job.comeback}")
