from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from pytest_finetune.sandbox.learning.features import Query, Vocabulary, input_grams, large_grams, small_grams, words

TEXTS = ["my card, my card!", "the cardArrival", "a late transfer"]


def test_names_are_split_into_words() -> None:
    assert words("cardArrival, card_arrival 42") == ["card", "arrival", "card", "arrival", "42"]


def test_the_large_model_also_sees_pairs_of_words() -> None:
    assert small_grams("on it") == [" on", "on ", " on ", " it", "it ", " it "]
    assert large_grams("on it") == [*small_grams("on it"), "on_it"]


@pytest.mark.parametrize("text", TEXTS)
def test_vectors_are_those_of_scikit_learn(text: str) -> None:
    expected = TfidfVectorizer(analyzer=small_grams, sublinear_tf=True, smooth_idf=False).fit(TEXTS).transform([text])
    vocabulary = Vocabulary.of("small", map(small_grams, TEXTS))
    dense = np.zeros(len(vocabulary.index))
    at, by = vocabulary.vector({"text": text})
    dense[at] = by
    np.testing.assert_allclose(dense, expected.toarray()[0], rtol=1e-5)


def test_several_fields_are_told_apart() -> None:
    assert input_grams("small", {"q": "a"}) == [" a "]
    assert input_grams("small", {"q": "a", "p": "a"}) == [" a ", " a ", "q:a", "p:a"]


@given(st.text(), st.text())
def test_vectors_are_no_longer_than_one(known: str, text: str) -> None:
    vocabulary = Vocabulary.of("large", [large_grams(known)])
    vector = Query({"text": text}).vector(vocabulary)
    assert float(np.linalg.norm(vector.by)) <= 1 + 1e-5


def test_a_parents_places_and_weights_are_kept() -> None:
    parent = Vocabulary.of("words", [["card"], ["card", "late"]])
    grown = Vocabulary.of("words", [["card", "pin"]], parent)
    assert grown.index == {"card": 0, "late": 1, "pin": 2}
    np.testing.assert_array_equal(grown.idf[:2], parent.idf)
