"""What can be said of an endpoint in ``pyproject.toml``, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_finetune.endpoints import Endpoint, Serving
from pytest_finetune.endpoints.table import EndpointTable
from pytest_finetune.errors import UsageError
from pytest_finetune.workflow.settings import read_settings

ROOT = Path(__file__).parents[2]


def read(folder: Path, *lines: str) -> Endpoint:
    text = "\n".join(["[tool.pytest-finetune.endpoints.ours]", *lines])
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return read_settings(folder, environment={}).endpoint_named("ours", "tickets")


def test_every_option_reaches_the_endpoint(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    found = read(
        tmp_path,
        "base_url = 'https://models.example/v1/'",
        "api_key_command = 'vault read -field=key secret'",
        "headers_env = { X-Team = 'TEAM' }",
        "ca_bundle = 'ca.pem'",
        "proxy = 'http://user:word@proxy.example:3128'",
        "requests_per_minute = 60",
        "tokens_per_minute = 90000",
        "timeout = 30",
        "extra_body = { tier = 'low' }",
        "deploy = 'up {model} {name}'",
        "probe = 'is-up {name}'",
        "take_down = 'down {name}'",
        "serving_timeout = 600",
    )
    assert found == Endpoint(
        "ours",
        "https://models.example/v1/",
        api_key_command="vault read -field=key secret",
        headers_env={"X-Team": "TEAM"},
        ca_bundle=str(tmp_path / "ca.pem"),
        proxy="http://user:word@proxy.example:3128",
        requests_per_minute=60,
        tokens_per_minute=90000,
        timeout=30,
        extra_body={"tier": "low"},
        serving=Serving("up {model} {name}", "is-up {name}", "down {name}", 600),
    )
    assert "word" not in repr(found)
    assert found.identity == "ours https://models.example/v1/"


def test_a_preset_says_what_is_known_of_a_provider_and_gives_way_to_what_is_written(tmp_path: Path) -> None:
    azure = read(tmp_path, "preset = 'azure'", "resource = 'acme'")
    assert (azure.base_url, azure.api_key_env) == ("https://acme.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY")
    assert azure.extra_body == {"trainingType": "Standard"}
    nebius = read(tmp_path, "preset = 'nebius'", "api_key_command = 'token'")
    assert (nebius.base_url, nebius.api_key_env) == ("https://api.tokenfactory.nebius.com/v1", None)
    own = read(
        tmp_path,
        "preset = 'azure'",
        "base_url = 'https://acme.services.ai.azure.com/api/projects/p/openai/v1'",
        "api_key_env = 'OURS'",
        "extra_body = { trainingType = 'GlobalStandard' }",
    )
    assert own.base_url.endswith("/api/projects/p/openai/v1")
    assert (own.api_key_env, own.extra_body) == ("OURS", {"trainingType": "GlobalStandard"})


URL = "base_url = 'http://here/v1'"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ": needs base_url, or preset ="),
        (["base_url = 'here/v1'"], ".base_url: is no address"),
        (
            ["base_url = 'http://here:s3cret/v1'"],
            ".base_url: has a port that is none: it must be a number up to 65535",
        ),
        ([URL, "proxy = 'http://here:70000'"], ".proxy: has a port that is none"),
        (["preset = 'acme'"], ".preset: Input should be 'azure' or 'nebius'"),
        (["preset = 'azure'"], ': preset "azure" needs resource'),
        ([URL, "resource = 'acme'"], ': resource goes with preset = "azure" and without base_url'),
        ([URL, "api_key_env = 'A'", "api_key_command = 'b'"], ": has both api_key_env and api_key_command"),
        ([URL, "api_key_command = 'echo \"s3cret'"], ".api_key_command: is no command line (No closing quotation)"),
        ([URL, "deploy = ''"], ".deploy: is empty"),
        ([URL, "deploy = 'up {id}'"], ".deploy: has the placeholder {id}; known are {model} and {name}"),
        ([URL, "take_down = 'down'"], ": has take_down and no deploy"),
        ([URL, "proxy = 'socks5://user:s3cret@here'"], ".proxy: must be http://"),
        ([URL, "ca_bundle = 'none.pem'"], ".ca_bundle: there is no file"),
        ([URL, "requests_per_minute = 0"], ".requests_per_minute: Input should be greater than 0"),
        ([URL, "timeout = inf"], ".timeout: Input should be a finite number"),
        ([URL, "api_key = 's3cret'"], ".api_key: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_one_message_with_its_place_and_no_value(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, *lines)
    assert str(caught.value).startswith(
        f"{tmp_path / 'pyproject.toml'}: [tool.pytest-finetune] endpoints.ours{message}"
    )
    assert "s3cret" not in str(caught.value)


def test_the_docs_list_every_option_with_what_it_does() -> None:
    page = (ROOT / "docs" / "endpoints.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| \w+ \|$", page, re.MULTILINE))
    assert listed == {name: field.description for name, field in EndpointTable.model_fields.items()}
