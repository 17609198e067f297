import torch

from synergen.model.negatives import by_popularity, is_chosen, same_query, uniform_except

DRAWS = 20_000


def frequencies(items: torch.Tensor, n_items: int) -> torch.Tensor:
    return torch.bincount(items.flatten(), minlength=n_items + 1).double() / items.numel()


def test_uniform_leaves_out_the_positive_and_nothing_else() -> None:
    # The definition: the 4 others of 5 items, a quarter each; 0.02 is over six standard deviations.
    for positive in (1, 3, 5):
        found = frequencies(uniform_except(torch.tensor([positive]), DRAWS, 5), 5)
        expected = torch.full((6,), 0.25, dtype=torch.float64)
        expected[[0, positive]] = 0
        assert (found - expected).abs().max() < 0.02
        assert found[positive] == 0


def test_popular_items_are_drawn_by_their_share() -> None:
    share = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    found = frequencies(by_popularity(torch.tensor([2]), DRAWS, share.cumsum(0)), 4)[1:]
    assert (found - share).abs().max() < 0.02
    assert found[1] == 0


def test_same_query_draws_what_others_chose_for_it() -> None:
    # Query 7 was answered by items 1, 2, 1; query 9 by item 4 alone; the last target has no query.
    positives, queries = torch.tensor([1, 2, 1, 4, 5]), torch.tensor([7, 7, 7, 9, 0])
    drawn = same_query(positives, queries, DRAWS, 50)
    assert not (drawn == positives[:, None]).any()
    # For item 2 both companions are item 1: the third draw in three, its own, becomes uniform over 49 items.
    assert abs(frequencies(drawn[1], 50)[1].item() - (2 / 3 + 1 / 3 / 49)) < 0.02
    assert abs(frequencies(drawn[0], 50)[2].item() - (1 / 3 + 2 / 3 / 49)) < 0.02
    for alone in (3, 4):
        assert frequencies(drawn[alone], 50).max() < 0.04  # uniform: 1 / 49 each


def test_is_chosen_equals_a_search_in_each_sequence() -> None:
    g = torch.Generator().manual_seed(0)
    targets, target_rows = torch.randint(1, 30, (40,), generator=g), torch.randint(0, 5, (40,), generator=g)
    chosen = {(int(r), int(i)) for r, i in zip(target_rows, targets, strict=True)}
    items = torch.randint(1, 30, (5, 12), generator=g)
    found = is_chosen(items, torch.arange(5)[:, None], targets, target_rows, 30)
    assert found.tolist() == [[(r, int(i)) in chosen for i in row] for r, row in enumerate(items)]
    nothing = torch.zeros(0, dtype=torch.int64)
    assert not is_chosen(items, torch.arange(5)[:, None], nothing, nothing, 30).any()
