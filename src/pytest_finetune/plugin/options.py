"""Command-line options and ini keys: declared here, and read into `Settings`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_finetune.errors import UsageError

if TYPE_CHECKING:
    from pytest_finetune.workflow.settings import Settings

INI = {
    "models": ("args", "Lock files to gate on, as --finetune-models; a run gates on all of them."),
    "tasks": (
        "args",
        "Globs of tasks files, from the rootdir: teams/*/finetune_tasks.py (default: finetune_tasks.py).",
    ),
    "endpoint": ("string", "Endpoint of tasks that name none."),
    "require": ("bool", "Fail gated tests that are not evaluated, instead of skipping them."),
    "margin": ("string", "What a stage may lose without being called worse, in [0, 1) of the score."),
    "alpha": ("string", "One-sided error rate of a verdict."),
    "inconclusive": ("string", "What an inconclusive claim does: observed, fail or warn."),
    "concurrency": ("string", "How many calls are in flight at once."),
    "repeats": ("string", "How often each row is asked, where a marker does not say."),
    "spend_alpha": ("bool", "Judge the k-th candidate that the same rows judge at a smaller error rate."),
    "diagnosis": ("bool", "Ask a model that was trained what it suffers from, at the price of some calls (default)."),
    "rows_max_age": ("string", "Ask again for rows that were answered longer ago: 36h, 30d (default: never)."),
    "store_limit": ("string", "Size beyond which the row store drops its oldest rows (default: 1GB)."),
    "store_text": ("string", "What the row store keeps of answers and errors: full or hash."),
    "verify": ("string", "Allowed signers, one of whom must have signed the lock (a path, from the rootdir)."),
}


def _shard(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write K/N with 1 <= K <= N, such as 2/4")
    return int(number), int(of)


MODELS = "--finetune-models"
OPTIONS: dict[str, dict[str, Any]] = {
    MODELS: {
        "action": "append",
        "metavar": "LOCK",
        "help": "Evaluate the models that LOCK pins and judge every claim on them (repeatable).",
    },
    "--ft-retrain": {
        "action": "store_true",
        "help": "Build the stages of every claimed task anew, gate them, and lock those that hold.",
    },
    "--ft-accept": {
        "action": "store_true",
        "help": "Gate the candidate that was built or adopted before; lock it if every claim holds.",
    },
    "--ft-task": {
        "action": "append",
        "metavar": "NAME",
        "help": "With --ft-retrain: build only this task (repeatable).",
    },
    "--ft-endpoint": {
        "metavar": "NAME",
        "help": "With --ft-retrain: build on this endpoint, whatever the tasks name.",
    },
    "--ft-skip-check": {
        "action": "store_true",
        "help": "With --ft-retrain: build although pytest-finetune check would stop it.",
    },
    "--ft-locked": {
        "action": "store_true",
        "help": "Refuse a lock whose stages the tasks file would build otherwise (the default where CI is set).",
    },
    "--ft-frozen": {
        "action": "store_true",
        "help": "Gate such a lock as it is; what makes its scores incomparable is refused all the same.",
    },
    "--ft-inconclusive": {
        "choices": ("observed", "fail", "warn"),
        "help": "What an inconclusive claim does: settle it as observed, fail it, or only warn.",
    },
    "--ft-concurrency": {
        "type": int,
        "metavar": "N",
        "help": "How many calls are in flight at once (default: 32).",
    },
    "--ft-max-cost": {
        "type": float,
        "metavar": "DOLLARS",
        "help": "Stop asking before the run costs more than this; what was answered is kept.",
    },
    "--ft-offline": {
        "action": "store_true",
        "help": "Ask nothing: judge the rows that are recorded, in the store or beside the lock. Needs no key.",
    },
    "--ft-stop-early": {
        "action": "store_true",
        "help": "Evaluate no more rows than it takes to decide every claim, at the same error rates.",
    },
    "--ft-shard": {
        "type": _shard,
        "metavar": "K/N",
        "help": "Evaluate share K of N of the rows and judge nothing; join the stores with pytest-finetune merge.",
    },
}


def declare(parser: pytest.Parser) -> None:
    """Declare the options and ini keys; nothing else happens here."""
    group = parser.getgroup("finetune", "fine-tuned models (pytest-finetune)")
    for name, settings in OPTIONS.items():
        group.addoption(name, dest="ft_models" if name == MODELS else name[2:].replace("-", "_"), **settings)
    for name, (kind, text) in INI.items():
        parser.addini(f"ft_{name}", text, type=kind, default=None)  # type: ignore[arg-type]  # one of pytest's kinds


def is_asked_for(config: pytest.Config) -> bool:
    """Whether the run gates or builds models at all."""
    return bool(locks(config) or config.getoption("ft_models") or _ini(config, "models"))


def locks(config: pytest.Config) -> bool:
    """Whether the run judges a candidate, and locks it if it holds."""
    return bool(config.getoption("ft_retrain") or config.getoption("ft_accept"))


def read(config: pytest.Config) -> Settings:
    """The settings of this run.

    Raises:
        pytest.UsageError: If one is wrong.
    """
    from pytest_finetune.workflow.settings import read_settings

    try:
        settings = read_settings(
            config.rootpath,
            options={
                "models": config.getoption("ft_models"),
                "inconclusive": config.getoption("ft_inconclusive"),
                "concurrency": config.getoption("ft_concurrency"),
                "max_cost": config.getoption("ft_max_cost"),
            },
            ini={name: _ini(config, name) for name in INI},
            called_from=config.invocation_params.dir,
        )
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    return replace(
        settings,
        rebuild_on=config.getoption("ft_endpoint"),
        rebuild=tuple(config.getoption("ft_task") or ()),
        offline=config.getoption("ft_offline"),
        stop_early=config.getoption("ft_stop_early"),
        skip_check=config.getoption("ft_skip_check"),
        shard=config.getoption("ft_shard"),
        locked=_locked(config),
    )


def check(config: pytest.Config) -> None:
    """Refuse options that would have no effect.

    Raises:
        pytest.UsageError: With what they need.
    """
    which = "--ft-retrain" if config.getoption("ft_retrain") else "--ft-accept"
    if config.getoption("ft_accept") and config.getoption("ft_retrain"):
        raise pytest.UsageError(
            "--ft-retrain builds a candidate anew, and --ft-accept takes the one there is: drop one"
        )
    if config.getoption("ft_locked") and (config.getoption("ft_frozen") or locks(config)):
        other = f"{which} writes the lock" if locks(config) else "--ft-frozen says the opposite"
        raise pytest.UsageError(f"{other}: drop --ft-locked")
    for option in ("--ft-task", "--ft-endpoint", "--ft-skip-check"):
        needed = locks(config) if option == "--ft-task" else config.getoption("ft_retrain")
        if config.getoption(option) and not needed:
            raise pytest.UsageError(f"{option} says what to build, and so needs --ft-retrain")
    if locks(config):
        _refuse_parts(config, which)
    offline, shard = config.getoption("ft_offline"), config.getoption("ft_shard")
    if locks(config) and (offline or shard):
        raise pytest.UsageError(f"{'--ft-offline' if offline else '--ft-shard'} builds nothing: drop {which}")
    if config.getoption("ft_stop_early") and (locks(config) or shard):
        other = f"{which} locks" if locks(config) else "--ft-shard evaluates"
        raise pytest.UsageError(f"{other} all rows: drop --ft-stop-early")
    if offline and shard:
        raise pytest.UsageError("--ft-offline asks nothing, and so has no shares: drop --ft-shard")
    if (offline or shard or config.getoption("ft_stop_early")) and not is_asked_for(config):
        raise pytest.UsageError(
            "--ft-offline, --ft-shard and --ft-stop-early say how to evaluate: add --finetune-models=models.lock"
        )


def _refuse_parts(config: pytest.Config, which: str) -> None:
    """A task is locked when all of its claims hold: a run must see them all to know which these are."""
    parts = [argument for argument in config.args if "::" in argument]
    if config.getoption("lf", default=False):
        parts.append("--last-failed")
    if parts:
        raise pytest.UsageError(
            f"{which} locks a task if all of its claims hold, and {parts[0]} leaves some of them out: name whole"
            " files, and narrow a build with --ft-task NAME"
        )


def _locked(config: pytest.Config) -> bool:
    if locks(config) or config.getoption("ft_frozen"):
        return False
    return bool(config.getoption("ft_locked") or os.environ.get("CI"))


def _ini(config: pytest.Config, name: str) -> Any:
    """An ini value, or ``None`` where it was not given.

    Raises:
        pytest.UsageError: If pytest cannot read it.
    """
    try:
        value = config.getini(f"ft_{name}")
    except (ValueError, pytest.UsageError) as error:  # the latter from pytest 9 on
        raise pytest.UsageError(f"setting {name!r} (from ini): {error}: write true or false") from None
    return None if value in ("", []) else value
