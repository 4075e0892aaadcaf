"""Test rows that have been seen before: word for word, or nearly so.

Two texts are held against each other by their runs of three words, padded at either end: the share that both have
of all that either has (Jaccard's index). Case, punctuation and spaces do not count. At 0.8, texts of fewer than 20
words are near only if their words are the same; from 20 on, one may have been added, and from 25 on, replaced.

Short questions on one subject are often alike by nature, so that a wider net would hold many that are no leaks. Of
Banking77's official test rows (Casanueva et al. 2020, arXiv:2003.04807: 3,080, with a median of 10 words, against
10,003 to train on), 0.9 % are near, all but two of them word for word; 2.5 % would be without the padding, 10 % by
three characters, and 16 % by single words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

MAX_NEAR = 0.02
"""The share of test rows that may be near to what a stage was built from; above it there is no verdict."""

NEAR = 0.8
"""The similarity from which on a test row counts as near to what was seen."""

Texts: TypeAlias = "tuple[str, ...]"
"""What a row asks: one text for each input field, always in the same order."""

_Run: TypeAlias = "tuple[str, str, str]"
_Runs: TypeAlias = "tuple[frozenset[_Run], ...]"

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"  # Chinese and Japanese put no space between words: a character is one
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Leak:
    """A test row that was seen.

    Attributes:
        row_id: Of the test row.
        where: What it was seen in.
        similarity: From `NEAR` to 1, which the same words have; see `similarity`.
    """

    row_id: str
    where: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Leaks:
    """The test rows that were seen, each once, in the order of the rows.

    Attributes:
        exact: Those whose texts are the same, to the character.
        near: Of the others, those that are at least `NEAR` to something, with what they are nearest to.
    """

    exact: tuple[Leak, ...] = ()
    near: tuple[Leak, ...] = ()


def find_leaks(test: Mapping[str, Texts], seen: Mapping[str, Texts]) -> Leaks:
    """Find the test rows that are among the texts that were seen.

    Only pairs that can be near are compared: two sets of which a share t is common have an element in common among
    the rarest 1 - t of each (the prefix filter; Chaudhuri et al. 2006, "A primitive operator for similarity joins in
    data cleaning", ICDE). Memory grows with the test rows only.

    Args:
        test: The texts of each test row, by its id.
        seen: The texts that were seen, each by the name that messages call it; they have the fields of the rows.
    """
    places: dict[Texts, str] = {}
    for where, texts in seen.items():
        places.setdefault(texts, where)
    exact = tuple(Leak(row_id, places[texts], 1.0) for row_id, texts in test.items() if texts in places)
    others = {row_id: _runs(texts) for row_id, texts in test.items() if texts not in places}
    nearest = _nearest(others, places)
    return Leaks(exact, tuple(nearest[row_id] for row_id in others if row_id in nearest))


def similarity(one: Texts, other: Texts) -> float:
    """How alike two rows are, from 0 to 1: as their least similar field is.

    Taken together, a long passage that two rows share would hide that they ask different questions of it.
    """
    return _similarity(_runs(one), _runs(other))


def _nearest(rows: Mapping[str, _Runs], places: Mapping[Texts, str]) -> dict[str, Leak]:
    index = _Index(rows)
    nearest: dict[str, Leak] = {}
    for texts, where in places.items():
        runs = _runs(texts)
        for row_id in index.candidates(runs):
            alike = _similarity(rows[row_id], runs)
            if alike >= NEAR and (row_id not in nearest or alike > nearest[row_id].similarity):
                nearest[row_id] = Leak(row_id, where, alike)
    return nearest


class _Index:
    """The test rows by their rarest runs; the rarity of a run is how few test rows have it."""

    def __init__(self, rows: Mapping[str, _Runs]) -> None:
        counts = Counter(run for runs in rows.values() for run in _all(runs))
        self._ranks = {run: rank for rank, run in enumerate(sorted(counts, key=counts.__getitem__))}
        self._rows: dict[int, list[str]] = defaultdict(list)
        for row_id, runs in rows.items():
            ranks = sorted(self._ranks[run] for run in _all(runs))
            for rank in ranks[: _prefix(len(ranks))]:
                self._rows[rank].append(row_id)

    def candidates(self, runs: _Runs) -> set[str]:
        """The rows that can be near; runs that no test row has are the rarest, and find nothing."""
        every = list(_all(runs))
        ranks = sorted(self._ranks[run] for run in every if run in self._ranks)
        left = max(0, _prefix(len(every)) - (len(every) - len(ranks)))
        return {row_id for rank in ranks[:left] for row_id in self._rows.get(rank, ())}


def _all(runs: _Runs) -> Iterator[tuple[int, _Run]]:
    """The runs of all fields: where each field is near, they are near together."""
    return ((field, run) for field, of_field in enumerate(runs) for run in of_field)


def _prefix(size: int) -> int:
    return int(size * (1 - NEAR) + 1e-9) + 1  # more than floating point is off by, so that no pair is lost


def _similarity(one: _Runs, other: _Runs) -> float:
    return min(len(a & b) / len(a | b) for a, b in zip(one, other, strict=True))


def _runs(texts: Texts) -> _Runs:
    return tuple(map(_runs_of, texts))


def _runs_of(text: str) -> frozenset[_Run]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(plain) or plain.split()  # of a text without words, signs are all there is
    padded = ["", "", *words, "", ""]
    return frozenset(zip(padded, padded[1:], padded[2:], strict=False))
