"""The command ``pytest-finetune``: one file a verb, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from enum import IntEnum

import click

from pytest_finetune.core.text import encoded
from pytest_finetune.errors import FinetuneError, UsageError
from pytest_finetune.secrets import shown

VERBS = {
    "check": "Say whether tasks are worth fine-tuning, and what to do first if not.",
    "plan": "Say what a run will cost and what its rows can certify, before anything is spent.",
    "train": "Build the stages of tasks and keep them as a candidate for the lock.",
    "jobs": "List fine-tuning jobs; watch, resume, cancel or forget one.",
    "lock": "See what the lock pins, hold it against the tasks file, and mend it.",
    "promote": "Put a version that passed the gate into production.",
    "rollback": "Go back to an earlier version.",
    "retire": "Let a version never serve again.",
    "flips": "Show the rows on which the two sides of a claim differ.",
    "rows": "List the answers that are stored; export or prune them.",
    "merge": "Take the rows of other stores, such as those of CI shards, into one.",
    "serve": "Serve the sandbox: an OpenAI-shaped API whose models learn from the files they are given.",
}


class ExitStatus(IntEnum):
    """What the command's exit status says."""

    HELD = 0
    CLAIM_FAILED = 1
    INCONCLUSIVE = 2
    NOT_EVALUATED = 3
    USAGE = 4
    PENDING = 75
    INTERRUPTED = 130


class _Verbs(click.Group):
    """Knows its verbs by name, and imports one only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in VERBS:
            return None
        module = importlib.import_module(f"pytest_finetune.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs)
@click.version_option(package_name="pytest-finetune")
def commands() -> None:
    """Build, pin and judge the fine-tuned stages of DSPy programs.

    Exit status: 0 held, 1 a claim failed, 2 inconclusive, 3 not evaluated, 4 usage, 75 pending: a job
    was handed in and goes on.
    """


def say(text: str) -> None:
    """Print what a lock, a journal or an endpoint may have said: no secret, and nothing that steers the terminal."""
    click.echo(shown(text))


def main() -> None:
    """Run the command line; every error of ours is one message, never a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit status."""
    try:
        encoded(" ".join(arguments))  # what no file can hold is refused before anything is done
        result = commands.main(arguments, prog_name="pytest-finetune", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return ExitStatus.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return ExitStatus.INTERRUPTED
    except FinetuneError as error:
        click.echo(f"Error: {error}", err=True)
        return ExitStatus.USAGE if isinstance(error, UsageError) else ExitStatus.NOT_EVALUATED
    return int(result or ExitStatus.HELD)
