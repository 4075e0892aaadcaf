"""Whether what answered is what the lock pins, as far as endpoints name it; and what to do without a model.

Many endpoints repeat the name they were asked for, some name nothing: neither says anything. Others tell the dated
snapshot, or whatever stands behind the name: that is how a model shows which was swapped without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_finetune.core.evidence import is_of_family, names_model
from pytest_finetune.core.records import Row
from pytest_finetune.errors import EvidenceError
from pytest_finetune.lock.model import Entry, Version

_BETWEEN = ", "  # the models that have answered one row
_SHOWN = 3


def served_models(version: Version, rows: Iterable[Row]) -> tuple[str, ...]:
    """The names that an endpoint gave to what answered, beside those that it was asked by."""
    names = {name for row in rows for name in _names(row)}
    return tuple(sorted(names - version.names))


def check_server(version: Version, rows: Sequence[Row]) -> None:
    """Refuse the rows of a fine-tuned stage that its base has answered: an endpoint may do so, and say so.

    Raises:
        EvidenceError: If the endpoint names the base for a row, or any dated snapshot of it.
    """
    other = [row for row in rows if any(_is_base(name, version) for name in _names(row))]
    if other:
        raise EvidenceError(
            f"{len(other)} of {len(rows)} rows of stage {version.stage!r} of task {version.task!r} were answered by"
            f" its base (the endpoint says {other[0].served_model!r}), not by the pinned {version.model!r}, first"
            f" {other[0].row_id}: see that the endpoint serves the model, drop these rows (pytest-finetune rows prune"
            f" --stage {version.stage}), and run again"
        )


def remarks_on_server(version: Version, rows: Iterable[Row]) -> tuple[str, ...]:
    """A sentence if answers are, as the endpoint says, of a model that is neither the pinned nor the accepted one."""
    accepted = version.served_models
    names = [name for name in served_models(version, rows) if name not in accepted]
    if not accepted:
        names = [name for name in names if not any(names_model(name, own) for own in version.names)]
    if not names:
        return ()
    said = f"The endpoint says that stage {version.stage!r} was answered by {_listed(names)}"
    if not accepted:
        return (f"{said}, where the lock pins {version.model}: see that the endpoint serves what is pinned.",)
    changed = (
        f"it was {_listed(accepted)} when it was accepted, so that {version.asked_as!r} may be another model now"
    )
    anew = f"To accept it, build and gate again: pytest --ft-retrain --ft-task {version.task}"
    return (f"{said}; {changed}. {anew}",)


def way_out(entry: Entry, gone: Version) -> str:
    """What to do if the model of a version is gone: the commands, as the end of a sentence."""
    anew = f"build anew: pytest --ft-retrain --ft-task {entry.task}"
    if gone.model == gone.base:
        return f"name another model in the tasks file, and {anew}"
    if gone.model != entry.model:
        return f"put the pinned version into production: pytest-finetune promote {entry.task}; or {anew}"
    if any(version.state != "retired" and version.model != gone.model for version in entry.previous):
        return f"go back to an earlier version: pytest-finetune rollback {entry.task}; or {anew}"
    return anew


def _names(row: Row) -> list[str]:
    return row.served_model.split(_BETWEEN) if row.served_model else []


def _is_base(name: str, version: Version) -> bool:
    own = version.names - {version.base}
    return version.model != version.base and name not in own and is_of_family(name, version.base)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
