"""Counting tokens without a vocabulary."""

from __future__ import annotations


def count_tokens(text: str) -> int:
    """About four characters a token, at least one: the rule of thumb for English text."""
    return max(1, (len(text) + 3) // 4)


def truncate(text: str, tokens: int) -> str:
    """The longest beginning of the text that has no more than so many tokens."""
    return text[: tokens * 4]
