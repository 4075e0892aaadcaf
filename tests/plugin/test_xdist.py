"""Under pytest-xdist: one store, one sandbox, one answer."""

from __future__ import annotations

import shutil

import pytest
from tests.conftest import Project


def test_rows_that_are_missing_are_asked_for_once_by_all_workers_together(built: Project) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    built.write(
        "test_claims.py",
        "import pytest\n"
        "@pytest.mark.ft_claim('tickets', 'finetuned >= 0.3', 'finetuned >= baseline')\n"
        "def test_it(ft_finetuned): assert ft_finetuned(text='my parcel is lost').department\n",
    )
    result = built.gate("-n", "2", "-q")
    result.assert_outcomes(passed=5)


def test_a_store_that_cannot_be_used_is_one_error(built: Project) -> None:
    (built.path / ".pytest-finetune" / "rows.sqlite").write_bytes(b"not a store" * 100)
    result = built.gate("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = built.said(result)
    assert said.count("is damaged (file is not a database)") == 1
    assert "Traceback" not in said


def test_a_missing_extra_is_told_where_the_sandbox_is_needed_and_only_there(built: Project) -> None:
    built.write("conftest.py", "import sys\nsys.modules['starlette'] = None\n")
    built.gate("-n", "2").assert_outcomes(passed=3)
    shutil.rmtree(built.path / ".pytest-finetune")
    result = built.gate("-n", "2")
    result.assert_outcomes(errors=3)
    assert "pip install 'pytest-finetune[sandbox]'" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
