"""The comparison language: text -> claims.

::

    claim      = side relation side { relation side }         a chain gives one claim per relation
    relation   = ( ">=" | "<=" )
    side       = [ number "*" ] reading [ margin ] | number
    reading    = stage | measure "(" stage ")"                "finetuned" is short for "score(finetuned)"
    measure    = ( "score" | "format_errors" | "cost" | "tokens" | "latency" ) [ "_p" percentile ]
    margin     = ( "-" | "+" ) number                         after the last side only

``finetuned >= baseline - 0.01`` allows 0.01 less, ``cost(a) <= cost(b) + 0.01`` 0.01 more, and with the
sign turned round a claim asks for that much better. ``locked`` stands for the rows last accepted for the other
side's stage. ``latency_p95(a)`` is the 95th percentile in the place of the mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal, NoReturn

from pytest_finetune.core.records import Measure, Scope
from pytest_finetune.errors import ClaimError

LOCKED = "locked"
LADDER = ("baseline", "prompt_optimized", "finetuned")
LADDER_MARGIN = 0.02  # where none is set

_PERCENTILE = re.compile(r"_p[1-9]\d?$")

Relation = Literal[">=", "<="]
_RELATIONS: dict[str, Relation] = {">=": ">=", "<=": "<="}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<symbol>>=|<=|[*()+-]))"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A measure of a stage, times a factor: ``0.1 * cost(teacher)``."""

    stage: str
    measure: Measure = Measure.SCORE
    factor: float = 1.0
    percentile: int | None = None

    def __str__(self) -> str:
        of = "" if self.percentile is None else f"_p{self.percentile}"
        name = self.stage if self.measure is Measure.SCORE else f"{self.measure}{of}({self.stage})"
        return name if self.factor == 1 else f"{_figure(self.factor)} * {name}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison: ``left relation right``, give or take ``margin``.

    Args:
        left: A reading; the number, if there is one, is always on the right.
        relation: ``>=`` or ``<=``.
        right: A reading of the same measure, or a number.
        margin: The room that the text gives, in the measure's unit: how much the left side may be worse.
            Negative if the text asks for better. None if the text says nothing: then the policy's applies.
    """

    left: Reading
    relation: Relation
    right: Reading | float
    margin: float | None = None

    @property
    def measure(self) -> Measure:
        """What both sides are measured by."""
        return self.left.measure

    @property
    def percentile(self) -> int | None:
        """Which percentile of the measure both sides are compared by; None for the mean."""
        return self.left.percentile

    @property
    def uses_locked(self) -> bool:
        """Whether one side is the rows last accepted."""
        return LOCKED in {side.stage for side in self._readings()}

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to evaluate, left to right; ``locked`` is none."""
        return tuple(side.stage for side in self._readings() if side.stage != LOCKED)

    def _readings(self) -> tuple[Reading, ...]:
        return (self.left, self.right) if isinstance(self.right, Reading) else (self.left,)

    def __str__(self) -> str:
        right = str(self.right) if isinstance(self.right, Reading) else _figure(self.right)
        if self.margin is None:
            return f"{self.left} {self.relation} {right}"
        sign = "-" if (self.relation == ">=") == (self.margin >= 0) else "+"
        return f"{self.left} {self.relation} {right} {sign} {_figure(abs(self.margin))}"


@dataclass(frozen=True, slots=True)
class ScopedClaim:
    """A claim of a task, and the rows that it looks at.

    Args:
        task: The task's name.
        claim: What must hold.
        scope: On which rows.
    """

    task: str
    claim: Claim
    scope: Scope = field(default_factory=Scope)

    def __str__(self) -> str:
        return f"{self.claim}{self.scope}"


def parse(text: str, *, stages: Collection[str] | None = None) -> tuple[Claim, ...]:
    """Read a claim; a chain of k relations gives k claims.

    Args:
        text: As in the module's docstring.
        stages: The stages that exist, ``locked`` aside; None takes any name.

    Raises:
        ClaimError: The text does not parse, names something unknown, or cannot mean anything. The message
            shows the text with a caret under the place.
    """
    return _Parser(" ".join(text.split()), stages).claims()


def ladder(min_score: float | None = None) -> tuple[Claim, ...]:
    """Write baseline <= prompt_optimized <= finetuned rung by rung, and ``finetuned >= min_score`` if given.

    Raises:
        ClaimError: ``min_score`` is not in [0, 1].
    """
    texts = [f"{upper} >= {lower}" for lower, upper in pairwise(LADDER)]
    if min_score is not None:
        texts.append(f"{LADDER[-1]} >= {min_score!r}")
    return tuple(claim for text in texts for claim in parse(text, stages=LADDER))


