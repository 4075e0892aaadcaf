"""What is taken out of texts, and what is left in them."""

from __future__ import annotations

import json
import logging
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import EndpointError, FinetuneError
from pytest_finetune.secrets import hide, hide_credentials, hide_within, redacted, shown

BODY = {"trainingType": "Standard", "integrations": [{"wandb": {"project": "tickets", "api_key": "wandbwandb"}}]}


def test_what_was_read_as_a_secret_is_taken_out_of_what_others_say() -> None:
    hide("swordfish")
    hide("swordfish and chips")
    hide("ab")  # too short to be told from ordinary words
    assert redacted("no swordfish and chips, no swordfish, Bearer abc or sk-123456789") == "no …, no …, Bearer … or …"
    assert redacted("about") == "about"


def test_a_short_key_blanks_no_part_of_a_word() -> None:
    hide("test")
    assert redacted("pytest --ft-retrain: the key test was refused (Bearer-test)") == (
        "pytest --ft-retrain: the key … was refused (Bearer-…)"
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://ann:s3cret@models.example/v1 is away", "https://…models.example/v1 is away"),
        ("GET /v1/models?api-key=abc&limit=1", "GET /v1/models?api-key=…&limit=1"),
        ("https://x.blob.example/f?sv=1&sig=a%2Fb%3D#top", "https://x.blob.example/f?sv=1&sig=…#top"),
        ("https://x.example/?X-Amz-Signature=abc&code=7", "https://x.example/?X-Amz-Signature=…&code=7"),
        ('{"Authorization": "Bearer abc", "n": 1}', '{"Authorization": "…", "n": 1}'),
        (r"{\"authorization\": \"Bearer abc\", \"n\": 1}", r"{\"authorization\": \"…\", \"n\": 1}"),
        ("api-key: abc def\nnext", "api-key: …\nnext"),
        ("Basic dXNlcjpwdw== was sent", "Basic … was sent"),
        ("Incorrect API key provided: sk-abc***wxyz.", "Incorrect API key provided: …."),
        ("token hf_abcdefghijklmnopqrst", "token …"),
        ("AKIAABCDEFGHIJKLMNOP", "…"),
    ],
)
def test_what_looks_like_a_secret_is_one(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "ft:gpt-4o-mini-2024-07-18:acme:key-questions:Ab12Cd34",
        "pytest --ft-retrain --ft-task api-key-resets",
        "task 'sk-learners' of pk-tickets",
        "https://models.example:8443/v1/models?limit=100&after=x",
        "sha256:" + "0a" * 32,
        "basic questions, and the authorization of payments",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("part", ["\\", "key-", '"', ";", "?a=", "://", "Bearer ", "authorization: ", "eyJ", "a"])
def test_no_text_takes_long(part: str) -> None:
    began = time.process_time()
    redacted(part * 50_000)
    assert time.process_time() - began < 2.0


def test_what_a_message_needs_stays_in_it() -> None:
    text = (
        "endpoint 'azure' needs a key in the environment variable AZURE_OPENAI_API_KEY: export AZURE_OPENAI_API_KEY=…"
    )
    assert redacted(text) == text


@given(st.text("abcxyzABC0189/+=&%?\"'\\ é", min_size=12, max_size=40))
def test_a_secret_is_found_however_it_is_quoted(secret: str) -> None:
    hide(secret)
    for form in (secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), quote(secret, safe="")):
        assert secret not in redacted(f"<{form}>")
        assert form.strip('"') not in redacted(f"<{form}>")


def test_the_password_of_an_address_is_hidden_also_as_it_is_sent() -> None:
    hide_credentials("http://ann:p%40ssw0rd@proxy.example:3128")
    assert redacted("p@ssw0rd, p%40ssw0rd, YW5uOnBAc3N3MHJk") == "…, …, …"


def test_of_what_is_sent_with_a_job_the_secrets_are_hidden_by_their_names() -> None:
    hide_within(BODY)
    assert redacted("Standard, tickets, wandbwandb") == "Standard, tickets, …"


def test_an_endpoint_hides_what_its_table_and_the_environment_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://ann:of-the-environment@proxy.example:3128")
    endpoint = Endpoint("ours", "http://here/v1", proxy="http://ann:of-the-table@proxy.example", extra_body=BODY)
    endpoint.check()
    assert redacted("of-the-environment, of-the-table, wandbwandb, tickets") == "…, …, …, tickets"
    assert "wandbwandb" not in repr(endpoint)


def test_the_message_of_an_error_can_be_shown() -> None:
    hide("correct horse battery")
    error = EndpointError("said: \x1b[2Jcorrect horse battery\r\n\x07next\u202eline")
    assert str(error) == "said:  [2J… \n next line"
    assert "battery" not in repr(error)
    assert isinstance(error, FinetuneError)


@given(st.text())
def test_what_is_shown_steers_no_terminal(text: str) -> None:
    assert all(character.isprintable() or character == "\n" for character in shown(text))


def test_what_libraries_log_holds_no_secret_and_what_others_log_is_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hide("correct horse battery")
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai._base_client").debug("Request options: %s", {"key": "correct horse battery"})
    logging.getLogger("httpx").info("HTTP Request: %s", "GET https://a:b@models.example?sig=abc")
    logging.getLogger("my.app").info("%s", "correct horse battery")
    assert [record.getMessage() for record in caplog.records] == [
        "Request options: {'key': '…'}",
        "HTTP Request: GET https://…models.example?sig=…",
        "correct horse battery",
    ]
