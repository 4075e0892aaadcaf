"""``--ft-inconclusive``, and the marker's argument above it."""

from __future__ import annotations

import pytest
from tests.conftest import Project

BARELY = """
import pytest

@pytest.mark.ft_claim("tickets", "finetuned >= {below:.6f}", "finetuned >= {above:.6f}")
def test_it(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= {above:.6f}", inconclusive="warn")
def test_marked(): ...
"""


@pytest.mark.parametrize(
    ("rule", "ends", "marks"),
    [
        (None, {"passed": 2, "failed": 1}, ["PASSED?", "FAILED", "WARNED"]),
        ("fail", {"passed": 1, "failed": 2}, ["FAILED", "FAILED", "WARNED"]),
        ("warn", {"passed": 3}, ["PASSED?", "WARNED", "WARNED"]),
    ],
)
def test_it_decides_what_a_claim_that_the_rows_cannot_settle_does(
    built: Project, rule: str | None, ends: dict[str, int], marks: list[str]
) -> None:
    score = built.mean("finetuned")
    built.write("test_models.py", BARELY.format(below=score - 0.01, above=score + 0.01))
    result = built.gate("-q", *(["--ft-inconclusive", rule] if rule else []))
    result.assert_outcomes(**ends)
    assert [
        line.split()[0] for line in result.outlines if ", not certified" in line and line.startswith("  ")
    ] == marks
    assert "test rows in all would settle it (320 there are)" in result.stdout.str() or "failed" not in ends


def test_another_word_is_refused_by_pytest(project: Project) -> None:
    result = project.gate("--ft-inconclusive=perhaps")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ft-inconclusive: invalid choice: 'perhaps'*"])
