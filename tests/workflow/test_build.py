"""``--ft-retrain`` from nothing: what it says, and what it leaves behind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.conftest import Project

from pytest_finetune.lock import Artifacts, read_lock

CHOSEN = re.compile(
    r'^(?:model = "ft:.*"|id = "ftjob-.*"|training_file = "file-.*"|(?:created|finished)_at = .*|    "\w{64}",)$',
    re.MULTILINE,
)


def test_it_locks_every_stage_with_its_score_and_the_claims_that_let_it_in(built_folder: Path) -> None:
    lock = read_lock(built_folder / "models.lock")
    assert [(entry.stage, entry.base, entry.endpoint) for entry in lock.models] == [
        ("baseline", "sandbox-small", "sandbox"),
        ("finetuned", "sandbox-small", "sandbox"),
        ("prompt_optimized", "sandbox-small", "sandbox"),
        ("teacher", "sandbox-large", "sandbox"),
    ]
    tuned = lock.entry("tickets", "finetuned")
    assert tuned.model.startswith("ft:sandbox-small:")
    assert tuned.artifacts.training_rows == 240
    assert [claim.claim for claim in tuned.gate] == ["finetuned >= 0.5", "finetuned >= prompt_optimized"]
    assert all(claim.held for entry in lock.models for claim in entry.gate)


def test_the_scores_are_those_of_the_rows_beside_the_lock(built_folder: Path) -> None:
    path = built_folder / "models.lock"
    scores = {}
    for entry in read_lock(path).models:
        rows = Artifacts.beside(path).get_rows(entry.artifacts.rows or "", entry.stage)
        scores[entry.stage] = sum(row.score or 0 for row in rows) / len(rows)
        assert entry.score is not None
        assert (round(scores[entry.stage], 6), len(rows)) == (entry.score.mean, entry.score.n)
    assert scores["baseline"] < scores["prompt_optimized"] < scores["finetuned"]


def test_it_says_what_it_does(built_folder: Path) -> None:
    said = (built_folder / "build.txt").read_text(encoding="utf-8")
    for sentence in (
        "tickets: building its stages with sandbox-small on sandbox",
        "prompt-optimized by labeled_few_shot",
        "240 rows",
        "succeeded",
        f"tickets: locked in {built_folder / 'models.lock'}",
        "3 passed",
    ):
        assert sentence.lower() in said.lower()


def test_built_again_from_nothing_the_lock_is_the_same_but_for_what_the_server_chose(
    built: Project, built_folder: Path
) -> None:
    for gone in (".pytest-finetune", "models.lock.d"):
        shutil.rmtree(built.path / gone)
    built.lock.unlink()
    assert built.run("--ft-retrain").ret == 0
    first, second = (
        CHOSEN.sub("chosen", (folder / "models.lock").read_text(encoding="utf-8"))
        for folder in (built_folder, built.path)
    )
    assert second == first
    assert (built.path / "models.lock").read_bytes() != (built_folder / "models.lock").read_bytes()
    artifacts = [
        sorted(path.name for path in (folder / "models.lock.d").glob("*-*")) for folder in (built_folder, built.path)
    ]
    assert artifacts[0] == artifacts[1]
