"""The GPUs of a profile; times of communication by hand from the data sheets' numbers."""

import pytest

from benchmarks.planning.cluster import load_cluster
from synergen.errors import UserError


def test_a_profile_is_a_cluster() -> None:
    one, two = load_cluster("a100"), load_cluster("a100x16")
    assert (one.gpus, one.per_node, two.gpus, two.per_node) == (1, 1, 16, 8)
    assert (two.gpu.memory_gb, two.gpu.tflops["bf16"]) == (80, 312)
    smaller = load_cluster("a100x16", ["gres=gpu:a100_40gb:4", "nodes=3"])
    assert (smaller.gpus, smaller.per_node, smaller.gpu.memory_gb) == (12, 4, 40)


def test_seconds_by_hand() -> None:
    """Sums of 8 GB: within a node 2 · 7/8 · 8 GB at 300 GB/s; over two nodes 2 · 15/16 · 8 GB at the 8 · 25 GB/s of a
    node's adapters. An exchange of 16 GB sends 1 GB to each GPU: 7 by NVLink, 8 by the network at 25 GB/s."""
    node, two = load_cluster("a100x8"), load_cluster("a100x16")
    assert node.summed_seconds(8e9) == pytest.approx(14 / 300)
    assert two.summed_seconds(8e9) == pytest.approx(15 / 200)
    assert two.exchanged_seconds(16e9) == pytest.approx(7 / 300 + 8 / 25)
    assert node.exchanged_seconds(8e9) == pytest.approx(7 / 300)
    assert (two.sent_to_sum(8e9), two.sent_to_exchange(16e9)) == (15e9, 15e9)


def test_a_gpu_alone_sends_nothing() -> None:
    one = load_cluster("a100")
    assert one.summed_seconds(1e9) == one.exchanged_seconds(1e9) == one.sent_to_sum(1e9) == 0


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a100x61", [], "a100x61"),
        ("cpu", [], "--cluster cpu: this profile asks for no GPU"),
        ("a100", ["gres=gpu:a10:1"], "unknown type of GPU 'a10' in profile a100.*did you mean 'a100'"),
        ("a100", ["gres=gpu:1"], "unknown type of GPU ''"),
    ],
)
def test_what_is_no_cluster(name: str, changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_cluster(name, changes)
