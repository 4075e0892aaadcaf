"""A local, OpenAI-shaped server whose models learn from the files they are given.

It needs no key, no network and no money, and imports nothing else of this package: it could be lifted out.
What its models can and cannot learn is described in `pytest_finetune.sandbox.learning`.
"""

from .embedded import Sandbox, SandboxError
from .faults import Fault, FaultKind
from .settings import Settings

__all__ = ["Fault", "FaultKind", "Sandbox", "SandboxError", "Settings"]
