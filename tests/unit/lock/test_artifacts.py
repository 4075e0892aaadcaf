from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_finetune.core.records import Row, RowState, Usage
from pytest_finetune.errors import LockError
from pytest_finetune.lock import Artifacts, Entry, Lock

MakeEntry = Callable[..., Entry]
REPAIR = (
    "take back the committed lock and its folder with `git checkout -- models.lock models.lock.d`, or build again"
    " with `pytest --ft-retrain`"
)
STATE = {"predictors": {"self": {"instructions": "Ünïcode", "demos": [{"text": "a"}]}}, "version": 1}
NOWHERE = f"sha256:{'0' * 64}"

SCORED = Row("b" * 16, "finetuned", 0, RowState.SCORED, 1 / 3, '{"category":"billing"}', Usage(120, 7, 1.5e-05))
BROKEN = Row("a" * 16, "finetuned", 1, RowState.FORMAT_ERROR, None, "what?\u2028", Usage(120, 2))
FAILED = Row("a" * 16, "finetuned", 0, RowState.ERROR)


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    monkeypatch.chdir(tmp_path)
    return Artifacts.beside(tmp_path / "models.lock")


def told(action: Callable[[], object], folder: Path) -> str:
    with pytest.raises(LockError) as error:
        action()
    return str(error.value).replace(f"{folder}/", "").replace(str(folder), folder.name)


def test_they_are_beside_the_lock(artifacts: Artifacts, tmp_path: Path) -> None:
    assert artifacts.folder == tmp_path / "models.lock.d"
    assert Artifacts.beside(tmp_path / "prod.v2.lock").folder == tmp_path / "prod.v2.lock.d"


def test_json_comes_back_under_the_name_of_its_content(artifacts: Artifacts) -> None:
    ref = artifacts.put_json("program", STATE)
    path = artifacts.path(ref)
    assert ref == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert path.name == f"program-{ref[7:23]}.json"
    assert '"instructions": "Ünïcode"' in path.read_text(encoding="utf-8")
    assert artifacts.get_json(ref) == STATE


def test_equal_content_is_one_file(artifacts: Artifacts) -> None:
    assert artifacts.put_json("program", STATE) == artifacts.put_json("program", dict(reversed(STATE.items())))
    assert len(list(artifacts.folder.glob("program-*"))) == 1


def test_a_damaged_file_is_mended_by_putting_it_again(artifacts: Artifacts) -> None:
    ref = artifacts.put_bytes("training", b"row\n")
    artifacts.path(ref).write_bytes(b"now\n")
    assert artifacts.put_bytes("training", b"row\n") == ref
    assert artifacts.get_bytes(ref) == b"row\n"


def test_git_is_told_to_keep_the_bytes(artifacts: Artifacts) -> None:
    artifacts.put_bytes("rows", b"")
    assert (artifacts.folder / ".gitattributes").read_text().endswith("\n* -text\n")
    assert (artifacts.folder / ".gitignore").read_text() == ".writing\n*.new\n"


def test_a_missing_file(artifacts: Artifacts) -> None:
    assert told(lambda: artifacts.get_bytes(NOWHERE), artifacts.folder) == (
        f"models.lock.d has no file for {NOWHERE}: {REPAIR}"
    )


def test_a_changed_file(artifacts: Artifacts) -> None:
    ref = artifacts.put_bytes("rows", b"{}\n")
    artifacts.path(ref).write_bytes(b"[]\n")
    assert told(lambda: artifacts.get_bytes(ref), artifacts.folder) == (
        f"rows-{ref[7:23]}.jsonl was changed: its SHA-256 is not the one in the lock: {REPAIR}"
    )


def test_a_file_that_is_too_large(artifacts: Artifacts) -> None:
    ref = artifacts.put_bytes("rows", b"x" * 10)
    small = Artifacts(artifacts.folder, largest=9)
    assert told(lambda: small.get_bytes(ref), artifacts.folder) == (
        f"rows-{ref[7:23]}.jsonl has more than 9 bytes, the most for an artifact: {REPAIR}"
    )
    assert told(lambda: small.put_bytes("rows", b"y" * 10), artifacts.folder).endswith(
        ".jsonl would have 10 bytes, and an artifact may have 9: use fewer or shorter rows"
    )


