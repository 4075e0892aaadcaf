"""A program as it is served: whatever the settings around a call are, it is asked as it was gated."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from pytest_finetune.programs.state import predictors

if TYPE_CHECKING:
    import dspy


def served(program: dspy.Module, adapter: dspy.Adapter) -> dspy.Module:
    """Give a program as a module that always uses its own adapter: DSPy knows adapters only as a setting.

    Predictors that it makes on its way ask the LM of its first one, as in the gate. It can be called and awaited,
    also where the program can only do the one: what is not ``async`` is awaited in a thread of the loop, and what is
    nothing else has a loop of its own in each call. Within a running loop, such a call blocks it as any other does.

    Args:
        program: With an LM on every predictor.
        adapter: Writes its prompts and reads its answers.
    """
    import dspy

    lm = next(predictor.lm for predictor in predictors(program).values())

    class Served(dspy.Module):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, **inputs: Any) -> Any:
            with dspy.context(lm=lm, adapter=adapter):
                if hasattr(type(program), "forward"):
                    return self.program(**inputs)
                return _finished(self.program, inputs)

        async def aforward(self, **inputs: Any) -> Any:
            with dspy.context(lm=lm, adapter=adapter):
                if hasattr(type(program), "aforward"):
                    return await self.program.acall(**inputs)
                return await asyncio.to_thread(self.program, **inputs)

    return Served()


def _finished(program: dspy.Module, inputs: dict[str, Any]) -> Any:
    """The answer of a program that can only be awaited."""

    def ask() -> Any:
        return asyncio.run(program.acall(**inputs))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ask()
    with ThreadPoolExecutor(1) as own:  # a thread has one loop at a time
        return own.submit(copy_context().run, ask).result()
