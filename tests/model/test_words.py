from dataclasses import replace

import torch
from torch.testing import assert_close

from synergen.model.words import MAX_WORDS, TextWords, Words

TEXTS = ["", "Red shoe, red!", "shoe of glass", "red", "seldom"]


def test_words_are_those_of_two_texts_or_more() -> None:
    words = Words(TEXTS, 4)
    assert set(words.number) == {"red", "shoe"}
    red, shoe = words.number["red"], words.number["shoe"]
    assert words.table(TEXTS).tolist() == [[0, 0, 0], [red, shoe, red], [shoe, 0, 0], [red, 0, 0], [0, 0, 0]]
    assert words.table(["red " * 99]).shape == (1, MAX_WORDS)


def test_a_text_is_the_mean_of_its_words_through_the_mlp() -> None:
    words = Words(TEXTS, 4)
    texts = TextWords(TEXTS, words)
    red, shoe = (words.vectors.weight[words.number[word]] for word in ("red", "shoe"))
    mean = (red + shoe + red) / 3
    assert_close(texts()[1], mean + words.mlp(mean))
    assert texts()[[0, 4]].abs().max() == 0  # nothing known of them
    ids = torch.tensor([[3, 1], [1, 4]])
    assert_close(texts(ids), texts()[ids])


def test_items_and_queries_share_their_words() -> None:
    words = Words(TEXTS, 4)
    items, queries = TextWords(TEXTS, words), TextWords(["shoe"], words)
    assert_close(items()[2], queries()[0])
    queries().sum().backward()
    assert words.vectors.weight.grad is not None
    assert words.vectors.weight.grad[words.number["shoe"]].abs().max() > 0


def test_a_model_trains_its_words_and_serves_them(make_model, make_view, make_batch, make_requests) -> None:
    view = make_view()
    names = ["", *(f"{'red' if i % 2 else 'blue'} thing" for i in range(view.n_items))]
    view = replace(view, item_texts=names, query_texts=["", *["red thing"] * view.n_queries])
    model = make_model(view, inputs="text", text_encoder="trained")
    sum(model.loss(make_batch([5, 3])).values()).backward()
    trained = model.items.text.words.words.vectors.weight.grad
    assert (trained[1:].abs().amax(1) > 0).all()
    # a catalogue read at once is the catalogue read item by item
    ids = torch.tensor([1, 2, 2])
    assert_close(model.items(ids), model.item_vectors()[ids])
