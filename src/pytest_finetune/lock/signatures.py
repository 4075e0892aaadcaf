"""Signatures of the lock, made and checked by ``ssh-keygen -Y`` (OpenSSH 8.2 or later).

What is signed is the text of the lock with LF line ends, whatever git made of them on this machine. The lock holds
the SHA-256 of every file beside it, and each is held against that before it is used: the signature covers them, too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_finetune.core.shell import typed
from pytest_finetune.errors import LockError
from pytest_finetune.lock.file import lock_text, parse_lock, read_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.lock.writing import write_whole

NAMESPACE = "models.lock@pytest-finetune"
"""A signature that was made for anything else, such as a commit, is none of a lock."""

_LARGEST = 1 << 20  # bytes of a signature (it has about 300), and of a file of signers (100 a line)
_CHECKING = 30.0  # seconds
_SIGNING = 120.0  # seconds; a passphrase may be typed, or a key touched
_SHOWN = 300  # characters of what ssh-keygen says
_WHY = {
    "incorrect signature": "is not what {name} has signed: it was changed since. Take back the signed one with"
    " `git checkout -- {files}`, or ",
    "namespace does not match": "has a signature of {name} that was made for something else than a lock: ",
    "not permitted for use in signature namespace": "is signed by {name}, whom {signers} allows other signatures"
    f" only: add {NAMESPACE} to the key's namespaces there, or ",
    "key has expired": "is signed with a key that {signers} allows no longer (valid-before): ",
    "key is not yet valid": "is signed with a key that {signers} does not allow yet (valid-after): ",
}
_SOMEHOW = "has a signature of {name} that does not hold ({said}): "
_NOBODY = "is signed by nobody whom {signers} names ({said}): "


def sign(path: Path, key: Path) -> Path:
    """Sign a lock, whatever it says: look at it first.

    Args:
        path: Of the lock.
        key: The private key; or the public one, where an agent has the private half.

    Returns:
        The signature's file, beside the lock.

    Raises:
        LockError: If it is no lock, or ``ssh-keygen`` is missing or does not sign.
    """
    text = lock_text(path)
    parse_lock(text, path)
    signed = _keygen(["sign", "-f", str(key.absolute()), "-n", NAMESPACE], text, _SIGNING)
    if signed.returncode != 0 or not signed.stdout:
        raise LockError(f"{path} is not signed: ssh-keygen does not sign with {key}: {_said(signed)}")
    target = signature_of(path)
    try:
        write_whole(target, signed.stdout)
    except OSError as error:
        raise LockError(f"{target} cannot be written: {error.strerror}: see to it that its folder can be") from error
    return target


def read_trusted(path: Path, *signers: Path | None) -> Lock:
    """Read a lock; where signers are named, only one that one of them has signed as it is.

    Args:
        path: Of the lock.
        signers: A file of allowed signers, as ``ssh-keygen`` reads it; ``None``: no signature is asked for. Of
            several, each must name who has signed.

    Raises:
        LockError: As `read_lock` and `signer`.
    """
    asked = [file for file in signers if file is not None]
    if not asked:
        return read_lock(path)
    text = lock_text(path)  # read once: what is checked is what is used
    for file in asked:
        _signer(path, text, file)
    return parse_lock(text, path)


def signer(path: Path, signers: Path) -> str:
    """Who has signed a lock as it is, by the name that the allowed signers give them.

    Args:
        path: Of the lock.
        signers: The file of allowed signers.

    Raises:
        LockError: If it is unsigned, changed since, or signed by somebody else, or that cannot be found out.
    """
    return _signer(path, lock_text(path), signers)


def signature_of(path: Path) -> Path:
    """The file that holds a lock's signature, if it has one."""
    return path.with_name(f"{path.name}.sig")


def sign_again(path: Path) -> str:
    """The sentence for whoever has written a lock that must be signed; the old signature is left, and void."""
    return f"{typed(path)} is no longer signed, and is refused until it is: {_next(path)}"


def _signer(path: Path, text: str, signers: Path) -> str:
    allowed = _content(signers, f"{path} cannot be trusted: the allowed signers {signers}")
    signature = _content(signature_of(path), f"{path} is not signed: {signature_of(path).name}", _next(path))
    with TemporaryDirectory() as folder:
        given = []
        for option, content in (("-f", allowed), ("-s", signature)):
            file = Path(folder, option)
            file.write_bytes(content)
            given += [option, str(file)]
        found = _keygen(["find-principals", *given], "", _CHECKING)
        names = found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else []
        told = [found]
        for name in names:
            told.append(_keygen(["verify", "-n", NAMESPACE, "-I", name, *given], text, _CHECKING))
            if told[-1].returncode == 0:
                return name
    why = _why(told, bool(names)).format(
        name="".join(names[:1]),
        signers=signers,
        files=f"{typed(path)} {typed(signature_of(path))}",
        said=_said(told[-1]),
    )
    raise LockError(f"{path} {why}{_next(path)}")


def _why(told: list[subprocess.CompletedProcess[bytes]], named: bool) -> str:
    """What is wrong with a signature that was refused, by what ``ssh-keygen`` says: its words decide no more."""
    said = b"\n".join(done.stderr for done in told).decode("utf-8", "replace")
    return next((why for words, why in _WHY.items() if words in said), _SOMEHOW if named else _NOBODY)


def _content(path: Path, what: str, hint: str = "name a file that can be read") -> bytes:
    """The bytes of a text that others may have written, with LF line ends: ``ssh-keygen`` reads no others."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise LockError(f"{what} cannot be read ({error.strerror}): {hint}") from None
    if len(content) > _LARGEST:
        raise LockError(f"{what} has more than {_LARGEST:,} bytes: {hint}")
    return content.replace(b"\r\n", b"\n")


def _keygen(words: list[str], text: str, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run ``ssh-keygen -Y``, without a shell.

    Raises:
        LockError: If it is missing, or does not end.
    """
    try:
        return subprocess.run(  # noqa: S603  # names and paths are arguments of options, never options
            ["ssh-keygen", "-Y", *words],  # noqa: S607  # the user's own, as git takes it
            input=text.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise LockError(
            f"ssh-keygen, which signatures need, cannot be run ({error.strerror}): install OpenSSH 8.2 or later"
        ) from None
    except subprocess.TimeoutExpired:
        raise LockError(
            f"ssh-keygen -Y {words[0]} took more than {seconds:.0f} s: run it by hand to see why"
        ) from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:_SHOWN] if lines else f"status {done.returncode}"


def _next(path: Path) -> str:
    return (
        f"have it looked at (pytest-finetune lock diff REVISION --lock {typed(path)}), then signed:"
        f" pytest-finetune lock sign --key KEY --lock {typed(path)}"
    )
