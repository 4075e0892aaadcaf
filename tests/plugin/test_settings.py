"""Settings: the table, the ini, the environment, the option, the marker."""

from __future__ import annotations

import pytest
from tests.conftest import Project

TABLE = "[tool.pytest-finetune]\n"


def test_each_source_overrides_the_one_before_and_the_header_names_it(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.write("pyproject.toml", f"{TABLE}inconclusive = 'fail'\nalpha = 0.1\nmargin = 0.03\nconcurrency = 5\n")
    built.write("pytest.ini", "[pytest]\nft_models = models.lock\nft_margin = 0.04\nft_alpha = 0.2\n")
    monkeypatch.setenv("PYTEST_FINETUNE_ALPHA", "0.01")
    built.write(
        "test_models.py",
        "import pytest\n"
        "@pytest.mark.ft_ladder('tickets')\ndef test_settings(): ...\n"
        "@pytest.mark.ft_ladder('tickets', margin=0.05, alpha=0.3)\ndef test_marker(): ...\n",
    )
    result = built.run("-q", "--junitxml=report.xml", "--ft-concurrency=7")
    result.assert_outcomes(passed=4)
    result = built.run("--collect-only", "--ft-concurrency=7")
    origins = (
        "models from ini, alpha=0.01 from environment, margin=0.04 from ini,"
        " inconclusive=fail from [tool.pytest-finetune], concurrency=7 from option"
    )
    assert f"finetune: gating on models.lock ({origins})" in result.outlines
    report = (built.path / "report.xml").read_text()
    assert report.count("&quot;margin&quot;: 0.04, &quot;alpha&quot;: 0.01, &quot;n&quot;") == 2
    assert report.count("&quot;margin&quot;: 0.05, &quot;alpha&quot;: 0.3, &quot;n&quot;") == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("modles = ['models.lock']", "<project>/pyproject.toml: [tool.pytest-finetune] has no setting 'modles'"),
        ("alpha = 0.7", "setting 'alpha' (from [tool.pytest-finetune]): Input should be less than 0.5, not 0.7"),
        ("alpha = ", "<project>/pyproject.toml: Invalid value"),
        ("[tool.pytest-finetune.endpoints.mine]", "endpoints.mine: needs base_url, or preset"),
    ],
)
def test_a_wrong_one_is_one_error(built: Project, table: str, message: str) -> None:
    built.write("pyproject.toml", f"{TABLE}{table}\n")
    result = built.gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str().replace(str(built.path), "<project>")
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize("gated", [True, False])
def test_a_wrong_one_of_pytest_s_ini_is_named(built: Project, gated: bool) -> None:
    result = (built.gate if gated else built.run)("-o", "ft_require=maybe")
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if gated else pytest.ExitCode.TESTS_FAILED)
    assert "setting 'require' (from ini): invalid truth value 'maybe': write true or false" in built.said(result)


def test_a_wrong_one_is_no_pass_where_the_gate_is_off(built: Project) -> None:
    built.write("pyproject.toml", f"{TABLE}modles = ['models.lock']\n")
    result = built.run("-q")
    result.assert_outcomes(errors=3)
    assert "[tool.pytest-finetune] has no setting 'modles'" in result.stdout.str()
    assert "session.py" not in result.stdout.str()


def test_no_endpoint_is_an_error_and_never_a_paid_default(built: Project) -> None:
    built.edit("finetune_tasks.py", 'endpoint="sandbox"', "endpoint=None")
    result = built.gate()
    result.assert_outcomes(errors=3)
    assert "task 'tickets' has no endpoint: give Task(endpoint=…)" in result.stdout.str()
    result = built.run("--ft-retrain")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: task 'tickets' has no endpoint: *"])
    built.gate("-o", "ft_endpoint=sandbox").assert_outcomes(passed=3)