def test_a_link_is_not_followed(artifacts: Artifacts, tmp_path: Path) -> None:
    ref = artifacts.put_bytes("rows", b"secret")
    outside = artifacts.path(ref).rename(tmp_path / "outside")
    (artifacts.folder / f"rows-{ref[7:23]}.jsonl").symlink_to(outside)
    assert told(lambda: artifacts.get_bytes(ref), artifacts.folder) == (
        f"rows-{ref[7:23]}.jsonl is a symbolic link, which artifacts never are: {REPAIR}"
    )


@pytest.mark.parametrize("ref", ["", "../../etc/passwd", "sha256:../../x", f"sha256:{'0' * 63}/", f"{NOWHERE}\n"])
def test_a_reference_cannot_leave_the_folder(artifacts: Artifacts, ref: str) -> None:
    assert told(lambda: artifacts.path(ref), artifacts.folder) == (
        f"{ref!r} is no reference to an artifact (sha256: and 64 hexadecimal digits): {REPAIR}"
    )


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json(artifacts: Artifacts, content: bytes) -> None:
    ref = artifacts.put_bytes("program", content)
    assert (
        told(lambda: artifacts.get_json(ref), artifacts.folder) == f"program-{ref[7:23]}.json is not JSON: {REPAIR}"
    )


def test_a_folder_that_cannot_be_made(artifacts: Artifacts) -> None:
    artifacts.folder.touch()
    assert told(lambda: artifacts.put_bytes("rows", b""), artifacts.folder).endswith(
        ".jsonl cannot be written: File exists: see to it that its folder can be written"
    )


def test_rows_come_back_sorted_and_exact(artifacts: Artifacts) -> None:
    ref = artifacts.put_rows([SCORED, BROKEN, FAILED])
    assert artifacts.get_rows(ref, "finetuned") == (FAILED, BROKEN, SCORED)


def test_order_time_and_the_servers_choices_do_not_change_rows(artifacts: Artifacts) -> None:
    timed = Row(
        SCORED.row_id,
        "finetuned",
        0,
        RowState.SCORED,
        SCORED.score,
        SCORED.output,
        SCORED.usage,
        latency=1.23,
        error="request req_17 failed",
        served_model="ft:small:acme:tickets:0002",
    )
    assert artifacts.put_rows([BROKEN, timed]) == artifacts.put_rows([SCORED, BROKEN])
    assert artifacts.get_bytes(artifacts.put_rows([timed])) == (
        b'{"output":"{\\"category\\":\\"billing\\"}","repeat":0,"row_id":"bbbbbbbbbbbbbbbb",'
        b'"score":0.3333333333333333,"state":"scored",'
        b'"usage":{"completion_tokens":7,"cost":1.5e-05,"prompt_tokens":120}}\n'
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[]", "Input should be an object"),
        (b'{"row_id":"a","repeat":0,"state":"scored","score":2}', "less than or equal to 1"),
        (b'{"row_id":"a","repeat":0,"state":"maybe"}', "Input should be 'scored'"),
        (b'{"row_id":"a","repeat":0,"state":"scored","latency":1}', "Extra inputs are not permitted"),
        (b"\xff", "Invalid JSON"),
    ],
)
def test_a_bad_row_is_told_with_its_line(artifacts: Artifacts, line: bytes, problem: str) -> None:
    good = artifacts.get_bytes(artifacts.put_rows([SCORED]))
    ref = artifacts.put_bytes("rows", good + line + b"\n")
    message = told(lambda: artifacts.get_rows(ref, "finetuned"), artifacts.folder)
    assert message.startswith(f"rows-{ref[7:23]}.jsonl:2: ")
    assert problem in message


def test_files_that_nothing_refers_to(artifacts: Artifacts, entry: MakeEntry) -> None:
    def served(model: str, state: Any) -> Entry:
        refs = {
            "program": artifacts.put_json("program", state),
            "rows": artifacts.put_bytes("rows", f"{model}\n".encode()),
            "training": artifacts.put_bytes("training", f"{model}: rows\n".encode()),
        }
        claim = entry().gate[0].model_copy(update={"rows": (artifacts.put_bytes("rows", f"{model}: b".encode()),)})
        return entry(model=model, artifacts=refs, gate=[claim])

    lock = Lock(model=(served("ft:1", {}),)).with_entries([served("ft:2", STATE)])
    candidate = artifacts.path(artifacts.put_json("program", {"candidate": 1}))

    assert artifacts.unreferenced(Lock()) == tuple(sorted(artifacts.folder.glob("[a-z]*")))
    assert artifacts.unreferenced(lock) == (candidate,)  # one can go back to every version, and ask what it rests on
