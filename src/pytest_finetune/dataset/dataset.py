"""The dataset that a user names in a tasks file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.fingerprint import data_fingerprint
from pytest_finetune.dataset.loading import Columns, Loaded, literal_problems, load, missing_fields
from pytest_finetune.dataset.rows import SPLITS, DataRow, dataset_error
from pytest_finetune.dataset.sources import Files, Objects, Source
from pytest_finetune.dataset.splits import Placement
from pytest_finetune.errors import UsageError

if TYPE_CHECKING:
    import dspy

_SHARES = (80, 10, 10)
ALL = "all"  # the rows of every split, for a dataset that nothing is built from


def to_example(row: DataRow) -> dspy.Example:
    """Give the row as DSPy wants it, with its input fields marked."""
    import dspy

    return dspy.Example(dict(row.fields)).with_inputs(*row.inputs)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows in three splits: ``train`` to build from, ``dev`` to tune on, ``test`` for the gate alone.

    Made by one of the ``from_`` methods, which only note what is asked for: files are read on first use,
    since a tasks file is imported whenever tests are collected. What is wrong with the data is then one
    ``DatasetError`` that names the first ten places.

    The keywords they share:

    * ``inputs``: names of the fields that the program is given; all others are outputs.
    * ``label``: the field to count and report rows by. Default: the only other field, if it has few values.
    * ``group``: a field whose equal values must stay in one split, as the customer of a ticket.
    * ``split``: a field that says train, dev (or validation, val) or test. Without it, rows are drawn.
    * ``salt``: any text; another one draws other splits.
    * ``shares``: of train, dev and test among drawn rows, on average; see ``dataset/splits.py`` for what that
      means.

    Where the data itself names only train and test, dev is drawn from train. Each split comes in the order of
    a salted hash, never in that of the file. Rows are identified by the hash of all their fields but
    ``split``: an exact duplicate is an error, and so are equal inputs, or one group, in two splits.
    """

    source: Source
    columns: Columns
    placement: Placement
    base: Path = Path()

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        inputs: Sequence[str],
        *,
        label: str | None = None,
        group: str | None = None,
        split: str | None = None,
        salt: str = "",
        shares: Sequence[float] = _SHARES,
    ) -> Dataset:
        """Take the rows of one file: ``.jsonl``, ``.json`` (a list of objects), ``.csv`` or ``.parquet``.

        Files are UTF-8; every value of a CSV file is text; Parquet needs pyarrow. A relative path starts at the
        folder of the tasks file. The keywords are described at the class.
        """
        source = Files(((Path(path), None),))
        return cls(source, _columns(inputs, label, group, split), Placement.of(salt, shares))

    @classmethod
    def from_files(
        cls,
        *,
        train: str | Path,
        test: str | Path,
        dev: str | Path | None = None,
        inputs: Sequence[str],
        label: str | None = None,
        group: str | None = None,
        salt: str = "",
        shares: Sequence[float] = _SHARES,
    ) -> Dataset:
        """Take each split from a file of its own; without ``dev``, it is drawn from the training rows."""
        named = (("train", train), ("dev", dev), ("test", test))
        source = Files(tuple((Path(path), split) for split, path in named if path is not None))
        return cls(source, _columns(inputs, label, group, None), Placement.of(salt, shares))

    @classmethod
    def from_examples(
        cls,
        examples: Iterable[dspy.Example] | Mapping[str, Iterable[dspy.Example]],
        *,
        inputs: Sequence[str] | None = None,
        label: str | None = None,
        group: str | None = None,
        split: str | None = None,
        salt: str = "",
        shares: Sequence[float] = _SHARES,
    ) -> Dataset:
        """Take ``dspy.Example`` objects (or dicts): one list, or a mapping with a list for each split.

        Without ``inputs``, every example says its own, by ``with_inputs``.
        """
        return cls(
            Objects(examples if isinstance(examples, Mapping) else tuple(examples), "examples"),
            _columns(inputs, label, group, split),
            Placement.of(salt, shares),
        )

    @classmethod
    def from_huggingface(
        cls,
        data: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]],
        inputs: Sequence[str],
        *,
        label: str | None = None,
        group: str | None = None,
        split: str | None = None,
        salt: str = "",
        shares: Sequence[float] = _SHARES,
    ) -> Dataset:
        """Take a ``datasets.Dataset``, or a ``DatasetDict`` with its splits; class labels become names."""
        return cls(
            Objects(data, "huggingface"),
            _columns(inputs, label, group, split),
            Placement.of(salt, shares),
        )

    def resolve(self, base: Path) -> Dataset:
        """Give the same dataset with relative paths that start at ``base``, the folder of the tasks file."""
        return replace(self, base=base)

    def check(self, fields: Iterable[str] = (), literals: Mapping[str, Sequence[object]] | None = None) -> None:
        """Read the data, if that was not done yet, and hold it against what a program needs.

        Args:
            fields: names that every row must have a value for, as the outputs of a signature.
            literals: for each field of a Literal type, the values that the type allows. Rows may hold no
            others (in a
                list: as items), and the train split must show each of them.

        Raises:
            DatasetError: with everything that is wrong.
        """
        literals = literals or {}
        rows, problems = self._loaded.rows, [*self._loaded.problems, *self._loaded.empty_splits]
        problems += missing_fields(rows, dict.fromkeys([*fields, *literals]))
        for field, allowed in literals.items():
            problems += literal_problems(rows, field, allowed, self.source.name)
        if problems:
            raise dataset_error(problems)

    def rows(self, split: str) -> tuple[DataRow, ...]:
        """Give the rows of a split, or ``"all"``, in salted hash order.

        Raises:
            DatasetError: with everything that is wrong with the data.
            UsageError: if there is no such split.
        """
        if split not in (*SPLITS, ALL):
            raise UsageError(f"{split!r} is not a split: use train, dev, test or all")
        problems = [*self._loaded.problems, *(() if split == ALL else self._loaded.empty_splits)]
        if problems:
            raise dataset_error(problems)
        return self._splits[split]

    def fingerprint(self, split: str) -> str:
        """Give the SHA-256 of a split's rows; their order, and the files they are in, do not matter."""
        return data_fingerprint(row.row_id for row in self.rows(split))

    @cached_property
    def train(self) -> tuple[dspy.Example, ...]:
        """The rows that stages are built from."""
        return tuple(map(to_example, self.rows("train")))

    @cached_property
    def dev(self) -> tuple[dspy.Example, ...]:
        """The rows that prompts, checkpoints and settings are chosen by."""
        return tuple(map(to_example, self.rows("dev")))

    @cached_property
    def test(self) -> tuple[dspy.Example, ...]:
        """The rows that only the gate looks at."""
        return tuple(map(to_example, self.rows("test")))

    @cached_property
    def _loaded(self) -> Loaded:
        return load(self.source.read(self.base), self.columns, self.placement, self.source.name)

    @cached_property
    def _splits(self) -> dict[str, tuple[DataRow, ...]]:
        return {
            split: self.placement.ordered([row for row in self._loaded.rows if row.split == split])
            for split in SPLITS
        } | {ALL: self.placement.ordered(self._loaded.rows)}


def _columns(inputs: Sequence[str] | None, label: str | None, group: str | None, split: str | None) -> Columns:
    if inputs is not None and (isinstance(inputs, str) or not inputs):
        raise UsageError(f'inputs={inputs!r}: give a list of field names, as inputs=["text"]')
    parts = [*(inputs or ()), *(name for name in (label, split) if name is not None)]
    twice = [name for name in parts if parts.count(name) > 1 or (name == group and name in (label, split))]
    if twice:
        raise UsageError(
            f"field {twice[0]!r} is named twice: one field is an input, the label, the group or the split"
        )
    return Columns(None if inputs is None else tuple(inputs), label, group, split)
