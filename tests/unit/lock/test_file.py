from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from pytest_finetune.core.records import Inconclusive, Method, Outcome, Tier
from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock, read_lock, render, update_lock, write_lock
from pytest_finetune.lock.model import VERSION, State, Step

MakeEntry = Callable[..., Entry]

FINETUNED = """\
[[model]]
task = "tickets"
stage = "finetuned"
model = "ft:small:acme:tickets:0001"
base = "small"
endpoint = "acme https://models.acme.example/v1"
adapter = "chat"
recipe = "bootstrap"
optimizer = "miprov2"
seed = 7

[model.score]
mean = 0.9325
n = 400
format_errors = 2

[[model.gate]]
claim = "finetuned >= prompt_optimized"
outcome = "PASS"
held = true
method = "tango"
estimate = 0.0431
lower = 0.0212
upper = 0.0678
margin = 0.02
alpha = 0.05
n = 400

[model.job]
id = "ftjob-1"
status = "succeeded"
created_at = 2026-11-21 05:46:40+00:00
finished_at = 2026-11-21 05:52:40+00:00
training_file = "file-1"
trained_tokens = 91234

[model.job.hyperparameters]
batch_size = "auto"
n_epochs = 3

[model.fingerprints]
metric = "59f2dfd8a95fdfd70ccf5c6a5b9a2b2b9c5b1d9ad2ffb0c4ab5d3d9f4e6b8e8f"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models.lock"


# --- one lock, one text -------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
numbers = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8"), max_size=12)
settings = st.dictionaries(
    keys,
    st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
    | st.lists(st.booleans() | numbers | keys, max_size=3),
    max_size=4,
)
figures = st.floats(allow_nan=False)
digests = st.integers(0, 2**256 - 1).map("{:064x}".format)
refs = digests.map("sha256:{}".format)
moments = st.integers(0, 2**33)
counts = st.integers(0, 10**9)


claims = st.fixed_dictionaries(
    dict.fromkeys(("estimate", "lower", "upper", "margin", "alpha"), figures)
    | {"claim": words, "outcome": st.sampled_from(Outcome), "held": st.booleans(), "method": st.sampled_from(Method)}
    | {"n": counts, "inconclusive": st.sampled_from(Inconclusive), "tier": st.sampled_from(Tier)}
    | {"rows": st.lists(refs, max_size=2), "versions": st.lists(digests, max_size=2)}
    | {"repeats": st.integers(1, 9), "locked": st.none() | refs}
    | dict.fromkeys(("by", "suite"), st.none() | words)
    | dict.fromkeys(("seen", "planned", "claims"), st.none() | st.integers(1, 10**9))
)
events = st.fixed_dictionaries(
    {"what": st.sampled_from(get_args(Step)), "model": words, "version": digests, "at": moments, "by": words},
    optional={"commit": words, "reason": words},
)
suites = st.dictionaries(words, st.fixed_dictionaries({"rows": refs, "data": digests, "metric": digests}), max_size=2)


@st.composite
def versions(draw: st.DrawFn) -> dict[str, Any]:
    hashes = {name: draw(digests) for name in ("train", "dev", "test")}
    return {
        **{name: draw(words) for name in ("task", "stage", "model", "base", "endpoint", "adapter")},
        "served_as": draw(st.none() | words),
        "served_models": draw(st.lists(words, max_size=2)),
        "state": draw(st.sampled_from(get_args(State))),
        "recipe": draw(st.none() | words),
        "seed": draw(counts),
        "fingerprints": {name: draw(digests) for name in ("metric", "program", "prompt")},
        "data": hashes | {f"{name}_rows": draw(counts) for name in hashes} | {"salt": draw(st.text(max_size=3))},
        "decoding": draw(settings),
        "params": draw(settings),
        "score": draw(st.none() | st.fixed_dictionaries({"mean": figures, "n": counts})),
        "artifacts": {
            "program": draw(refs),
            "rows": draw(st.none() | refs),
            "data": draw(st.none() | refs),
            "suites": draw(suites),
        },
        "job": draw(st.none() | st.fixed_dictionaries({"id": words, "status": words, "created_at": moments})),
        "gate": draw(st.lists(claims, max_size=2)),
        "env": draw(st.dictionaries(words, words, max_size=2)),
    }


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """A version with earlier ones of its stage, of which one at most is in production."""
    first, *earlier = draw(st.lists(versions(), min_size=1, max_size=3))
    names = {name: first[name] for name in ("task", "stage")}
    calm = [version | names | {"state": "deprecated"} for version in earlier if version["state"] == "production"]
    calm += [version | names for version in earlier if version["state"] != "production"]
    return first | {"previous": calm, "history": draw(st.lists(events, max_size=3))}


locks = st.lists(entries(), max_size=4, unique_by=lambda entry: (entry["task"], entry["stage"]))


@given_settings(max_examples=40, deadline=None)  # each writes a file and waits for the disk
@given(locks, st.randoms(use_true_random=False))
def test_any_lock_is_the_same_bytes_in_any_order_and_after_any_round(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, Any]], draw: random.Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock"
    lock = Lock.model_validate({"model": entries})
    write_lock(path, lock)
    written = path.read_bytes()

    assert read_lock(path) == lock
    assert render(read_lock(path)).encode() == written
    draw.shuffle(entries)
    for entry in entries:
        entry["artifacts"]["suites"] = dict(reversed(entry["artifacts"]["suites"].items()))
    assert render(Lock.model_validate({"model": entries})).encode() == written


def test_a_block_reads_well(entry: MakeEntry) -> None:
    text = render(Lock(model=(entry(),)))
    assert text.startswith("# The models that the gate pins. Commit this file together with the folder of artifacts")
    assert text.partition("version = 1\n\n")[2].partition("metric =")[0] == FINETUNED.partition("metric =")[0]
    assert max(map(len, text.splitlines())) <= 120


def test_blocks_are_sorted_by_task_and_stage(entry: MakeEntry) -> None:
    names = [("b", "finetuned"), ("a", "prompt_optimized"), ("a", "baseline")]
    lock = Lock(model=tuple(entry(task, stage) for task, stage in names))
    assert [one.name for one in lock.models] == ["a/baseline", "a/prompt_optimized", "b/finetuned"]
    assert lock.tasks == ("a", "b")


def test_an_empty_lock_can_be_read_back(path: Path) -> None:
    write_lock(path, Lock())
    assert read_lock(path) == Lock()


def test_windows_line_endings_change_nothing(path: Path, entry: MakeEntry) -> None:
    path.write_bytes(render(Lock(model=(entry(),))).replace("\n", "\r\n").encode())
    assert read_lock(path) == Lock(model=(entry(),))


# --- writing ------------------------------------------------------------------------------------------------


def test_an_update_keeps_the_others(path: Path, entry: MakeEntry) -> None:
    update_lock(path, [entry("a"), entry("b")])
    lock = update_lock(path, [entry("b", seed=8)])
    assert lock == read_lock(path) == Lock(model=(entry("a"), entry("b", seed=8)))


def test_an_update_of_a_broken_lock_leaves_it_as_it_is(path: Path, entry: MakeEntry) -> None:
    path.write_text("version = 2\n")
    with pytest.raises(LockError, match="format 2"):
        update_lock(path, [entry()])
    assert path.read_text() == "version = 2\n"


WRITER = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from pytest_finetune.lock import edit_lock, read_lock, update_lock
from pytest_finetune.lock.life import Decision, promote
path, seed, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
entry = read_lock(seed).models[0]
def retrained_and_promoted(lock):
    new = lock.with_entries([entry.model_copy(update={"model": f"ft:{number}-{turn}"})])
    decision = Decision(datetime(2026, 11, 21, tzinfo=timezone.utc), f"writer {number}")
    return new.with_stage(promote(new.entry("tickets", "finetuned"), decision))
for turn in range(5):
    update_lock(path, [entry.model_copy(update={"task": f"{number}-{turn}"})])
    edit_lock(path, retrained_and_promoted)
"""


