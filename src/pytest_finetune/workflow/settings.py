"""Settings: one table in ``pyproject.toml``, and what overrides it.

The precedence is option > environment > pytest's ini > ``[tool.pytest-finetune]`` > default (a marker's argument
stands above them all, where the claim is read). Every value remembers where it came from.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from pytest_finetune.core.leaks import MAX_NEAR
from pytest_finetune.core.pricing import OPENAI_PRICES, SANDBOX_PRICES, Price, Prices
from pytest_finetune.core.prospects import Limits
from pytest_finetune.core.records import Inconclusive
from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.endpoints.table import EndpointTable
from pytest_finetune.errors import UsageError
from pytest_finetune.store.privacy import StoredText
from pytest_finetune.store.quantities import age, size

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "tool.pytest-finetune"
LOCK = "models.lock"
"""What a lock is called where nobody names one: it is beside its tasks file."""
FOLDER = ".pytest-finetune"
"""Where rows, journals and candidates are kept: git-ignored, fit for a CI cache."""

OPENAI = Endpoint("openai", "https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")


Table = TypeVar("Table", bound=BaseModel)


class PriceTable(BaseModel):
    """``[tool.pytest-finetune.prices.MODEL]``: US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid")

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    training: float | None = Field(None, ge=0)


class CheckTable(BaseModel):
    """``[tool.pytest-finetune.check]``: what is not set is as in `Limits`."""

    model_config = ConfigDict(extra="forbid")

    rows: int | None = Field(None, ge=1)
    better_rows: int | None = Field(None, ge=1)
    floor: int | None = Field(None, ge=1)
    score: float | None = Field(None, ge=0, le=1)
    traces: int | None = Field(None, ge=0)
    outside: float | None = Field(None, ge=0, le=1)
    goal: float | None = Field(None, ge=0, le=1)
    calls_per_month: int | None = Field(None, ge=0)
    months: int | None = Field(None, ge=1)
    hosting: float | None = Field(None, ge=0)


def _read_as(read: Callable[[str], float]) -> Callable[[object], float]:
    """A validator for what is written with a unit."""

    def validate(value: object) -> float:
        try:
            return read(value if isinstance(value, str) else "")
        except UsageError as error:
            raise PydanticCustomError("quantity", "{advice}", {"advice": str(error)}) from None

    return validate


class _Values(BaseModel):
    """Every setting that can be given in more than one place, with its default."""

    model_config = ConfigDict(extra="forbid")

    models: list[str] = []
    tasks: list[str] = ["finetune_tasks.py"]
    endpoint: str | None = None
    require: bool = False
    alpha: float = Field(0.05, gt=0, lt=0.5)
    margin: float | None = Field(None, ge=0, lt=1)
    inconclusive: Inconclusive | None = None
    concurrency: int = Field(32, ge=1, le=1024)
    row_timeout: float = Field(120.0, gt=0, allow_inf_nan=False)
    max_cost: float | None = Field(None, ge=0)
    repeats: int = Field(1, ge=1, le=100)
    spend_alpha: bool = False
    max_near_leaks: float = Field(MAX_NEAR, ge=0, le=1)
    diagnosis: bool = True
    rows_max_age: Annotated[float | None, BeforeValidator(_read_as(age))] = None
    store_limit: Annotated[int, BeforeValidator(_read_as(size))] = 10**9
    store_text: StoredText = StoredText.FULL
    shutdown_notice: int = Field(60, ge=0)
    verify: Annotated[str, Field(min_length=1)] | None = None


NAMES = tuple(_Values.model_fields)
LISTS = frozenset({"models", "tasks"})


