"""CoPPS: its views of sequences by their definitions, its contrasts written out, and what it reads beyond TEM."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.asked import cut
from baselines.copps import CoPPS
from baselines.copps_views import cropped, masked, most_alike, nearest, reordered, taken
from baselines.tem import TEM
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL = {"width": 16, "heads": 2, "ffn_width": 32, "dropout": 0.0, "max_history": 8}
LENGTHS = torch.tensor([10, 7, 2, 1] * 200)
STEPS = torch.arange(10)


@pytest.fixture
def model(make_view: Callable[..., DataView]) -> CoPPS:
    torch.manual_seed(0)
    return CoPPS(make_view(), **SMALL).eval()


def test_a_crop_is_a_stretch_of_its_share() -> None:
    """⌈.6 · 10⌉ = 6, ⌈.6 · 7⌉ = 5, ⌈.6 · 2⌉ = 2 and 1 event; of 200 draws each of the five first places of the longest
    comes about 40 times, ± 5 σ of 5.7."""
    torch.manual_seed(0)
    places, lengths = cropped(LENGTHS, 10, 0.6)
    assert lengths.tolist() == [6, 5, 2, 1] * 200
    last = places.gather(1, lengths[:, None] - 1)[:, 0]
    assert torch.equal(last - places[:, 0], lengths - 1)
    assert (last < LENGTHS).all()
    first = torch.bincount(places[::4, 0])
    assert len(first) == 5
    assert (first - 40).abs().max() < 29


def test_a_mask_leaves_events_out_and_keeps_their_order() -> None:
    """Of 200 · 10 events of the long sequences 70 % stay, ± 5 σ of 20; of the shortest the only one."""
    torch.manual_seed(0)
    places, lengths = masked(LENGTHS, 10, 0.3)
    kept = lengths[:, None] > STEPS
    assert (places[:, 1:] > places[:, :-1])[kept[:, 1:]].all()
    assert (places < LENGTHS[:, None])[kept].all()
    assert abs(int(lengths[::4].sum()) - 1400) < 102
    assert lengths.min() == 1


def test_a_reordered_stretch_is_shuffled_and_the_rest_stays() -> None:
    """Half of ten events move within five places that follow one another; of one or two nothing can."""
    torch.manual_seed(0)
    places, lengths = reordered(LENGTHS, 10, 0.5)
    assert torch.equal(lengths, LENGTHS)
    assert torch.equal(places.sort(1).values, STEPS.expand(800, 10))
    moved = places != STEPS
    assert not moved[2::4].any()
    assert not moved[3::4].any()
    long = moved[::4]
    extent = 10 - long.int().argmax(1) - long.flip(1).int().argmax(1)  # from the first that moved to the last
    assert extent[long.any(1)].max() == 5
    assert long.any(0).all()


def test_taken_events_come_with_all_that_is_known_of_them(make_histories: Callable[..., Histories]) -> None:
    history = make_histories([[3, 1, 4], [5, 9, 0]])
    history = replace(history, lengths=torch.tensor([3, 2]))
    found = taken(history, torch.tensor([[2, 0, 1], [1, 0, 2]]), torch.tensor([2, 2]))
    assert found.items.tolist() == [[4, 3, 0], [9, 5, 0]]
    assert found.groups.tolist() == [[2, 0, 0], [1, 0, 0]]
    assert found.queries.tolist() == [[0, 0, 0], [1 + 9 % 5, 0, 0]]
    assert found.lengths.tolist() == [2, 2]


def test_the_most_alike_shares_most_items() -> None:
    """Cosines of item sets by hand: 0 and 1 share two of three and two, 2/√6; 0 and 2 one of three and one, 1/√3; 3 is
    the user of 0; 4 shares nothing. A repeated item counts once."""
    items = torch.tensor([[3, 1, 4], [4, 1, 1], [3, 0, 0], [3, 1, 4], [8, 8, 9]])
    same = torch.eye(5, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    rows, partners = most_alike(items, same)
    assert rows.tolist() == [0, 1, 2, 3]
    assert partners.tolist()[0] == 1
    assert partners.tolist()[2] in (0, 3)
    assert partners.tolist()[3] == 1
    assert most_alike(items[4:], same[4:, 4:])[0].numel() == 0


def test_nearest_items_by_cosine() -> None:
    """Angles of 0°, 10°, 25° and 90°, whatever the lengths; item 5 has no text, and nobody's neighbour is item 5 or
    padding."""
    angles = np.radians([0, 10, 25, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([[1], [5], [0.1], [2]])
    table = nearest(np.concatenate([np.zeros((1, 2)), vectors, np.zeros((1, 2))]), 2)
    assert table.tolist() == [[0, 0], [2, 3], [1, 3], [2, 1], [3, 2], [5, 5]]


def test_contrasts_are_those_written_out(
    model: CoPPS, make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """InfoNCE a sequence at a time: the positive against the sequences of other users; 0 and 3 are one user's."""
    batch = replace(
        make_batch([[1, 2, 3, 4], [4, 3, 9, 8], [11, 12, 13, 14], [1, 2, 5, 6]]), users=torch.tensor([7, 8, 0, 7])
    )
    batch = replace(batch, targets=torch.arange(4).expand(4, 4) == 3)
    asked, _ = cut(batch)
    torch.manual_seed(3)
    views = torch.nn.functional.normalize(torch.randn(4, 4, 16), dim=-1)
    monkeypatch.setattr(model, "_views", lambda versions: views)
    plain, one, other, substituted = views

    def mean(pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]]) -> float:
        values = []
        for anchor, positive, others, negatives in pairs:
            logits = torch.stack([anchor @ positive, *(anchor @ others[n] for n in negatives)]) / 0.2
            values.append(-logits.log_softmax(0)[0])
        return 0.1 * torch.stack(values).mean().item()

    strangers = {0: [1, 2], 1: [0, 2, 3], 2: [0, 1, 3], 3: [1, 2]}
    expected = {
        "within": mean([(one[i], other[i], other, of) for i, of in strangers.items()]),
        "substituted": mean([(plain[i], substituted[i], substituted, of) for i, of in strangers.items()]),
        "between": mean([(plain[0], plain[1], plain, [2]), (plain[1], plain[0], plain, [2])]),  # by item 3
    }
    found = {name: value.item() for name, value in model._contrasts(asked).items()}
    assert found == pytest.approx(expected, rel=1e-5)


