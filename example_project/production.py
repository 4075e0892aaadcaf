"""What production runs: the promoted model, a canary, and what happens when the model is lost.

It runs offline, as everything here: ``rehearsal`` stands for the provider. In production there is none of it, and no
``base_url``: the lock names the endpoint, and pyproject.toml says where that is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pytest_finetune import load
from pytest_finetune.errors import NotPromoted
from pytest_finetune.production import Canary, Fallback, rehearsal

LOCK = Path(__file__).with_name("models.lock")
USERS = [f"user-{number}" for number in range(40)]
TICKETS = [
    "I was charged twice for the same invoice, please refund one of the payments.",
    "The app crashes with an error as soon as I open the settings page.",
    "I cannot log in since you made me change my password.",
    "Could you add an option to export the report as a spreadsheet?",
]


def first(base_url: str, *wanted: tuple[str, str]) -> Any:
    """The first of these that the lock has: a stage, and the state of its version; None if it has none of them."""
    for stage, state in wanted:
        try:
            return load(LOCK, "tickets", stage=stage, state=state, base_url=base_url)
        except NotPromoted:
            continue
    return None


def told(program: Any) -> str:
    return f"{program.version.model} ({program.version.stage}, {program.version.state})"


def main() -> None:
    with rehearsal(LOCK, "tickets") as provider:
        promoted = load(LOCK, "tickets", base_url=provider.base_url)
        earlier = first(
            provider.base_url,
            ("finetuned", "deprecated"),  # what was in production before
            ("prompt_optimized", "production"),  # else the base model, with its long prompt
            ("prompt_optimized", "candidate"),
        )
        candidate = first(provider.base_url, ("finetuned", "candidate"))
        stable = Fallback(promoted, earlier, errors=3, window=60, rest=2)
        tried = Fallback(candidate, stable) if candidate else stable
        canary = Canary(stable, tried, share=0.1 if candidate else 0.0)

        def serve(what: str) -> None:
            answers = [canary(user=user, text=TICKETS[n % len(TICKETS)]).category for n, user in enumerate(USERS)]
            print(f"{what}: {len(answers)} answers\n  {canary.counts}\n  {stable.counts}")

        print(f"production: {told(promoted)}")
        print(f"candidate:  {told(candidate) if candidate else 'none'}")
        print(f"fallback:   {told(earlier)}")
        serve("all is well")
        provider.set_shutdown(promoted.version.model, "2026-01-01")
        serve("the model is lost")
        provider.set_shutdown(promoted.version.model, None)
        time.sleep(stable.rest)
        serve("it is back")


if __name__ == "__main__":
    main()