def test_writers_at_the_same_time_lose_nothing(path: Path, tmp_path: Path, entry: MakeEntry) -> None:
    """Each adds tasks of its own, and retrains and promotes the one task of all."""
    seed = tmp_path / "seed.lock"
    write_lock(seed, Lock(model=(entry(),)))
    command = [sys.executable, "-c", WRITER, str(path), str(seed)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lock, turns = read_lock(path), {f"{number}-{turn}" for number in range(3) for turn in range(5)}
    assert {*lock.tasks} == turns | {"tickets"}
    shared = lock.entry("tickets", "finetuned")
    assert {version.model for version in shared.versions} == {f"ft:{turn}" for turn in turns}
    assert len(shared.history) == len({event.at for event in shared.history}) == 15
    assert [version.model for version in shared.versions if version.state == "production"] == [
        shared.history[0].model
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from pytest_finetune.lock import Lock, read_lock, update_lock

path = Path(sys.argv[1])
old, entry = path.read_bytes(), read_lock(path).models[0].model_copy(update={"task": "new"})

def die_at(step):
    left = [step]
    def look(frame, what, called):
        asks_the_system = what.startswith("c_") and (
            getattr(called, "__module__", None) in ("posix", "_io", "fcntl")
            or type(getattr(called, "__self__", None)).__module__ == "_io"
        )
        left[0] -= asks_the_system
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(look)

for step in range(10_000):
    child = os.fork()
    if not child:
        die_at(step)
        update_lock(path, [entry])
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    now = path.read_bytes()
    print("old" if now == old else read_lock(path).tasks == ("new", "tickets") and "new", status)
    path.write_bytes(old)
    if status == 0:
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it kills forks of itself")
def test_a_writer_that_is_killed_at_any_step_leaves_the_old_file_or_the_new_one(path: Path, entry: MakeEntry) -> None:
    """At every call of the operating system, before and after it."""
    write_lock(path, Lock(model=(entry(),)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=True)
    *killed, last = [line.split() for line in done.stdout.splitlines()]
    assert last == ["new", "0"]
    assert {status for _, status in killed} == {"9"}
    states = [state for state, _ in killed]
    assert states == sorted(states, reverse=True)  # old ones first
    assert states.count("old") > 20
    assert states.count("new") > 3
    assert update_lock(path, [entry("newer")]).tasks == ("newer", "tickets")  # the dead are no obstacle


def test_the_lock_is_as_readable_as_other_files(path: Path, tmp_path: Path) -> None:
    write_lock(path, Lock())
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path, entry: MakeEntry) -> None:
    path.symlink_to(tmp_path / "real.lock")
    write_lock(path, Lock(model=(entry(),)))
    assert path.is_symlink()
    assert read_lock(tmp_path / "real.lock").tasks == ("tickets",)


def test_a_folder_that_cannot_be_made_is_named(path: Path) -> None:
    path.with_name("models.lock.d").touch()
    with pytest.raises(LockError) as error:
        write_lock(path, Lock())
    assert str(error.value) == f"{path}.d cannot be made: File exists: see to it that its folder can be written"


def test_a_lock_that_cannot_be_written_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LockError) as error:
        write_lock(path, Lock())
    assert str(error.value) == f"{path} cannot be written: Is a directory: see to it that its folder can be written"


# --- bad files ----------------------------------------------------------------------------------------------

RESTORE = "take the last good one with `git checkout -- models.lock`, or build it again with `pytest --ft-retrain`"


def told(path: Path) -> str:
    with pytest.raises(LockError) as error:
        read_lock(path)
    return str(error.value).replace(str(path), "models.lock")


def test_a_missing_file(path: Path) -> None:
    assert told(path) == "models.lock does not exist: build the models and the lock with `pytest --ft-retrain`"


def test_a_folder(path: Path) -> None:
    path.mkdir()
    assert told(path) == "models.lock cannot be read: Is a directory: name a file that can be"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"models.lock is empty: {RESTORE}"),
        (b" \n", f"models.lock is empty: {RESTORE}"),
        (b"\xff\xfe", f"models.lock is not UTF-8 text: {RESTORE}"),
        (b"x" * (17 << 20), f"models.lock has more than 16 MB, so it is no lock: {RESTORE}"),
        (b"[tool]\n", f"models.lock has no `version = 1`, so it is no lock: {RESTORE}"),
        (b'version = "1"\n', f"models.lock has no `version = 1`, so it is no lock: {RESTORE}"),
        (
            b"version = 2\n[[thing]]\n",
            "models.lock has format 2, this pytest-finetune reads up to 1: pip install --upgrade pytest-finetune",
        ),
        (b"version = 1\nmodels = []\n", f"models.lock: models: unknown key\n{RESTORE}"),
        (b"version = 1\nmodel = 1\n", f"models.lock: model: Input should be a valid tuple\n{RESTORE}"),
    ],
)
def test_what_is_no_lock(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    assert told(path) == message


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5_000])
def test_toml_that_is_meant_to_hurt(path: Path, value: str) -> None:
    path.write_text(f"version = 1\nmodel = {value}\n")
    assert told(path).startswith("models.lock is not valid TOML: ")