def _figure(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class _Side:
    """A side as read, with its place for messages."""

    value: Reading | float
    place: _Token


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, stages: Collection[str] | None) -> None:
        self._text, self._stages = text, stages
        self._tokens = self._tokenize()
        self._at = 0

    def claims(self) -> tuple[Claim, ...]:
        """Read the whole text."""
        sides, relations = [self._side()], list[Relation]()
        while (relation := self._relation()) is not None:
            relations.append(relation)
            sides.append(self._side())
        margin = self._margin(relations[-1], sides) if relations else None
        if self._next.kind != "end":
            hint = " A margin goes after the last side." if self._next.kind == "symbol" else ""
            self._fail(f"cannot read {self._next.text!r} here.{hint}", self._next)
        if not relations:
            self._fail("nothing is compared here: write for example 'finetuned >= baseline'", self._next)
        margins = [*[None] * (len(relations) - 1), margin]
        links = zip(sides, relations, sides[1:], margins, strict=False)
        return tuple(self._claim(*link) for link in links)

    def _side(self) -> _Side:
        start = self._next.start
        value = self._number() if self._next.kind == "number" else self._reading()
        end = self._tokens[self._at - 1].end
        return _Side(value, _Token("side", self._text[start:end], start))

    def _number(self) -> Reading | float:
        token = self._take()
        number = self._finite(token)
        if self._next.text != "*":
            return number
        self._take()
        if number == 0:
            self._fail("a factor must be more than 0", token)
        return self._reading(number)

    def _finite(self, token: _Token) -> float:
        number = float(token.text)
        if not math.isfinite(number):
            self._fail("this number is too large", token)
        return number

    def _reading(self, factor: float = 1.0) -> Reading:
        token = self._expect("name", "a stage, a measure or a number")
        if self._next.text != "(":
            return Reading(self._known_stage(token), factor=factor)
        measure, percentile = self._measure(token)
        self._take()
        stage = self._known_stage(self._expect("name", "a stage"))
        if self._next.text != ")":
            self._fail("expected ')'", self._next)
        self._take()
        return Reading(stage, measure, factor, percentile)

    def _measure(self, token: _Token) -> tuple[Measure, int | None]:
        name, _, percentile = token.text.partition("_p") if _PERCENTILE.search(token.text) else (token.text, "", "")
        measures = [measure.value for measure in Measure]
        if name not in measures:
            self._fail(f"unknown measure {name!r}.{_hint(name, measures, 'Measures')}", token)
        measure = Measure(name)
        if percentile and measure.bounded:
            self._fail(f"{measure} is compared by its mean: percentiles are for cost, tokens and latency", token)
        return measure, int(percentile) if percentile else None

    def _known_stage(self, token: _Token) -> str:
        if self._stages is not None and token.text not in {*self._stages, LOCKED}:
            known = [*self._stages, LOCKED]
            self._fail(f"unknown stage {token.text!r}.{_hint(token.text, known, 'Stages')}", token)
        return token.text

    def _relation(self) -> Relation | None:
        relation = _RELATIONS.get(self._next.text)
        if relation is not None:
            self._take()
        return relation

    def _margin(self, relation: Relation, sides: list[_Side]) -> float | None:
        sign = self._next
        if sign.text not in {"-", "+"}:
            return None
        self._take()
        number = self._finite(self._expect("number", "a number"))
        if any(isinstance(side.value, float) for side in sides[-2:]):
            self._fail("a number takes no margin: write the number that you mean", sign)
        return number if (sign.text == "-") == (relation == ">=") else -number

    def _claim(self, left: _Side, relation: Relation, right: _Side, margin: float | None) -> Claim:
        if isinstance(left.value, float):
            left, right, relation = right, left, "<=" if relation == ">=" else ">="
        a, b = left.value, right.value
        if isinstance(a, float):
            self._fail("two numbers are compared: one side must be a stage", left.place)
        if isinstance(b, float):
            self._check_bar(a, left.place, b, right.place)
        elif (a.measure, a.percentile) != (b.measure, b.percentile):
            both = f"{right.place.text} is compared with {left.place.text}"
            self._fail(f"{both}: both sides need one measure", right.place)
        elif a.stage == b.stage:
            self._fail(f"{a.stage!r} is compared with itself", right.place)
        if a.measure.bounded and margin is not None and abs(margin) >= 1:
            self._fail(f"{a.measure} lies in [0, 1]: a margin of {_figure(margin)} says nothing", self._tokens[-2])
        return Claim(a, relation, b, margin)

    def _check_bar(self, reading: Reading, place: _Token, bar: float, bar_place: _Token) -> None:
        if reading.stage == LOCKED:
            self._fail("'locked' stands for the other side's stage: compare it with one", place)
        if reading.factor != 1:
            self._fail("a factor makes no sense against a number: write the number that you mean", place)
        if reading.measure.bounded and bar > 1:
            hint = f": did you mean {_figure(bar / 100)}?" if bar <= 100 else ""
            self._fail(f"{reading.measure} lies in [0, 1]{hint}", bar_place)

    # --- tokens ---

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, kind: str, what: str) -> _Token:
        if self._next.kind != kind:
            self._fail(f"expected {what}", self._next)
        return self._take()

    def _tokenize(self) -> list[_Token]:
        tokens, at = list[_Token](), 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                start = at + (self._text[at] == " ")
                bad = _Token("bad", self._text[start], start)
                hint = ": only '>=' and '<=' compare" if bad.text in "<>=!≥≤" else ""
                self._fail(f"cannot read {bad.text!r}{hint}", bad)
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return [*tokens, _Token("end", "", len(self._text))]

    def _fail(self, message: str, place: _Token) -> NoReturn:
        caret = " " * place.start + "^" * max(len(place.text), 1)
        raise ClaimError(f"claim: {message}\n    {self._text}\n    {caret}")


def _hint(name: str, known: Iterable[str], title: str) -> str:
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"{guess} {title}: {', '.join(names)}."
