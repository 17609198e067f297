"""What fits where, by hand, and the command that says so. Steps are counted in test_counted_step; here they are made
up: 10 GFLOP, 1 GB kept by each window, 100 rows of 64 numbers."""

import pytest
import torch

from baselines.hllm.cost import step_cost
from baselines.hllm.settings import HLLMSettings
from benchmarks import run, size
from benchmarks.inputs import Known
from benchmarks.measure import Setting
from benchmarks.plan import make_run
from benchmarks.planning import bill as bills
from benchmarks.planning.bill import Bill, why_not_sharded
from benchmarks.planning.cluster import load_cluster
from benchmarks.planning.counted_step import CountedStep
from benchmarks.planning.display import lines, verdict
from benchmarks.planning.utilisation import Utilisation, utilisation
from benchmarks.planning.workload import Workload
from benchmarks.spec import load_spec
from synergen.errors import UserError

PROTOCOL = load_spec(2).protocol
WORK = Workload(6400, 10, 10, (20, 10))


@pytest.fixture(autouse=True)
def made_up_steps(monkeypatch) -> None:
    def step(model, settings, data, batch, dtype) -> CountedStep:
        return CountedStep(10e9, 10**9 * len(batch.windows), 100, 6400)

    monkeypatch.setattr(bills, "count_step", step)
    for module in (size, bills):
        monkeypatch.setattr(module, "MOST_ITEMS", 1000)


def planned(items: int, cluster: str = "a100x16", model: str = "SynerGen", training=None, **settings) -> Bill:
    chosen = {"inputs": "id", "retrieval_loss": "infonce", **settings} if model == "SynerGen" else settings
    spec = make_run(model, "recommendation", chosen, PROTOCOL, "shop", "cpu", 0, {"batch_size": 64, **(training or {})})
    return Bill(spec, Known(items), WORK, load_cluster(cluster))


def test_a_table_that_no_gpu_holds() -> None:
    """252 million rows of 64: 258 GB with gradient and AdamW. Sharded over 16, 4.1 GB each, beside two buffers of
    popularity of 8 bytes an item, and 4 windows of 1 GB. On 2 GPUs 32.3 + 0.5 + 4 + 32 are 69 GB of 72; one does not
    hold 64 windows and the table."""
    bill = planned(252_000_000)
    plain, sharded = bill.ways()
    assert not plain.fits
    assert plain.least_gpus is None
    assert plain.memory["table weights, gradients, AdamW"] == pytest.approx(258e9, rel=1e-3)
    assert sharded.fits
    assert sharded.least_gpus == 2
    assert sharded.bytes == pytest.approx((4.032 + 0.063 + 4.032 + 4) * 1e9, rel=1e-2)
    assert sharded.largest_batch == pytest.approx(16 * (72 - 8.1), abs=16)
    assert "More GPUs do not help: each holds all tables, 16.1 B weights" in verdict(bill, plain)
    assert "As few as 2 of them will do" in verdict(bill, sharded)


def test_frozen_text_may_be_what_does_not_fit() -> None:
    """384 numbers of two bytes for each of 252 million items: 194 GB, sharded or not."""
    bill = planned(252_000_000, inputs="both")
    assert bill.frozen_bytes == pytest.approx(193.5e9, rel=1e-3)
    (sharded,) = bill.ways(sharded=True)
    assert not sharded.fits
    assert "194 GB of frozen text vectors" in verdict(bill, sharded)


def test_a_batch_that_needs_more_gpus() -> None:
    """Of 64 windows, one GPU holds 71 at 1 GB each, less what the model takes; of 200, three hold 67 each."""
    small, large = planned(1000, "a100"), planned(1000, "a100", training={"batch_size": 200})
    assert small.ways()[0].fits
    assert small.ways()[0].largest_batch == 71
    assert not large.ways()[0].fits
    assert large.ways()[0].least_gpus == 3
    assert "It takes 3 such GPUs, or batches of 71 at most" in verdict(large, large.ways()[0])


def test_time_by_hand() -> None:
    """100 steps of 64 windows. Each GPU has 10 GFLOP at half of 312 TFLOP/s; sums at 200 GB/s; the table's 1,001 rows
    of 64, and those of 2 actions, 44 bytes a number at 2,039 GB/s."""
    bill = planned(1000)
    plain, _ = bill.ways()
    dense, tables = bill.size.dense, bill.size.tables
    assert tables == (1001 + 2) * 64
    assert bill.steps == 100
    assert bill.compute_seconds(0.5) == pytest.approx(10e9 / 156e12)
    assert bill.sending_seconds(plain) == pytest.approx(2 * 15 / 16 * 4 * (dense + tables) / 200e9)
    assert bill.table_seconds(plain) == pytest.approx(44 * tables / 2039e9)
    assert bill.epoch_hours(plain, 0.5) == pytest.approx(100 * bill.step_seconds(plain, 0.5) / 3600)


