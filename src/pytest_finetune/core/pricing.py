"""What a model costs: a dated table, and the user's own prices above it. An unknown price stays unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

CAP = "--ft-max-cost; of train: --max-cost"
"""The options that set what a run may cost, as messages name them."""
MILLION = 1_000_000
_BYTES = 4  # of a token


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Args:
        prompt: Of what is sent.
        completion: Of what is received.
        training: Of what is trained on, for each epoch; None where it is not known.
    """

    prompt: float
    completion: float
    training: float | None = None

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """US dollars for so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / MILLION


AS_OF = "2026-11-21"

SANDBOX_PRICES = {
    "sandbox-small": Price(0.15, 0.60, 3.0),
    "sandbox-large": Price(2.50, 10.0, 25.0),
    "ft:sandbox-small": Price(0.30, 1.20),
    "ft:sandbox-large": Price(3.75, 15.0),
}
"""The sandbox is free: these are the prices of the models that it stands for, so that cost can be tried."""

OPENAI_PRICES = {
    "gpt-4o-mini": Price(0.15, 0.60),
    "gpt-4o": Price(2.50, 10.0),
    "gpt-4.1-nano": Price(0.10, 0.40),
    "gpt-4.1-mini": Price(0.40, 1.60),
    "gpt-4.1": Price(2.00, 8.00),
    "ft:gpt-4o-mini": Price(0.30, 1.20),
    "ft:gpt-4o": Price(3.75, 15.0),
    "ft:gpt-4.1-mini": Price(0.80, 3.20),
    "ft:gpt-4.1": Price(3.00, 12.0),
}
"""Inference only, as the price map of LiteLLM 1.109 has it (see ``AS_OF``). It has no training prices."""

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


Prices = Sequence[Mapping[str, Price]]
"""Lists of prices by model; what stands in an earlier list is taken before a later one is looked at."""


def price_of(model: str, prices: Prices) -> Price | None:
    """The price of a model.

    A name stands for itself, for its dated snapshots (``gpt-4o`` for ``gpt-4o-2024-08-06``), and behind ``ft:`` for
    all models that are tuned from it (``ft:gpt-4o`` for ``ft:gpt-4o-2024-08-06:org::id``). A name may also be a
    pattern (``ft:*``). Of the first list that has a name that fits, the longest such name is taken.

    Args:
        model: Its id, as the endpoint names it.
        prices: By name, the user's own before ours.

    Returns:
        None where no name fits: unknown is not free.
    """
    names = _names(model)
    for known in prices:
        fitting = [name for name in known if name in names or fnmatchcase(model, name)]
        if fitting:
            return known[max(fitting, key=len)]
    return None


def price_of_all(models: Iterable[str], prices: Prices) -> Price | None:
    """The price that models have in common; None where one has none, or they differ: tokens are counted together."""
    found = {price_of(model, prices) for model in models}
    return found.pop() if len(found) == 1 else None


def tokens_in(text: str) -> float:
    """About how many tokens a text has: one for four bytes.

    The rule of thumb for English text is four characters. Held against o200k_base, bytes do as well there (DSPy's
    prompts have 3 % more tokens than that), and do better for other scripts, which have a token for two or three
    bytes of every character (Chinese 13 % fewer than that). Numbers and JSON have up to twice as many.
    """
    return len(text.encode(errors="surrogatepass")) / _BYTES


def _names(model: str) -> set[str]:
    tuned, bare = model.startswith("ft:"), model.removeprefix("ft:")
    base = bare.partition(":")[0] if tuned else bare
    prefix = "ft:" if tuned else ""
    return {model, f"{prefix}{base}", f"{prefix}{_DATED.sub('', base)}"}
