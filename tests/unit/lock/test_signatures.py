"""Signatures, with the real ``ssh-keygen``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Lock, write_lock
from pytest_finetune.lock.signatures import NAMESPACE, read_trusted, sign, signature_of, signer

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")


@dataclass(frozen=True)
class Signing:
    """A lock, the keys of two people, and the file that allows one of them to sign."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "models.lock"

    @property
    def signers(self) -> Path:
        return self.folder / "allowed_signers"

    def key(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
            subprocess.run(command, check=True)
        return path

    def allow(self, *names: str, options: str = "") -> None:
        keys = {name: self.key(name).with_name(f"{name}.pub").read_text() for name in names}
        self.signers.write_text("".join(f"{name}@acme.example {options} {key}" for name, key in keys.items()))


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    made = Signing(tmp_path)
    write_lock(made.lock, Lock(model=(make_entry(),)))
    made.allow("ann")
    return made


def test_who_signed_is_named_and_the_lock_is_read(signing: Signing) -> None:
    assert sign(signing.lock, signing.key("ann")) == signature_of(signing.lock) == signing.folder / "models.lock.sig"
    assert signer(signing.lock, signing.signers) == "ann@acme.example"
    assert read_trusted(signing.lock, signing.signers).models == (make_entry(),)
    assert read_trusted(signing.lock, None).models == (make_entry(),)


def test_it_holds_whatever_line_ends_git_gives_the_lock(signing: Signing) -> None:
    sign(signing.lock, signing.key("ann"))
    signing.lock.write_bytes(signing.lock.read_bytes().replace(b"\n", b"\r\n"))
    signature = signature_of(signing.lock)
    signature.write_bytes(signature.read_bytes().replace(b"\n", b"\r\n"))
    assert signer(signing.lock, signing.signers) == "ann@acme.example"


def test_the_second_signature_takes_the_place_of_the_first(signing: Signing) -> None:
    sign(signing.lock, signing.key("bob"))
    sign(signing.lock, signing.key("ann"))
    assert signer(signing.lock, signing.signers) == "ann@acme.example"


def test_an_agent_may_hold_the_private_key(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    told = dict(part.split("=") for part in agent.replace("\n", ";").split(";") if "=" in part)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    try:
        subprocess.run(["ssh-add", "-q", str(signing.key("ann"))], check=True, capture_output=True)
        signing.key("ann").unlink()
        sign(signing.lock, signing.folder / "ann.pub")
    finally:
        subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)
    assert signer(signing.lock, signing.signers) == "ann@acme.example"


def unsigned(signing: Signing) -> None:
    signature_of(signing.lock).unlink()


def changed(signing: Signing) -> None:
    text = signing.lock.read_text()
    signing.lock.write_text(text.replace("0.9325", "0.9326"))


def signed_by_another(signing: Signing) -> None:
    sign(signing.lock, signing.key("bob"))


def signed_as_something_else(signing: Signing) -> None:
    command = ["ssh-keygen", "-Y", "sign", "-f", str(signing.key("ann")), "-n", "git"]
    done = subprocess.run(command, input=signing.lock.read_bytes(), capture_output=True, check=True)
    signature_of(signing.lock).write_bytes(done.stdout)


def allowed_for_something_else(signing: Signing) -> None:
    signing.allow("ann", options='namespaces="git"')


def of_a_key_that_has_expired(signing: Signing) -> None:
    signing.allow("ann", options='valid-before="20200101"')


def of_a_key_that_is_not_valid_yet(signing: Signing) -> None:
    signing.allow("ann", options='valid-after="20900101"')


def no_signature_at_all(signing: Signing) -> None:
    signature_of(signing.lock).write_bytes(b"\x00-----BEGIN SSH SIGNATURE-----\n\x1b[2J")


def endless(signing: Signing) -> None:
    signature_of(signing.lock).write_bytes(b"a" * ((1 << 20) + 1))


def no_signers(signing: Signing) -> None:
    signing.signers.unlink()


def nobody_is_allowed(signing: Signing) -> None:
    signing.signers.write_text("# nobody yet\n")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (unsigned, "is not signed: models.lock.sig cannot be read"),
        (changed, "is not what ann@acme.example has signed: it was changed since"),
        (signed_by_another, "is signed by nobody whom"),
        (
            signed_as_something_else,
            "has a signature of ann@acme.example that was made for something else than a lock",
        ),
        (
            allowed_for_something_else,
            r"by ann@acme\.example, whom .* allows other signatures only: add models\.lock@",
        ),
        (of_a_key_that_has_expired, r"is signed with a key that .* allows no longer \(valid-before\): "),
        (of_a_key_that_is_not_valid_yet, r"is signed with a key that .* does not allow yet \(valid-after\): "),
        (no_signature_at_all, "is signed by nobody whom"),
        (endless, "has more than 1,048,576 bytes"),
        (no_signers, "cannot be trusted: the allowed signers"),
        (nobody_is_allowed, "is signed by nobody whom"),
    ],
)
def test_any_doubt_is_a_refusal(signing: Signing, harm: Callable[[Signing], None], message: str) -> None:
    sign(signing.lock, signing.key("ann"))
    harm(signing)
    for use in (signer, read_trusted):
        with pytest.raises(LockError, match=message):
            use(signing.lock, signing.signers)


def test_without_ssh_keygen_no_signed_lock_is_used(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(signing.lock, signing.key("ann"))
    monkeypatch.setenv("PATH", str(signing.folder))
    with pytest.raises(LockError, match=r"ssh-keygen, which signatures need, cannot be run .* install OpenSSH 8\.2"):
        read_trusted(signing.lock, signing.signers)


def test_what_is_no_lock_is_not_signed(signing: Signing) -> None:
    signing.lock.write_text("version = 1\nhello = 2\n")
    with pytest.raises(LockError, match="unknown key"):
        sign(signing.lock, signing.key("ann"))


def test_a_key_that_is_none_is_refused_in_words(signing: Signing) -> None:
    with pytest.raises(LockError, match=r"is not signed: ssh-keygen does not sign with .*models\.lock"):
        sign(signing.lock, signing.lock)


def test_a_link_in_the_place_of_the_signature_is_not_written_through(signing: Signing) -> None:
    other = signing.folder / "other"
    other.write_text("mine")
    signature_of(signing.lock).symlink_to(other)
    (signing.folder / ".models.lock.sig.new").symlink_to(other)
    sign(signing.lock, signing.key("ann"))
    assert other.read_text() == "mine"
    assert signer(signing.lock, signing.signers) == "ann@acme.example"


def test_names_of_signers_are_never_options(signing: Signing) -> None:
    key = signing.key("ann").with_name("ann.pub").read_text()
    signing.signers.write_text(f"-Overify-time=20300101,*@acme.example {key}")
    sign(signing.lock, signing.key("ann"))
    assert signer(signing.lock, signing.signers) == "-Overify-time=20300101"


def test_the_namespace_is_ours_alone() -> None:
    assert NAMESPACE == "models.lock@pytest-finetune"
