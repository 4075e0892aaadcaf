"""What must never be shown: every secret that was read is known here, and taken out of what others say."""

from __future__ import annotations

import re

_LOOKS_SECRET = re.compile(r"\b(?:sk|pk|key|gsk|nvapi)-[\w*-]{6,}|(?<=Bearer )\S+|(?<=://)[^/\s@]+@")
_SHORTEST = 4  # characters; what is shorter would blank ordinary words
_known: set[str] = set()


def hide(secret: str) -> str:
    """Give the secret back, and from now on take it out of every text that is `redacted`."""
    if len(secret) >= _SHORTEST:
        _known.add(secret)
    return secret


def redacted(text: str) -> str:
    """The text without any secret that was read so far, and without what looks like one."""
    for secret in sorted(_known, key=len, reverse=True):  # one may hold another
        text = text.replace(secret, "…")
    return _LOOKS_SECRET.sub("…", text)
