from __future__ import annotations

import openai
import pytest
from tests.sandbox.conftest import connect

from pytest_finetune.sandbox import Sandbox, Settings


def test_a_file_comes_back_byte_for_byte(client: openai.OpenAI) -> None:
    content = b'{"messages": []}\n\x00\xff'
    file = client.files.create(file=("data.jsonl", content), purpose="fine-tune")
    assert (file.filename, file.bytes, file.purpose) == ("data.jsonl", len(content), "fine-tune")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content


def test_a_deleted_file_is_gone(client: openai.OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
        client.files.content(file.id)


def test_files_are_listed_newest_first_in_pages(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=(f"{i}.txt", b"x"), purpose="user_data").id for i in range(5)]
    first = client.files.list(purpose="user_data", limit=2)
    assert [file.id for file in first.data] == [ids[4], ids[3]]
    assert first.has_more
    assert [file.id for file in client.files.list(purpose="user_data", limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(purpose="user_data", order="asc", after=ids[2])] == ids[3:]


def test_only_jsonl_is_taken_for_training(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        client.files.create(file=("data.csv", b"a,b"), purpose="fine-tune")


def test_an_upload_without_a_known_purpose_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("a.jsonl", b"{}"), purpose="hoarding")  # type: ignore[arg-type]
    assert caught.value.param == "purpose"


def test_uploads_are_bounded() -> None:
    with Sandbox(Settings(max_upload_bytes=2000)) as small, connect(small) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.files.create(file=("a.jsonl", b"x" * 3000), purpose="fine-tune")
        assert caught.value.status_code == 413
        assert client.files.create(file=("a.jsonl", b"x" * 1000), purpose="fine-tune").bytes == 1000
