"""Harder versions of queries. Expected values: the rules, checked word by word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergen.data.harder_queries import (
    DROPPED,
    KINDS,
    MISSPELT,
    NONE,
    SYNONYMS,
    frequent_words,
    harder_queries,
    like_words,
)

TEXTS = ["", "red wool socks", "blue wool", "red", "a of in"]
LIKE = {"red": "crimson", "wool": "cotton"}


def versions(kind: str, texts: list[str]) -> list[str]:
    harder = harder_queries(texts, LIKE)
    return [harder.texts[number] for number in harder.numbers[kind]]


def test_old_queries_keep_their_numbers_and_no_query_stays_none():
    harder = harder_queries(TEXTS, LIKE)
    assert harder.texts[: len(TEXTS)] == TEXTS
    assert len(set(harder.texts)) == len(harder.texts)
    assert set(harder.numbers) == set(KINDS)
    assert all(numbers.shape == (len(TEXTS),) and numbers[0] == 0 for numbers in harder.numbers.values())


def test_kinds_by_hand():
    assert versions(SYNONYMS, TEXTS) == ["", "crimson cotton socks", "blue cotton", "crimson", "a of in"]
    assert versions(NONE, TEXTS) == [""] * 5


def test_what_becomes_of_a_query_depends_on_its_text_alone():
    for kind in KINDS:
        alone = versions(kind, ["", "blue wool"])[1]
        assert alone == versions(kind, TEXTS)[2]


words = st.text("abcdefgh", min_size=1, max_size=9)


@given(st.lists(words, min_size=1, max_size=6))
def test_some_words_go_and_some_stay(query):
    kept = versions(DROPPED, ["", " ".join(query)])[1].split()
    assert 1 <= len(kept) <= max(1, len(query) - 1)
    places = iter(query)
    assert all(word in places for word in kept)  # a subsequence


@given(words)
def test_a_long_word_gets_one_slip_and_keeps_its_first_letter(word):
    new = versions(MISSPELT, ["", word])[1]
    if len(word) < 4:
        assert new == word
        return
    assert new != word
    assert new[0] == word[0]
    if len(new) == len(word):  # replaced, or changed places with the next
        places = [at for at in range(len(word)) if new[at] != word[at]]
        swapped = len(places) == 2 and places[1] == places[0] + 1 and sorted(new) == sorted(word)
        assert swapped or len(places) == 1
    else:
        assert any(word[:at] + word[at + 1 :] == new for at in range(1, len(word)))


def test_every_kind_of_slip_happens():
    """Of 300 words, by chance: one letter less, the same letters in another order, another letter."""
    found = versions(
        MISSPELT, ["", " ".join(f"abc{'defghij'[i % 7]}ef{'klmnopq'[i % 5]}" + "x" * (i % 9) for i in range(300))]
    )[1]
    old = [f"abc{'defghij'[i % 7]}ef{'klmnopq'[i % 5]}" + "x" * (i % 9) for i in range(300)]
    kinds = {
        "less" if len(new) < len(word) else "moved" if sorted(new) == sorted(word) else "other"
        for new, word in zip(found.split(), old, strict=True)
    }
    assert kinds == {"less", "moved", "other"}


def test_like_words_are_the_nearest_with_another_stem():
    known = ["sock", "socks", "stocking", "car"]
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.5], [0, 1]], dtype=np.float16)
    asked = ["socks", "car", "nothing"]
    own = np.array([[1, 0.1], [0.1, 1], [0, 0]], dtype=np.float16)
    assert like_words(asked, own, known, vectors) == {"socks": "stocking", "car": "stocking"}
    assert like_words(asked, own, [], vectors[:0]) == {}


@pytest.mark.parametrize(("times", "expected"), [(4, []), (5, ["wool"])])
def test_frequent_words_are_in_enough_texts(times, expected):
    assert frequent_words(["Wool, wool."] * times + ["red"]) == expected
