"""The program that CI tested, as production runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import DriftError, LockError, NotPromoted, UsageError
from pytest_finetune.task import ADAPTERS, FINETUNED, adapter_of

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.lock.model import Entry, Lock, Version
    from pytest_finetune.workflow.settings import Settings

Loadable = Literal["production", "candidate", "deprecated"]
Program = Callable[[], "dspy.Module"]

_ATTEMPTS = 3  # somebody waits for the answer: half a minute of retries, as in CI, is too long for that
_LONGEST = 5.0  # seconds between two of them


def load(
    lock: str | Path,
    task: str,
    *,
    stage: str = FINETUNED,
    state: Loadable = "production",
    tasks: str | Path | None = None,
    program: Program | dspy.Module | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
) -> dspy.Module:
    """Give the program that a lock pins for a task, with its model, as the gate ran it.

    Nothing is asked of the endpoint, and neither rows nor metric are read. Beside the lock, its folder of artifacts
    is needed for the program's state, and ``pyproject.toml`` (beside or above the lock) for the endpoint's table.
    What it gives can be called from any number of threads, and awaited with ``acall``; each call uses the pinned
    adapter, model and decoding, whatever DSPy's settings are around it. A request that fails for the network's or the
    endpoint's sake is sent up to three times; then the call raises what DSPy raises.

    Args:
        lock: The path of ``models.lock``.
        task: The task's id; its name is enough where one task of the lock alone has it.
        stage: Which of its stages.
        state: ``production``: what was promoted, which may be an earlier version than the one that is pinned.
            ``candidate``: what has passed the gate and was not promoted, for a canary. ``deprecated``: what was
            in production before, to fall back to.
        tasks: The tasks file; ``None``: those that the settings name.
        program: The program, or what makes it, in place of the tasks file's, which is then not needed.
        base_url: Where the sandbox listens, for a lock that pins the sandbox.
        timeout: Seconds to wait for the next byte of an answer; ``None``: as the endpoint's table or the settings do.

    Returns:
        A module with the pinned version (`pytest_finetune.lock.Version`) as its ``version``.

    Raises:
        NotPromoted: If no version of the stage is in that state.
        DriftError: If the program or the endpoint is not the one that was tested.
        LockError: If the lock or the program's state is missing, damaged or changed; if a version was put into its
            state by hand; or if the setting ``verify`` asks for a signature, and the lock has none that holds.
        EndpointError: If the endpoint's key or a header is not to be had.
        UsageError: If an argument, a setting or the tasks file is wrong.
    """
    from pytest_finetune import programs
    from pytest_finetune.lock import Artifacts
    from pytest_finetune.lock.life import check_states
    from pytest_finetune.lock.signatures import read_trusted

    path = Path(lock).resolve()
    settings = _settings(path)
    pinned = read_trusted(path, settings.verify)
    entry = pinned.entry(_id(pinned, task), stage)
    check_states(entry)
    version = _version(path, entry, state)
    made = _program(settings, version, tasks, program)
    loaded = programs.load_state(made, Artifacts.beside(path).get_json(version.artifacts.program))
    line = _line(settings, version, base_url, timeout)
    lms = {name: line.lm(tuned.asked_as, **version.decoding) for name, tuned in version.models.items()}
    served = programs.served(programs.attach(loaded, lms), adapter_of(_adapter(version)))
    served.version = version
    return served


def _id(lock: Lock, task: str) -> str:
    """A task's id; its name is enough where one task alone has it."""
    named = [known for known in lock.tasks if _name(known) == task]
    return named[0] if len(named) == 1 and task not in lock.tasks else task


def _name(task: str) -> str:
    return task.rpartition("/")[2]


def _version(path: Path, entry: Entry, state: Loadable) -> Version:
    """The version in a state, or why there is none."""
    if state not in ("production", "candidate", "deprecated"):
        raise UsageError(f"state={state!r}: only production, candidate and deprecated versions are loaded")
    version = entry.in_state(state)
    if version is None:
        known = ", ".join(f"{one.identity} ({one.state})" for one in entry.versions)
        stage = "" if entry.stage == FINETUNED else f" --stage {entry.stage}"
        raise NotPromoted(
            f"{entry.name}: nothing is {'in production' if state == 'production' else state} in {path}; it has"
            f" {known}. Promote what is to serve: pytest-finetune promote {entry.task}{stage}; or name the state to"
            ' load, as state="candidate" for a canary'
        )
    return version


def _settings(lock: Path) -> Settings:
    """Those of the project that the lock is of: the nearest folder whose ``pyproject.toml`` has a table for us."""
    from pytest_finetune.workflow.settings import TABLE, read_settings

    for folder in lock.parents:
        project = folder / "pyproject.toml"
        if project.is_file() and TABLE in project.read_text(encoding="utf-8", errors="replace"):
            return read_settings(folder)
    return read_settings(lock.parent)


def _program(
    settings: Settings, version: Version, tasks: str | Path | None, program: Program | dspy.Module | None
) -> dspy.Module:
    """The program before its state is loaded, which must be the one that was tested."""
    import dspy

    from pytest_finetune.programs import program_fingerprint
    from pytest_finetune.workflow.tasks import load_tasks

    if program is None:
        file = None if tasks is None else Path(tasks).resolve()
        found = load_tasks(settings.root, settings.tasks) if file is None else load_tasks(file.parent, [file.name])
        program = found[version.task if version.task in found else _name(version.task)].program
    made = program if isinstance(program, dspy.Module) else program()
    if program_fingerprint(made) != version.fingerprints.program:
        raise DriftError(
            f"{version.name}: the program is not the one that {version.identity} was tested with"
            " (fingerprints.program): its fields, their types, its instructions or its code are others. Deploy the"
            f" code of its commit, or build and gate again: pytest --ft-retrain --ft-task {version.task}"
        )
    return made


def _line(settings: Settings, version: Version, base_url: str | None, timeout: float | None) -> Endpoint:
    """The pinned endpoint, as this process reaches it."""
    from dataclasses import replace

    from pytest_finetune.calls import Calling, Line, Retries, Traffic

    endpoint = _endpoint(settings, version)
    if (base_url is None) is (endpoint.name == SANDBOX):
        told = "say where it listens: base_url=sandbox.base_url"
        if base_url is not None:
            told = "its address is in pyproject.toml, base_url= is for the sandbox"
        raise UsageError(f"{version.name}: the lock pins endpoint {version.endpoint!r}: {told}")
    if base_url is not None:
        endpoint = replace(endpoint, base_url=base_url)
    endpoint.check()
    calling = Calling(
        Traffic(endpoint.at_once(settings.concurrency)),
        Retries(attempts=_ATTEMPTS, longest=_LONGEST),
        timeout=timeout or endpoint.timeout or settings.row_timeout,
    )
    return Line.to(endpoint, calling)


def _endpoint(settings: Settings, version: Version) -> Endpoint:
    name = version.endpoint.rpartition(" ")[0] or version.endpoint
    endpoint = settings.endpoint_named(name, version.task)
    if endpoint.identity != version.endpoint:
        raise DriftError(
            f"{version.name}: the lock pins endpoint {version.endpoint!r}, {settings.root / 'pyproject.toml'} has"
            f" {endpoint.identity!r} under that name: take back the address that the model was tested at"
        )
    return endpoint


def _adapter(version: Version) -> Any:
    if version.adapter not in ADAPTERS:
        raise LockError(f"{version.name}: there is no adapter {version.adapter!r}: known are {', '.join(ADAPTERS)}")
    return version.adapter
