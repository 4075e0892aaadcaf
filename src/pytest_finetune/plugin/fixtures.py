"""The fixtures that tests can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_finetune.plugin.markers import GatedClaim
    from pytest_finetune.sandbox import Sandbox


@pytest.fixture
def _ft_claim(request: pytest.FixtureRequest) -> GatedClaim:
    claim: GatedClaim = request.param
    return claim


@pytest.fixture(scope="session")
def ft_sandbox() -> Iterator[Sandbox]:
    """A local OpenAI-shaped server that learns from the files it is given: no key, no network, no cost.

    ``ft_sandbox.base_url`` is the address for an OpenAI client or a ``dspy.LM``; any key will do. Its models are
    ``sandbox-small`` and ``sandbox-large``. ``ft_sandbox.set_faults(...)`` makes it fail as a provider may fail.
    Needs the extra ``[sandbox]``.
    """
    from pytest_finetune.sandbox import Sandbox, SandboxError

    sandbox = Sandbox()
    try:
        sandbox.start()
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)
    yield sandbox
    sandbox.stop()
