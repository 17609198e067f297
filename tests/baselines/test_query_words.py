"""Words of queries. Expected numbers are places in the alphabet of the words."""

import torch
from torch import nn

from baselines.query_words import MAX_WORDS, QueryWords, Vocabulary


def test_words_are_numbered_in_alphabetical_order_and_unknown_ones_left_out():
    vocabulary = Vocabulary(["", "Red wool!", "blue wool"])
    assert vocabulary.number == {"blue": 1, "red": 2, "wool": 3}
    assert vocabulary.table(["wool red wool", "green", ""]).tolist() == [[3, 2, 3], [0, 0, 0], [0, 0, 0]]
    assert vocabulary.table([]).shape == (0, 1)
    assert vocabulary.table(["red " * 100]).shape == (1, MAX_WORDS)


def test_anonymous_words_which_are_numbers_are_words():
    """As KuaiSAR has them."""
    assert Vocabulary(["", "8172 55", "55"]).table(["55 8172"]).tolist() == [[1, 2]]


def test_a_query_is_the_mean_of_its_words():
    texts = ["", "red wool", "wool", "blue"]
    vocabulary = Vocabulary(texts)
    words = nn.Embedding(len(vocabulary) + 1, 4, padding_idx=0)
    queries = QueryWords(texts, vocabulary, words)
    red, wool = words.weight[vocabulary.number["red"]], words.weight[vocabulary.number["wool"]]
    found = queries(torch.tensor([[1, 2], [0, 3]]))
    torch.testing.assert_close(found[0], torch.stack([(red + wool) / 2, wool]))
    assert found[1, 0].tolist() == [0.0] * 4
    queries.hold(["", "wool wool red"])
    torch.testing.assert_close(queries(torch.tensor([1]))[0], (red + 2 * wool) / 3)
