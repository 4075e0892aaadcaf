"""What must never be shown: every secret that was read is known here, and taken out of what others say.

One function for every way out: messages of errors, reports, the terminal, the store, the journal and the logs of the
libraries below. What a model answers is never touched, since it is scored.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_MARK = "…"
_SHORTEST = 4  # characters; what is shorter would blank ordinary words
_LONG = 8  # characters; what is shorter is blanked as a word only: a local server's key may be "test"
_NAME = r"[\w.-]*(?:key|token|secret|sig|signature|password|passwd|pwd|credential|credentials|auth)"
_HEADER = r"(?:(?:proxy-)?authorization|(?:x-)?api-key|(?:set-)?cookie)"
_QUOTE = r"\\{0,9}[\"']"
_LOOKS_SECRET = (
    re.compile(r"\b(?:(?:sk|pk|gsk|nvapi)-|key-(?=[\w*-]{12}))(?=[\w-]{0,99}[\d*])[\w*-]{6,}"),
    re.compile(r"\b(?:hf|gh[oprsu]|glpat|xox[abps])[_-]\w[\w-]{15,}|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{8,}\.[\w.-]{8,}"),
    re.compile(r"(?<=Bearer )[^\s\"'\\]+|(?<=Basic )[\w+/=-]{4,}|(?<=://)[^/\s@\"'\\]+@"),
    re.compile(rf"(?i)(?<=[?&;])({_NAME}=)[^&\s#\"'<>;)\\]+"),
    re.compile(rf"(?i)\b({_HEADER}:\s*)[^\"',}}\\\r\n]+"),
    re.compile(rf"(?i)({_QUOTE}(?:{_NAME}|{_HEADER}){_QUOTE}\s*:\s*{_QUOTE})[^\"'\\\r\n]+"),
)
_TELL = frozenset({"httpx", "httpcore", "openai", "dspy", "urllib3"})  # libraries that log what they send
_known: list[str] = []  # the longest first: one may hold another
_writing = threading.Lock()


def hide(secret: str) -> str:
    """Give the secret back, and from now on take it out of what is `redacted`, however it is quoted there."""
    token = secret.partition(" ")[2]
    words = {secret, secret if " " in token else token}  # of "Bearer X" also X
    forms = {form for word in words for form in (word, quote(word, safe=""), *_as_json(word))}
    _watch_logs()
    with _writing:
        known = {*_known, *(form for form in forms if len(form) >= _SHORTEST)}
        _known[:] = sorted(known, key=len, reverse=True)
    return secret


def _as_json(word: str) -> tuple[str, str]:
    return json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]


def hide_credentials(url: str) -> None:
    """`hide` the user and the password in an address, as they stand there and as they are sent."""
    given = urlsplit(url).netloc.rpartition("@")[0]
    for credentials in {given, unquote(given)} - {""}:
        hide(credentials.partition(":")[2] or credentials)
        hide(base64.b64encode(credentials.encode()).decode())


def hide_within(body: Mapping[str, Any]) -> None:
    """`hide` what stands under a secret's name in the body of a request, at any depth."""
    for name, value in body.items():
        inner = value if isinstance(value, list) else [value]
        for part in inner:
            if isinstance(part, Mapping):
                hide_within(part)
            elif isinstance(part, str) and re.fullmatch(_NAME, name, re.IGNORECASE):
                hide(part)


def redacted(text: str) -> str:
    """The text without any secret that was read so far, and without what looks like one."""
    for secret in tuple(_known):
        if len(secret) < _LONG:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _MARK, text)
        else:
            text = text.replace(secret, _MARK)
    for pattern in _LOOKS_SECRET:
        text = pattern.sub(lambda found: (found[1] if found.re.groups else "") + _MARK, text)
    return text


def shown(text: str) -> str:
    """The text as it may be shown: `redacted`, and without what would steer a terminal; line ends stay."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in redacted(text))


@cache
def _watch_logs() -> None:
    """Take secrets out of what the libraries below log, whoever listens: at DEBUG they log addresses and bodies."""
    make = logging.getLogRecordFactory()

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.name.partition(".")[0] in _TELL:
            said = record.getMessage()
            clean = redacted(said)
            if clean != said:
                record.msg, record.args = clean, None
        return record

    logging.setLogRecordFactory(make_redacted)