def test_a_setting_that_is_not_a_number(path: Path, entry: MakeEntry) -> None:
    path.write_text(render(Lock(model=(entry(),))).replace("threshold = 0.5", "threshold = nan"))
    assert told(path) == "models.lock: nan is not a number that can be kept: use null where there is none"


def test_bad_toml_is_told_with_its_line(path: Path) -> None:
    path.write_text("version = 1\n\n[[model]]\ntask = tickets\n")
    assert told(path) == f"models.lock is not valid TOML: Invalid value (at line 4, column 8): {RESTORE}"


def test_locks_of_every_format_are_read_for_ever(path: Path) -> None:
    """Files that are never written anew: what was once committed must stay readable."""
    (golden,) = sorted((Path(__file__).parent / "golden").glob("*.lock"))
    assert golden.name == f"version-{VERSION}.lock"
    lock = read_lock(golden)
    assert [(entry.name, entry.model) for entry in lock.models] == [
        ("tickets/baseline", "small"),
        ("tickets/finetuned", "ft:small:acme:tickets:0001"),
    ]
    assert [entry.served_models for entry in lock.models] == [("small-2026-01-01",), ()]
    (tuned,) = [entry for entry in lock.models if entry.job]
    assert list(tuned.artifacts.suites) == ["safety"]
    assert [previous.model for previous in tuned.previous] == ["ft:small:acme:tickets:0000"]
    write_lock(path, lock)
    assert path.read_bytes() == golden.read_bytes()


