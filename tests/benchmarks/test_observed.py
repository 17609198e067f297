"""What models that learn nothing by gradient are shown. Expected values: the training events of the log."""

from collections.abc import Iterable

from benchmarks.fit import observe
from synergen.contract import Batch, Recommender
from synergen.data.dataset import Dataset


class Listener(Recommender):
    """Keeps what it is shown."""

    learns = False

    def observe(self, sequences: Iterable[Batch]) -> None:
        self.rows = [
            items[:n].tolist()
            for batch in sequences
            for items, n in zip(batch.events.items, batch.events.lengths, strict=True)
        ]


def test_every_user_is_one_sequence_of_all_training_events(toy: Dataset) -> None:
    listener, log = Listener(), toy.log
    assert observe(listener, toy) > 0
    whole = [log.items[begin : end - 2].tolist() for begin, end in zip(log.offsets, log.offsets[1:], strict=False)]
    assert sorted(listener.rows) == sorted(whole)
