"""A share of the users to the candidate, always the same ones."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from typing import Any

from pytest_finetune.production.arguments import check_share, check_user

_HASHES = 2.0**64  # as many as eight bytes tell apart


@dataclass(frozen=True, slots=True)
class Routed:
    """How many calls went where, and how many of them raised an error.

    Attributes:
        stable: Calls that the stable program answered, or failed at.
        candidate: The same of the candidate.
        stable_errors: Those that raised.
        candidate_errors: Those that raised.
    """

    stable: int = 0
    candidate: int = 0
    stable_errors: int = 0
    candidate_errors: int = 0


class Canary:
    """Routes a share of the users to a candidate: the same user to the same program, in every process.

    Which users these are follows from a hash of the salt and the user's name. A larger share adds users to those that
    have the candidate, and takes it from none.

    Args:
        stable: The program that all others get; called with the inputs, as a DSPy module is.
        candidate: The program that is tried out.
        share: Of the users, from 0 to 1.
        salt: Another salt chooses other users.

    Raises:
        UsageError: If the share is not between 0 and 1; at a call, if the user is not named.

    Example:
        >>> canary = Canary(stable, candidate, share=0.05)  # doctest: +SKIP
        >>> canary(user="u-1", text="my card is gone")  # doctest: +SKIP
    """

    def __init__(self, stable: Any, candidate: Any, *, share: float, salt: str = "") -> None:
        check_share(share)
        self.stable = stable
        self.candidate = candidate
        self.share = share
        self.salt = salt
        self._guard = threading.Lock()
        self._counts = Routed()

    @property
    def counts(self) -> Routed:
        """What was routed so far, all at one moment."""
        with self._guard:
            return self._counts

    def takes_candidate(self, user: str) -> bool:
        """Whether a user gets the candidate.

        Raises:
            UsageError: If the user is no text, or an empty one.
        """
        check_user(user)
        hashed = hashlib.sha256(f"{self.salt}\0{user}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(hashed[:8], "big") < self.share * _HASHES

    def __call__(self, *, user: str, **inputs: Any) -> Any:
        """Ask the user's program; ``inputs`` are those of the program."""
        candidate = self.takes_candidate(user)
        try:
            answer = (self.candidate if candidate else self.stable)(**inputs)
        except Exception:
            self._count(candidate=candidate, failed=True)
            raise
        self._count(candidate=candidate, failed=False)
        return answer

    async def acall(self, *, user: str, **inputs: Any) -> Any:
        """The same, with the program's ``acall``."""
        candidate = self.takes_candidate(user)
        try:
            answer = await (self.candidate if candidate else self.stable).acall(**inputs)
        except Exception:
            self._count(candidate=candidate, failed=True)
            raise
        self._count(candidate=candidate, failed=False)
        return answer

    def _count(self, *, candidate: bool, failed: bool) -> None:
        name = "candidate" if candidate else "stable"
        with self._guard:
            more = {name: getattr(self._counts, name) + 1}
            if failed:
                more[f"{name}_errors"] = getattr(self._counts, f"{name}_errors") + 1
            self._counts = replace(self._counts, **more)
