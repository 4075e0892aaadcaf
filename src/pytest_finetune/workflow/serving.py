"""Making trained models callable for the length of a run, with the commands that an endpoint names."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from pytest_finetune.endpoints import Endpoint, Serving
from pytest_finetune.errors import EndpointError, NotDeployed
from pytest_finetune.secrets import redacted

_PAUSE = 5.0  # seconds between two probes
_SHOWN = 2000  # characters of a failed command's output


@dataclass(frozen=True)
class Served:
    """A model, and the name that it is served as."""

    endpoint: Endpoint
    model: str
    name: str

    def run(self, which: str, seconds: float) -> None:
        """Run one of the endpoint's commands.

        Args:
            which: ``deploy``, ``probe`` or ``take_down``.
            seconds: It may take.

        Raises:
            EndpointError: If it fails; with what it printed, but for secrets.
        """
        values = {"model": self.model, "name": self.name}
        if any(value.startswith("-") for value in values.values()):
            raise EndpointError(
                f"model {self.name!r} ({self.model!r}) begins with a dash: a command would take it as an option"
            )
        words = shlex.split(getattr(self.endpoint.serving, which))
        words = [re.sub(r"\{(model|name)\}", lambda found: values[found[1]], word) for word in words]
        try:
            done = subprocess.run(  # noqa: S603  # the user's own command, without a shell
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            problem = f"took more than {seconds:.0f} s"
        except OSError as error:
            problem = f"cannot be run: {error.strerror}"
        else:
            if done.returncode == 0:
                return
            said = redacted(done.stdout.strip())[-_SHOWN:]
            problem = f"ended with status {done.returncode}" + (f" and said:\n{said}" if said else "")
        raise EndpointError(f"endpoint {self.endpoint.name!r}: {which} of {self.name!r} ({words[0]} …) {problem}")


@dataclass
class Deployments:
    """What this run has deployed, and takes down at its end.

    Args:
        pause: Seconds between two probes.
    """

    pause: float = _PAUSE
    _up: list[Served] = field(default_factory=list)
    _tried: dict[tuple[str, str, str], NotDeployed | None] = field(default_factory=dict)
    _before: Any = None

    def serve(self, endpoint: Endpoint, model: str, name: str) -> None:
        """Make a model callable, unless the probe says that it is; once in a run.

        Raises:
            NotDeployed: If it is not callable, since a command fails, or nothing says how to deploy it.
        """
        key = (endpoint.name, model, name)
        if key not in self._tried:
            self._tried[key] = None
            try:
                self._serve(Served(endpoint, model, name))
            except EndpointError as error:
                self._tried[key] = NotDeployed(str(error))
        failed = self._tried[key]
        if failed is not None:
            raise failed

    def _serve(self, served: Served) -> None:
        serving = served.endpoint.serving
        if serving == Serving():
            return
        served.endpoint.check()  # so that its secrets are known, and taken out of what commands print
        if serving.probe is not None and _succeeds(served, serving.timeout) is None:
            return  # somebody else's deployment, which is not ours to take down
        if serving.deploy is None:
            if serving.probe is not None:
                raise NotDeployed(
                    f"model {served.name!r} is not deployed: the probe of endpoint {served.endpoint.name!r} fails."
                    " Deploy it under that name, or name a command that does: deploy (docs/endpoints.md)"
                )
            return
        self._heed_termination()
        self._up.append(served)  # before the command, which may be interrupted half-way
        served.run("deploy", serving.timeout)
        if serving.probe is not None:
            self._wait(served, serving.timeout)

    def _wait(self, served: Served, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (error := _succeeds(served, max(1.0, end - time.monotonic()))) is not None:
            if time.monotonic() + self.pause > end:
                raise NotDeployed(f"{error}\nIt was deployed, and did not answer the probe within {seconds:.0f} s")
            time.sleep(self.pause)

    def take_down(self) -> list[str]:
        """Undo every deployment of this run.

        Returns:
            What went wrong: a sentence for each that may still be up, and cost money.
        """
        troubles = list[str]()
        while self._up:
            served = self._up.pop()
            if served.endpoint.serving.take_down is None:
                continue
            try:
                served.run("take_down", served.endpoint.serving.timeout)
            except EndpointError as error:
                troubles.append(f"{error}\nIt may still be up, and cost money: take it down by hand")
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
        self._tried.clear()
        return troubles

    def close(self) -> None:
        """Take down what is still up, whatever became of the run."""
        for trouble in self.take_down():
            sys.stderr.write(f"ERROR: {trouble}\n")

    def _heed_termination(self) -> None:
        """A CI job that is cancelled gets a SIGTERM, which ends a process without a word unless it is caught."""
        if self._before is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)


def _succeeds(served: Served, seconds: float) -> EndpointError | None:
    """None where the probe succeeds, else why not."""
    try:
        served.run("probe", seconds)
    except EndpointError as error:
        return error
    return None
