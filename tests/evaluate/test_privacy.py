"""Evaluating with hashes in the place of texts: what is scored is not asked again, and what cannot be scored is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tests.evaluate.colours import METRIC, rows, stage

from pytest_finetune import metrics
from pytest_finetune.core.records import Row
from pytest_finetune.dataset import DataRow
from pytest_finetune.evaluate import evaluate
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.store import Store, StoredText

QUARTER = metrics.as_metric(lambda _e, _p, _t=None: 0.25, name="quarter", version="1")
DATA = rows(12)


def run(
    sandbox: Sandbox, path: Path, text: StoredText, metric: metrics.Metric = METRIC, data: Sequence[DataRow] = DATA
) -> tuple[Row, ...]:
    with Store.create(path, text=text) as store:
        found = evaluate([stage("baseline", sandbox.base_url)], data, metric, store, timeout=30)
        return tuple(map(store.kept, found["baseline"]))


def asked(sandbox: Sandbox) -> int:
    return int(sandbox.request_counts()["total"])


def test_a_second_run_asks_nothing_and_gives_the_same(sandbox: Sandbox, path: Path) -> None:
    first = run(sandbox, path, StoredText.HASH)
    assert asked(sandbox) == 12
    assert run(sandbox, path, StoredText.HASH) == first
    assert asked(sandbox) == 12
    assert {row.score for row in first} == {0.0, 1.0}
    assert all(f'"{colour}"'.encode() not in path.read_bytes() for colour in ("red", "green", "blue"))


def test_a_changed_metric_asks_again_and_both_are_known_from_then_on(sandbox: Sandbox, path: Path) -> None:
    first = run(sandbox, path, StoredText.HASH)
    assert {row.score for row in run(sandbox, path, StoredText.HASH, QUARTER)} == {0.25}
    assert asked(sandbox) == 24
    assert [row.score for row in run(sandbox, path, StoredText.HASH)] == [row.score for row in first]
    assert asked(sandbox) == 24


def test_a_corrected_label_asks_again(sandbox: Sandbox, path: Path) -> None:
    run(sandbox, path, StoredText.HASH)
    corrected = (dataclasses.replace(DATA[0], row_id="corrected"), *DATA[1:])
    assert run(sandbox, path, StoredText.HASH, data=corrected)[0].row_id == "corrected"
    assert asked(sandbox) == 13


def test_what_was_kept_in_full_is_not_asked_again_when_hashes_are_wanted(sandbox: Sandbox, path: Path) -> None:
    run(sandbox, path, StoredText.FULL)
    run(sandbox, path, StoredText.HASH)
    run(sandbox, path, StoredText.FULL)
    assert asked(sandbox) == 12
    run(sandbox, path, StoredText.FULL, QUARTER)
    assert asked(sandbox) == 24
    run(sandbox, path, StoredText.FULL, METRIC)
    assert asked(sandbox) == 24