@dataclass(frozen=True)
class Settings:
    """The settings of one run.

    Attributes:
        root: The project: the folder from which the paths of settings are read.
        models: Lock files, absolute; empty: those of the project, and the gate of pytest is off.
        tasks: Globs of tasks files, from ``root``.
        endpoint: The endpoint of tasks that name none.
        require: A gated test that is not evaluated fails instead of being skipped.
        alpha: The error rate of a verdict, one-sided.
        margin: What a stage may lose without being called worse; ``None``: the marker's own default.
        inconclusive: What an inconclusive claim does; ``None``: the claim's own default.
        concurrency: How many calls are in flight at once.
        row_timeout: Seconds after which a row is given up.
        max_cost: US dollars that the run may cost; ``None``: no limit.
        repeats: How often each row is asked, where a marker does not say.
        max_near_leaks: The share of test rows that may be near to what a stage was built from.
        diagnosis: A model that was trained is asked about rows, to see what it suffers from.
        spend_alpha: The k-th candidate that a set of rows judges is judged at a smaller error rate.
        rows_max_age: Seconds after which an answer is asked for again; ``None``: never.
        store_limit: Bytes beyond which the row store drops old answers.
        store_text: What the row store keeps of answers and errors.
        shutdown_notice: Days before a model is shut down from which on ``lock check --live`` warns of it.
        verify: The allowed signers, one of whom must have signed each lock; ``None``: none need be signed.
        rebuild_on: The endpoint on which a retrain builds, whatever the tasks name; ``None``: on theirs.
        rebuild: The tasks that a retrain is narrowed to; empty: all that are claimed.
        locked: Stages that the tasks file would build otherwise are refused, and not only those that run otherwise.
        offline: Nothing is asked: only what was recorded is judged.
        stop_early: A claim goes no further once it is decided.
        skip_check: A retrain does not ask whether it is worth starting.
        shard: Which share of the rows is evaluated, of how many: ``(2, 4)``; ``None``: all, and they are judged.
        limits: What a task is held against before it is fine-tuned.
        endpoints: The endpoints that the table names.
        own_prices: The prices that the table names, by model.
        origins: For each setting, where its value came from.
    """

    root: Path
    models: tuple[Path, ...]
    tasks: tuple[str, ...]
    endpoint: str | None
    require: bool
    alpha: float
    margin: float | None
    inconclusive: Inconclusive | None
    concurrency: int
    row_timeout: float
    max_cost: float | None
    repeats: int
    spend_alpha: bool
    max_near_leaks: float
    diagnosis: bool
    rows_max_age: float | None
    store_limit: int
    store_text: StoredText
    shutdown_notice: int
    verify: Path | None = None
    rebuild_on: str | None = None
    rebuild: tuple[str, ...] = ()
    locked: bool = False
    offline: bool = False
    stop_early: bool = False
    skip_check: bool = False
    shard: tuple[int, int] | None = None
    limits: Limits = field(default_factory=Limits)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    own_prices: Mapping[str, Price] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where what is not committed is kept."""
        return self.root / FOLDER

    @property
    def oldest_row(self) -> float:
        """Answers before this time are asked for again (seconds since 1970)."""
        return 0.0 if self.rows_max_age is None else time.time() - self.rows_max_age

    def prices(self, endpoint: Endpoint) -> Prices:
        """What the models of an endpoint cost: the user's prices, then ours for the endpoints that they are of."""
        return self.own_prices, {SANDBOX: SANDBOX_PRICES, OPENAI.name: OPENAI_PRICES}.get(endpoint.name, {})

    def rebuilt_on(self, task: str) -> str | None:
        """The endpoint on which a task is built in the place of its own, where the run was told so."""
        return self.rebuild_on if not self.rebuild or task in self.rebuild else None

    def endpoint_named(self, name: str | None, task: str) -> Endpoint:
        """The endpoint of a task.

        Args:
            name: The task's own; ``None``: the setting.
            task: The task's name.

        Raises:
            UsageError: If there is none, or none of that name. There is no silent paid default.
        """
        chosen = self.rebuilt_on(task) or name or self.endpoint
        if chosen is None:
            raise UsageError(
                f"task {task!r} has no endpoint: give Task(endpoint=…), or set it for all tasks in pyproject.toml:"
                f' [{TABLE}] endpoint = "sandbox" (local, no key) or "openai" (paid)'
            )
        known = {SANDBOX: Endpoint(SANDBOX, ""), OPENAI.name: OPENAI, **self.endpoints}
        if chosen not in known:
            raise UsageError(
                f"task {task!r}: there is no endpoint {chosen!r}; known are {', '.join(sorted(known))}."
                f" Add [{TABLE}.endpoints.{chosen}] with base_url or preset to pyproject.toml"
            )
        return known[chosen]