def test_only_some_tables_can_be_sharded() -> None:
    assert why_not_sharded(planned(1000).spec) is None
    for bill, why in (
        (planned(1000, model="SASRec"), "those of SynerGen can"),
        (planned(1000, inputs="text"), "no table"),
        (planned(1000, retrieval_loss="full_softmax"), "retrieval_loss: infonce"),
        (planned(1000, hard="mined"), "mined negatives"),
    ):
        assert len(bill.ways()) == 1
        with pytest.raises(UserError, match="leave out --sharded"):
            bill.ways(sharded=True)
        assert why in (why_not_sharded(bill.spec) or "")


def test_rows_are_not_summed_by_nccl() -> None:
    rows = {"row_updates": True}
    several, alone = planned(1000, training=rows), planned(1000, "a100", training=rows)
    assert "NCCL does not sum" in verdict(several, several.ways()[0])
    assert "NCCL" not in verdict(alone, alone.ways()[0])
    assert several.ways()[0].memory["gradients of rows"] == 16 * (4 * 6400 + 8 * 100)


def test_small_batches_leave_gpus_without_work() -> None:
    bill = planned(1000, training={"batch_size": 6})
    assert "leaves 10 GPUs without work" in verdict(bill, bill.ways()[0])
    assert "FLOPs a step    60 GFLOP, 10 GFLOP a GPU" in "\n".join(lines("x", bill, bill.ways(), None))


def test_language_models_are_by_formula() -> None:
    """HLLM's own formula, of the one window of each of 8 GPUs; its checkpoints set no limit to the batch."""
    spec = make_run("HLLM", "recommendation", {}, PROTOCOL, "book-review", "paper", 0)
    bill = Bill(spec, Known(1000), WORK, load_cluster("a100x8"))
    (plain,) = bill.ways()
    cost = step_cost(HLLMSettings(**spec.settings), 1, 2)
    assert bill.step.flops == cost.flops
    assert plain.memory["activations, at most"] == cost.activation_bytes
    assert plain.largest_batch is None
    assert "by formula, in full windows" in "\n".join(lines("x", bill, [plain], None))


def test_hours_say_what_they_are() -> None:
    bill = planned(1000)
    bound = "\n".join(lines("x", bill, bill.ways(), None))
    assert "a lower bound, at the data sheet's 312 TFLOP/s" in bound
    measured = Utilisation("cpu", 3, 20e9, 80e9)
    estimate = "\n".join(lines("x", bill, bill.ways(), measured))
    assert "25% of the data sheet's 312 TFLOP/s, as on this machine (cpu), where steps of 3 windows" in estimate
    assert "reached 20 GFLOP/s and a matrix product 80" in estimate


def test_a_short_run_is_measured() -> None:
    """A share of what a product reaches; no model that also normalises and looks up does as well as that."""
    bill = planned(1000)
    found = utilisation(bill.spec, bill.known, bill.work, Setting(1, torch.float32, repeats=1))
    assert 1 <= found.windows <= 64
    assert 0 < found.share < 1


def test_the_command_prints_a_bill_of_counts(tmp_path, capsys) -> None:
    counts = tmp_path / "mine.yaml"
    counts.write_text("items: 100_000_000\nwindows: 640000\nevents_per_window: 10\n")
    arguments = ["--table", "2", "--dataset", str(counts), "--models", "SynerGen-ID,Popularity", "--plan"]
    assert run.main([*arguments, "--scale", "paper", "--cluster", "a100x8", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "SynerGen-ID on mine: 8 x a100, 8 a node; batches of 128, bf16" in printed
    assert "76.8 B in embedding tables" in printed  # 100 million rows of 768
    assert "Does not fit with plain tables" in printed
    assert "Fits with item table sharded by rows" in printed
    assert "Popularity: nothing to train" in printed
    assert not (tmp_path / "runs").exists()


def test_data_that_are_not_prepared_have_no_bill(toy_folder, tmp_path, capsys) -> None:
    arguments = ["--table", "2", "--dataset", str(toy_folder), "--plan", "--cluster", "a100", "--out", str(tmp_path)]
    assert run.main(arguments) == 2
    assert "not known before it is prepared; give a file of counts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "a100"], "--cluster is for --plan"),
        (["--plan", "--calibrate"], "--calibrate is for --plan --cluster NAME"),
        (["--plan", "--cluster", "a100x17", "--dataset", "session-us"], "a100x17"),
        (["--plan", "--cluster", "a100", "--dataset", "session-uk"], "unknown data set 'session-uk'"),
        (["--plan", "--cluster", "a100", "--sharded", "--models", "SASRec", "--dataset", "book-review"], "SASRec: its"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, arguments: list[str], message: str) -> None:
    assert run.main(["--table", "2", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
