"""Which texts are the same, which are near, and that no pair is overlooked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.leaks import NEAR, Leak, Leaks, Texts, find_leaks, similarity

QUESTION = "my card has not come in the post yet although i was told two weeks ago that it was sent"  # 20 words
WORDS = st.sampled_from(["ab", "cd", "ef", "gh", "ij"])
TEXT = st.one_of(st.lists(WORDS, max_size=30).map(" ".join), st.text(max_size=12))
ONE_FIELD, TWO_FIELDS = st.tuples(TEXT), st.tuples(TEXT, TEXT)


@st.composite
def edited(draw: st.DrawFn, fields: int) -> Texts:
    """A long row with a few words changed: many such pairs are about as alike as `NEAR`."""
    texts = []
    for _ in range(fields):
        words = [f"w{n}" for n in range(draw(st.integers(18, 30)))]
        for at in draw(st.lists(st.integers(0, len(words) - 1), max_size=3)):
            words[at] = draw(st.sampled_from(["", "new", words[at].upper()]))
        texts.append(" ".join(words))
    return tuple(texts)


def named(rows: list[Texts], name: str) -> dict[str, Texts]:
    return {f"{name} {n}": texts for n, texts in enumerate(rows)}


def by_comparing_all(test: dict[str, Texts], seen: dict[str, Texts]) -> Leaks:
    exact, near = [], []
    for row_id, texts in test.items():
        found = [Leak(row_id, where, similarity(texts, other)) for where, other in seen.items()]
        same = [leak for leak in found if seen[leak.where] == texts]
        best = max(found, key=lambda leak: leak.similarity, default=Leak(row_id, "", 0.0))
        exact += same[:1]
        near += [best] if not same and best.similarity >= NEAR else []
    return Leaks(tuple(exact), tuple(near))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Where is my card?", "where is  my CARD", 1.0),
        ("Er \ufb01ndet die STRASSE", "er findet die Straße", 1.0),
        ("where is my card", "where is my new card", 4 / 9),
        ("where is my card", "my card is where", 0.0),
        (QUESTION, f"{QUESTION} today", 20 / 25),
        (QUESTION, QUESTION.replace("come", "arrived"), 19 / 25),
        (f"{QUESTION} on the first of may", f"{QUESTION} on the last of may", 24 / 30),
        ("我的卡还没有到", "我的卡还没到", 6 / 11),
        ("???", "? ? ?", 0.0),
        ("👍", "👎", 0.0),
        ("", " ", 1.0),
        ("", "a", 0.0),
    ],
)
def test_similarity_is_the_share_of_runs_of_three_words_that_both_have(one: str, other: str, expected: float) -> None:
    assert similarity((one,), (other,)) == expected


def test_rows_are_as_alike_as_their_least_similar_field() -> None:
    passage = " ".join(f"word{n}" for n in range(200))
    asked = (passage, "where does it happen")
    assert similarity(asked, (passage, "who is it about")) == 0.0
    assert similarity(asked, (passage, "Where does it happen?")) == 1.0
    assert find_leaks({"row": asked}, {"seen": (passage, "who is it about")}) == Leaks()


def test_each_row_is_found_once_by_what_it_is_nearest_to() -> None:
    test = {"a": (QUESTION,), "b": (f"{QUESTION} today",), "c": ("something else",)}
    seen = {
        "first": (f"{QUESTION} today",),
        "second": (f"{QUESTION}!",),
        "third": (f"{QUESTION} today",),
        "fourth": (QUESTION.title(),),
    }
    assert find_leaks(test, seen) == Leaks(exact=(Leak("b", "first", 1.0),), near=(Leak("a", "second", 1.0),))


def test_a_pair_just_at_the_threshold_is_near() -> None:
    once, stammered = (
        ("how do i get my money back from the shop",),
        ("how do um how do i get my money back from the shop",),
    )
    assert similarity(once, stammered) == NEAR
    assert find_leaks({"a": once}, {"seen": stammered}) == Leaks(near=(Leak("a", "seen", NEAR),))


def test_what_is_only_spelt_differently_is_near_and_not_exact() -> None:
    assert find_leaks({"a": ("Hello",)}, {"seen": ("hello",)}) == Leaks(near=(Leak("a", "seen", 1.0),))


@given(st.lists(TWO_FIELDS, min_size=1, max_size=8))
def test_identical_texts_are_exact(rows: list[Texts]) -> None:
    leaks = find_leaks(named(rows, "row"), named(rows, "seen"))
    assert [leak.row_id for leak in leaks.exact] == [f"row {n}" for n in range(len(rows))]
    assert leaks.near == ()


@given(st.one_of(st.tuples(ONE_FIELD, ONE_FIELD), st.tuples(edited(2), edited(2))))
def test_it_does_not_matter_which_of_two_was_seen(pair: tuple[Texts, Texts]) -> None:
    one, other = pair
    there, back = find_leaks({"x": one}, {"y": other}), find_leaks({"x": other}, {"y": one})
    assert there == back


@given(st.data(), st.sampled_from([ONE_FIELD, TWO_FIELDS, edited(1), edited(2)]))
def test_it_finds_what_comparing_all_pairs_finds(data: st.DataObject, rows: st.SearchStrategy[Texts]) -> None:
    test, seen = (named(data.draw(st.lists(rows, max_size=6)), name) for name in ("row", "seen"))
    assert find_leaks(test, seen) == by_comparing_all(test, seen)
