"""Keys that a command prints: kept for some minutes, since tokens expire while a job or an evaluation goes on."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from functools import cache

from pytest_finetune.errors import EndpointError
from pytest_finetune.secrets import hide

KEPT = 300.0  # seconds after which a key is asked for again
_LIMIT = 60.0  # seconds that the command may take


class KeyCommand:
    """The key that a command line prints. What it prints is never shown, nor are its arguments.

    Args:
        command: Split as a POSIX shell would, and run without one.
        kept: Seconds after which it is run again.
    """

    def __init__(self, command: str, kept: float = KEPT) -> None:
        self._kept = kept
        self._words = shlex.split(command)
        self._key = ""
        self._until = 0.0
        self._lock = threading.Lock()
        self.generation = 0

    def key(self, endpoint: str) -> str:
        """The key; an old one serves on where no new one is to be had, until it is refused.

        Args:
            endpoint: The endpoint's name, for messages.

        Raises:
            EndpointError: If the command fails.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._key = hide(self._printed(endpoint))
                except EndpointError:
                    if not self._key:
                        raise
                self._until = time.monotonic() + self._kept
            return self._key

    def refused(self, generation: int) -> None:
        """Forget the key that was in use in this generation; those who were refused together get one new key."""
        with self._lock:
            if generation == self.generation:
                self.generation += 1
                self._key, self._until = "", 0.0

    def _printed(self, endpoint: str) -> str:
        problem = ""
        try:
            done = subprocess.run(  # noqa: S603  # the user's own command, without a shell
                self._words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, check=False
            )
            lines = done.stdout.strip().splitlines()
            if done.returncode != 0:
                problem = f"ended with status {done.returncode}"
            elif len(lines) != 1:
                problem = f"printed {len(lines)} lines; it must print the key alone"
        except subprocess.TimeoutExpired:
            problem = f"took more than {_LIMIT:.0f} s"
        except (OSError, ValueError) as error:
            problem = f"cannot be run ({type(error).__name__})"
        if problem:
            raise EndpointError(
                f"endpoint {endpoint!r}: its api_key_command ({self._words[0].partition('=')[0]} …) {problem}; run it"
                " in a terminal to see why (what it prints is not shown here, since it may be secret)"
            )
        return lines[0]


@cache
def key_command(command: str) -> KeyCommand:
    """The one key of a command in this process, whoever asks for it."""
    return KeyCommand(command)
