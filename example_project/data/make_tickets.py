"""Write tickets.jsonl: support tickets of a software company that does not exist, each with its category.

    python data/make_tickets.py

Seeded: the same bytes each time. A ticket is built from sentences (opening, background, complaint, detail, closing)
that are drawn independently from wording.json, where alternatives stand in [a|b] and {name} is drawn from the names.
No two tickets share their wording, so none is another one with the names swapped. They are as hard as the real thing:

* The categories talk about the same objects (invoices that cannot be downloaded, invoices that are wrong), and the
  background often belongs to another category ("We changed to the team plan last month.").
* Some customers have two concerns, and a few hardly say what is wrong. Whoever sorted these tickets chose one
  category, not always the one that you would choose: nothing can sort them all.
* There are typos, missing capitals and missing punctuation.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

ROWS = 4200
SEED = 20260301
TWO_CONCERNS = 0.09  # of the tickets
HARDLY_SAID = 0.03
FIRST_COUNTS = 0.65  # how often the first of two concerns decides
SHARES = {"billing": 26, "technical": 28, "account": 21, "feature_request": 17, "other": 8}

WORDING = json.loads(Path(__file__).with_name("wording.json").read_text(encoding="utf-8"))
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}")


def sooner(draw: random.Random, choices: Sequence[str]) -> str:
    """One of the choices, the first ones more often: people mostly say the same things (Zipf's law)."""
    return draw.choices(choices, [1 / (1 + place) for place in range(len(choices))])[0]


def worded(draw: random.Random, sentences: Sequence[str]) -> str:
    """A sentence with its alternatives chosen and its names still open."""
    text = sooner(draw, sentences)
    while _CHOICE.search(text):
        text = _CHOICE.sub(lambda match: sooner(draw, match[1].split("|")), text, count=1)
    return text.strip()


def concerns(draw: random.Random, category: str) -> list[str]:
    """What the ticket is about: one thing, sometimes two, sometimes hardly any."""
    kind = draw.random()
    if kind < HARDLY_SAID:
        return [worded(draw, WORDING["hints"][category])]
    said = [worded(draw, WORDING["complaints"][category])]
    if kind < HARDLY_SAID + TWO_CONCERNS:
        second = draw.choice([name for name in SHARES if name != category])
        said.insert(draw.random() < FIRST_COUNTS, worded(draw, WORDING["complaints"][second]))
    return said


def composed(draw: random.Random, category: str) -> list[str]:
    """The sentences of a ticket, names still open."""
    body = concerns(draw, category)
    if draw.random() < 0.25:
        body.insert(0, worded(draw, WORDING["backgrounds"][draw.choice(list(SHARES))]))
    if draw.random() < 0.4:
        body.insert(draw.choice((0, len(body), len(body))), worded(draw, WORDING["details"]))
    opening = [worded(draw, WORDING["openings"])] if draw.random() < 0.5 else []
    closing = [worded(draw, WORDING["closings"])] if draw.random() < 0.5 else []
    return opening + body + closing


def named(draw: random.Random, sentence: str) -> str:
    text = _NAME.sub(lambda match: draw.choice(WORDING["names"][match[1]]), sentence)
    return text[0].upper() + text[1:]


def misspelt(draw: random.Random, text: str) -> str:
    """Swap, drop or double a letter inside one of the longer words."""
    word = draw.choice(re.findall(r"[A-Za-z]{4,}", text))
    at = draw.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    dropped = word[:at] + word[at + 1 :]
    doubled = word[: at + 1] + word[at:]
    return text.replace(word, draw.choice((swapped, dropped, doubled)), 1)


def written(draw: random.Random, sentences: Sequence[str]) -> str:
    """The text as a customer types it."""
    text = "".join(named(draw, sentence) + draw.choice((". ", ". ", "! ", "... ", "\n")) for sentence in sentences)
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2, 3))):
        text = misspelt(draw, text)
    style = draw.random()
    if style < 0.2:
        text = text.lower()
    if style < 0.08:
        text = re.sub(r"[.,!]", "", text)
    return text.strip()


def tickets() -> list[dict[str, str]]:
    draw = random.Random(SEED)  # noqa: S311  # the same tickets each time
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(rows) < ROWS:
        category = draw.choices(list(SHARES), list(SHARES.values()))[0]
        sentences = composed(draw, category)
        wording = " ".join(sorted(sentences))
        if wording not in seen:
            seen.add(wording)
            rows.append({"text": written(draw, sentences), "category": category})
    return rows


def main() -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in tickets())
    Path(__file__).with_name("tickets.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
