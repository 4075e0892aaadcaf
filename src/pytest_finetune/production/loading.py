"""The program that CI tested, as production runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import DriftError, LockError, NotPromoted, UsageError
from pytest_finetune.production.arguments import check_seconds
from pytest_finetune.task import ADAPTERS, FINETUNED, adapter_of

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.lock.model import Entry, Lock, Version
    from pytest_finetune.workflow.settings import Settings
    from pytest_finetune.workflow.tasks import Tasks

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
    is needed for the program's state, and ``pyproject.toml`` (beside or above the lock) for the endpoint's table. Of
    several that have a table ``[tool.pytest-finetune]`` the nearest is the project's; the signature that any of the
    others asks for is asked for, too. Only the tasks files of the task's own folder are imported.

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

    if timeout is not None:
        check_seconds("timeout", timeout)
    path = Path(lock).resolve()
    settings, *around = _projects(path)
    pinned = read_trusted(path, settings.verify, *_signers(settings, around))
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
        what = "in production" if state == "production" else state
        raise NotPromoted(f"{entry.name}: nothing is {what} in {path}; it has {known}. {_instead(entry, state)}")
    return version


def _instead(entry: Entry, state: Loadable) -> str:
    """What to do where no version is in a state."""
    if state == "candidate":
        return (
            "Only what is pinned and was never promoted is a candidate: build one with pytest --ft-retrain --ft-task"
            f" {entry.task}, or serve without a canary"
        )
    if state == "deprecated":
        return "Only what another version took the place of in production is: until then, fall back to another stage"
    stage = "" if entry.stage == FINETUNED else f" --stage {entry.stage}"
    return (
        f"Promote what is to serve: pytest-finetune promote {entry.task}{stage}; or name the state to load, as"
        ' state="candidate" for a canary'
    )


def _projects(lock: Path) -> list[Settings]:
    """The settings of the project that the lock is of, and of those that it is within."""
    from pytest_finetune.workflow.settings import projects_above, read_settings

    return [read_settings(folder) for folder in projects_above(lock)] or [read_settings(lock.parent)]


def _signers(settings: Settings, around: Sequence[Settings]) -> list[Path | None]:
    """Whose signatures are asked for besides the project's own: a folder's own table takes back no one else's."""
    return [] if settings.origins["verify"] == "environment" else [project.verify for project in around]


def _program(
    settings: Settings, version: Version, tasks: str | Path | None, program: Program | dspy.Module | None
) -> dspy.Module:
    """The program before its state is loaded, which must be the one that was tested."""
    import dspy

    from pytest_finetune.programs import program_fingerprint

    if program is None:
        found = _tasks(settings, version, tasks)
        program = found[version.task if version.task in found else _name(version.task)].program
    made = program() if callable(program) and not isinstance(program, dspy.Module) else program
    if not isinstance(made, dspy.Module):
        raise UsageError(
            f"{version.name}: program={program!r} is no dspy.Module, and makes none: give one, or what makes it, as"
            " program=lambda: YourModule()"
        )
    if program_fingerprint(made) != version.fingerprints.program:
        raise DriftError(
            f"{version.name}: the program is not the one that {version.identity} was tested with"
            " (fingerprints.program): its fields, their types, its instructions or its code are others. Deploy the"
            f" code of its commit, or build and gate again: pytest --ft-retrain --ft-task {version.task}"
        )
    return made


def _tasks(settings: Settings, version: Version, tasks: str | Path | None) -> Tasks:
    """The tasks of the folder that the version is of: what other teams' files import may not be deployed here."""
    from pytest_finetune.workflow.tasks import load_tasks

    if tasks is None:
        return load_tasks(settings.root, settings.tasks, version.task.rpartition("/")[0])
    file = Path(tasks).resolve()
    return load_tasks(file.parent, [file.name])


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
        endpoint = replace(endpoint, base_url=_address(base_url))
    endpoint.check()
    calling = Calling(
        Traffic(endpoint.at_once(settings.concurrency)),
        Retries(attempts=_ATTEMPTS, longest=_LONGEST),
        timeout=timeout or endpoint.timeout or settings.row_timeout,  # none of them may be 0
    )
    return Line.to(endpoint, calling)


def _address(base_url: str) -> str:
    """The address, if a table of an endpoint could have it."""
    from pydantic import ValidationError

    from pytest_finetune.endpoints.table import EndpointTable

    try:
        return EndpointTable(base_url=base_url).base_url or ""
    except ValidationError as error:
        raise UsageError(f"base_url= {error.errors(include_url=False)[0]['msg']}") from None


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
