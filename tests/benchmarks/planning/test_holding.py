"""What tables take of GPUs, by hand: 1,000 dense numbers and a table of 160 rows of 4."""

import pytest

from benchmarks.planning.cluster import load_cluster
from benchmarks.planning.holding import ByRows, Plain, Sharded

SIXTEEN = load_cluster("a100x16")


def test_plain_tables_are_everywhere() -> None:
    """16 bytes a number, and 4 of a bucket where there are several GPUs; each sends 2 · 15/16 of 4 bytes a number."""
    plain = Plain(1000, 640)
    assert sum(plain.memory(1).values()) == 16 * 1640
    assert sum(plain.memory(2).values()) == 20 * 1640
    sent = plain.sent(SIXTEEN)
    assert sent["gradients of whole tables"].bytes == 1.875 * 4 * 640
    assert sent["gradients of dense weights"].bytes == 1.875 * 4 * 1000
    assert plain.touched == 44 * 640


def test_rows_that_were_read() -> None:
    """10 rows of 4 numbers and an id of 8 bytes: 240 bytes from each GPU to the 15 others; no gradient of the table."""
    rows = ByRows(1000, 640, 10, 40)
    assert rows.memory(16) == {
        "dense weights, gradients, AdamW": 16_000,
        "table weights, AdamW": 12 * 640,
        "gradients of rows": 16 * 240,
        "buckets for gradients": 4000,
    }
    assert rows.sent(SIXTEEN)["gradients of rows"].bytes == 15 * 240
    assert rows.touched == 52 * 40


def test_sharded_rows() -> None:
    """160 rows over 16 GPUs are 10 rows of 16 bytes, and a state of 4 bytes each; 161 are 11 on the fullest. Of 32 rows
    that are read, 15/16 are elsewhere."""
    sharded = Sharded(1000, 0, 160, 4, 32)
    held = sharded.memory(16)
    assert (held["share of the item table"], held["state of its rows"]) == (160, 40)
    assert Sharded(1000, 0, 161, 4, 32).memory(16)["state of its rows"] == 44
    assert held["rows looked up, their gradients"] == 2 * (2 * 32 * 16 + 8 * 32)
    sent = sharded.sent(SIXTEEN)
    assert [sent[name].bytes for name in ("ids of rows", "vectors of rows", "gradients of rows")] == [240, 480, 480]
    assert sharded.touched == 20 * 4 * 32 + 8 * 32


def test_the_table_of_session_us() -> None:
    """252 million rows of 64: 258 GB plain; 64.5 GB and 1 GB of state over 16 GPUs, 4.1 GB each."""
    items, width = 252_000_000, 64
    assert Plain(0, items * width).memory(1)["table weights, gradients, AdamW"] == pytest.approx(258e9, rel=1e-3)
    held = Sharded(0, 0, items, width, 0).memory(16)
    assert held["share of the item table"] + held["state of its rows"] == pytest.approx(4.095e9, rel=1e-3)