def test_a_conflict_is_told_with_its_line(path: Path, entry: MakeEntry) -> None:
    text = render(Lock(model=(entry(),)))
    line = next(number for number, text_line in enumerate(text.splitlines()) if text_line.startswith("model ="))
    sides = ["<<<<<<< HEAD", 'model = "ft:1"', "=======", 'model = "ft:2"', ">>>>>>> other"]
    path.write_text("\n".join([*text.splitlines()[:line], *sides, *text.splitlines()[line + 1 :]]))
    assert told(path) == (
        f"models.lock:{line + 1}: a git merge left its conflict markers here: resolve them with `pytest-finetune lock"
        " fix --lock models.lock`, or take one side's file with `git checkout --ours -- models.lock`, then pytest"
        " --ft-retrain the tasks of the other"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('adapter = "chat"', 'colour = "red"', ["adapter: Field required", "colour: unknown key"]),
        (
            "seed = 7",
            'seed = "seven"',
            ["seed: Input should be a valid integer, unable to parse string as an integer"],
        ),
        ("n = 400\nformat", "n = -1\nformat", ["score.n: Input should be greater than or equal to 0"]),
        ('rows = "sha256:', 'rows = "../', ["artifacts.rows: String should match pattern '^sha256:[0-9a-f]{64}$'"]),
        ('claim = "', 'of = "x"\nclaim = "', ["gate.0.of: unknown key"]),
    ],
)
def test_a_bad_block_is_named(path: Path, entry: MakeEntry, old: str, new: str, message: list[str]) -> None:
    first, second = render(Lock(model=(entry("a"), entry("b")))).split('task = "b"')
    assert old in second
    path.write_text(f'{first}task = "b"{second.replace(old, new, 1)}')
    block = first.count("\n")
    assert told(path) == "\n".join(
        [*(f"models.lock:{block}: [[model]] b/finetuned: {text}" for text in message), RESTORE]
    )


def test_two_blocks_for_a_stage(path: Path, entry: MakeEntry) -> None:
    text = render(Lock(model=(entry(),)))
    path.write_text(text + "\n" + text.partition("version = 1\n")[2])
    assert told(path) == "models.lock: two [[model]] blocks are for task 'tickets', stage 'finetuned': delete one"