def test_sequences_too_short_have_no_contrasts(model: CoPPS, make_batch: Callable[..., Batch]) -> None:
    terms = model.loss(make_batch([[1, 2], [3, 4]]))
    assert [terms[name].item() for name in ("within", "between", "substituted")] == [0, 0, 0]


def test_substitutes_are_neighbours_and_padding_stays(
    make_view: Callable[..., DataView], make_histories: Callable[..., Histories]
) -> None:
    view = make_view()
    model = CoPPS(view, **SMALL, neighbours=3, substitute=1.0)
    near = nearest(view.item_vectors, 3)
    history = make_histories([[3, 1, 4, 1, 5], [2]])
    items = model._substituted(history).items
    assert not items[1, 1:].any()
    for old, new in zip(history.items[history.valid].tolist(), items[history.valid].tolist(), strict=True):
        assert new in near[old]


def test_queries_of_the_history_are_read(
    model: CoPPS, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    asked = make_requests([[3, 1, 4]], Task.SEARCH)
    other = replace(asked, history=replace(asked.history, queries=torch.tensor([[0, 5, 0]])))  # was 2
    assert not torch.allclose(model.user_vectors(asked), model.user_vectors(other))
    plain = TEM(make_view(), **SMALL).eval()
    assert torch.equal(plain.user_vectors(asked), plain.user_vectors(other))


def test_text_is_asked_for_where_neighbours_are(make_view: Callable[..., DataView]) -> None:
    silent = replace(make_view(), item_vectors=None)
    tasks = frozenset({Task.SEARCH})
    assert CoPPS.reads_text({}, tasks)
    assert not CoPPS.reads_text({"neighbours": 0}, tasks)
    with pytest.raises(UserError, match="'neighbours' needs item text vectors"):
        CoPPS(silent, **SMALL)
    CoPPS(silent, **SMALL, neighbours=0)
    with pytest.raises(UserError, match="history is none"):
        CoPPS(silent, **SMALL, neighbours=0, history="none")
