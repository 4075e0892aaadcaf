"""The kinds of values that a lock holds, each written in one way only."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from pytest_finetune.core.fingerprint import plain
from pytest_finetune.errors import UsageError

_DECIMALS = 6


def _rounded(figure: float) -> float:
    return round(figure, _DECIMALS) + 0.0  # -0.0 becomes 0.0: both would be written differently


def _to_the_second(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def _storable(value: Any) -> Any:
    """Sort keys, and leave out what is None: TOML has no word for it."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in sorted(value.items()) if item is not None}
    if isinstance(value, list):
        if None in value:
            raise UsageError(f"{value!r} cannot be written to the lock: TOML lists hold no None; leave it out")
        return [_storable(item) for item in value]
    return value


def _printable(name: str) -> str:
    """What steers a terminal, or ends a string of C, is no part of a name."""
    if not name.isprintable():
        raise ValueError("has characters that cannot be printed")
    return name


Name = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArtifactRef = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Figure = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_rounded)]
Moment = Annotated[AwareDatetime, AfterValidator(_to_the_second)]
Settings = Annotated[dict[str, Any], BeforeValidator(lambda value: _storable(plain(value)))]
Notes = Annotated[dict[str, str], AfterValidator(_storable)]


class Table(BaseModel):
    """A table of the lock: it is never changed, and holds no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