def read_settings(
    root: Path,
    *,
    options: Mapping[str, Any] | None = None,
    ini: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    called_from: Path | None = None,
) -> Settings:
    """The settings of a run in a project.

    Args:
        root: The folder of ``pyproject.toml``.
        options: What the command line gave; ``None`` values were not given.
        ini: What pytest's ini gave, likewise.
        environment: ``PYTEST_FINETUNE_NAME`` variables; the process's own unless given.
        called_from: The folder from which the paths of options are read; the current one unless given.

    Raises:
        UsageError: If a setting is unknown or of the wrong kind; the message names it and where it was read.
    """
    table, endpoints, own_prices, limits = _table(root)
    variables = os.environ if environment is None else environment
    sources = (
        ("option", dict(options or {})),
        ("environment", {name: variables.get(f"PYTEST_FINETUNE_{name.upper()}") for name in NAMES}),
        ("ini", dict(ini or {})),
        (f"[{TABLE}]", table),
    )
    values: dict[str, Any] = {}
    origins = dict.fromkeys(NAMES, "default")
    for name in NAMES:
        for origin, source in sources:
            given = source.get(name)
            if given is not None and given != []:
                values[name] = given.split() if name in LISTS and isinstance(given, str) else given
                origins[name] = origin
                break
    checked = _checked(values, origins)
    base = (called_from or Path.cwd()) if origins["models"] == "option" else root
    models = tuple(_existing(Path(given), base, root) for given in checked.models)
    fields = {name: getattr(checked, name) for name in NAMES}
    fields |= {"models": tuple(dict.fromkeys(models)), "tasks": tuple(checked.tasks)}
    fields["verify"] = None if checked.verify is None else root / checked.verify
    return Settings(root=root, endpoints=endpoints, own_prices=own_prices, limits=limits, origins=origins, **fields)


def projects_above(path: Path) -> Iterator[Path]:
    """The folders above a file whose ``pyproject.toml`` has our table, the nearest first.

    Raises:
        UsageError: If one cannot be read: it may have the table.
    """
    return (folder for folder in path.parents if _own_table(folder / "pyproject.toml") is not None)


def _existing(path: Path, base: Path, root: Path) -> Path:
    """A path of an option: from the directory of the call, then from the root."""
    for folder in (base, root):
        if (folder / path).exists():
            return (folder / path).resolve()
    return (base / path).resolve()


def _checked(values: dict[str, Any], origins: Mapping[str, str]) -> _Values:
    try:
        return _Values.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise UsageError(f"setting {name!r} (from {origins[name]}): {first['msg']}, not {first['input']!r}") from None


def _table(root: Path) -> tuple[dict[str, Any], dict[str, Endpoint], dict[str, Price], Limits]:
    path = root / "pyproject.toml"
    table = dict(_own_table(path) or {})
    endpoints = _entries(path, "endpoints", table.pop("endpoints", {}), EndpointTable)
    prices = _entries(path, "prices", table.pop("prices", {}), PriceTable)
    limits = _entries(path, "", {"check": table.pop("check", {})}, CheckTable)["check"]
    unknown = sorted(set(table) - set(NAMES))
    if unknown:
        raise UsageError(
            f"{path}: [{TABLE}] has no setting {unknown[0]!r}; known are {', '.join(NAMES)}, check, endpoints, prices"
        )
    return (
        table,
        {name: _endpoint(path, name, entry) for name, entry in endpoints.items()},
        {name: Price(**entry.model_dump()) for name, entry in prices.items()},
        Limits(**limits.model_dump(exclude_none=True)),
    )


def _own_table(path: Path) -> dict[str, Any] | None:
    """Our table of a ``pyproject.toml``; None: it has none, or is not there."""
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    given = tool.get("pytest-finetune") if isinstance(tool, dict) else tool
    if given is not None and not isinstance(given, dict):
        raise UsageError(f"{path}: [{TABLE}] must be a table of settings, not {given!r}")
    return given


def _endpoint(path: Path, name: str, table: EndpointTable) -> Endpoint:
    endpoint = table.endpoint(name, path.parent)
    if endpoint.ca_bundle is not None and not Path(endpoint.ca_bundle).is_file():
        raise UsageError(f"{path}: [{TABLE}] endpoints.{name}.ca_bundle: there is no file {endpoint.ca_bundle}")
    return endpoint


def _entries(path: Path, name: str, given: object, kind: type[Table]) -> dict[str, Table]:
    """The tables below a name, each of them checked."""
    try:
        return TypeAdapter(dict[str, kind]).validate_python(given)  # type: ignore[valid-type]  # a class, at run time
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in (name, *first["loc"]) if part)
        raise UsageError(f"{path}: [{TABLE}] {where}: {first['msg']}") from None
