"""A bill as text: a small table, a column for each way to hold the tables, then a sentence a verdict."""

from collections.abc import Callable, Iterator

from benchmarks.planning.bill import USABLE, Bill, Way
from benchmarks.planning.holding import ByRows, Plain, Sharded
from benchmarks.planning.utilisation import Utilisation
from benchmarks.progress import duration
from benchmarks.size import short

_NAME, _COLUMN = 34, 14


def lines(title: str, bill: Bill, ways: list[Way], measured: Utilisation | None) -> Iterator[str]:
    """The whole of it.

    Args:
        measured: at which share of their peak the GPUs are taken to work; without it, at their peak.
    """
    cluster, gpus, work = bill.cluster, bill.cluster.gpus, bill.work
    yield f"{title}: {gpus} x {cluster.kind}, {cluster.per_node} a node; batches of {bill.batch_size}, {bill.number}"
    size, step = bill.size, bill.step
    yield f"  parameters      {short(size.dense, ' kMB')} dense, {short(size.tables, ' kMB')} in embedding tables"
    each = f"{work.events:.1f} events and {work.targets:.1f} {'requests' if work.shown else 'targets'} a window"
    shape = "by formula, in full windows" if bill.by_formula else f"with {each}"
    yield f"  FLOPs a step    {short(bill.busy * step.flops)}FLOP, {short(step.flops)}FLOP a GPU, {shape}"
    yield f"  an epoch        {work.windows:,} windows in {bill.steps:,} steps"
    yield ""
    yield _row("", [_short_name(way) for way in ways])
    yield from _parts("bytes on each GPU", ways, lambda way: way.memory, "B")
    yield from _parts(
        "bytes each GPU sends in a step",
        ways,
        lambda way: {n: s.bytes for n, s in way.holding.sent(cluster).items()},
        "B",
    )
    share = measured.share if measured else 1.0
    yield from _parts(
        "seconds of a step",
        ways,
        lambda way: {
            "matrix products": bill.compute_seconds(share),
            "sending": bill.sending_seconds(way),
            "memory traffic of the tables": bill.table_seconds(way),
        },
        "s",
    )
    hours = [bill.epoch_hours(way, share) for way in ways]
    yield _row("an epoch", [_hours(one) for one in hours])
    most = bill.spec.trainer["max_epochs"]
    yield _row(f"{most} epochs, the limit", [_hours(most * one) for one in hours])
    yield ""
    yield f"  {_pace(bill, measured)}"
    for way in ways:
        yield f"  {verdict(bill, way)}"


def verdict(bill: Bill, way: Way) -> str:
    """Whether it fits, and why."""
    largest = max(way.memory, key=lambda part: way.memory[part])
    found = (
        f"{'Fits' if way.fits else 'Does not fit'} with {way.holding.name}: {short(way.bytes)}B on each GPU of "
        f"{bill.cluster.gpu.memory_gb:g} GB ({USABLE:.0%} of them usable), most of it {largest}, "
        f"{short(way.memory[largest])}B."
    )
    if way.fits:
        found += f" As few as {way.least_gpus} of them will do"
        if way.largest_batch is not None:
            found += f"; the largest batch on {bill.cluster.gpus} is {way.largest_batch:,}"
        room = (bill.usable - way.bytes) / 20  # 16 bytes of weight, gradient and moments, 4 of the bucket
        found += f". There is room for {short(room, ' kMB')} more dense parameters."
    elif way.least_gpus:
        batches = f", or batches of {way.largest_batch:,} at most" if way.largest_batch else ""
        found += f" It takes {way.least_gpus} such GPUs{batches}."
    else:
        found += f" More GPUs do not help: {_why_not(way)}."
    if isinstance(way.holding, ByRows) and bill.cluster.gpus > 1:  # https://github.com/pytorch/pytorch/issues/22400
        found += (
            " But torch's NCCL does not sum the sparse gradients of row_updates: on several GPUs set it to false, or "
            "shard the table."
        )
    if bill.busy < bill.cluster.gpus:
        found += f" A batch of {bill.batch_size} leaves {bill.cluster.gpus - bill.busy} GPUs without work."
    return found


def _why_not(way: Way) -> str:
    """What each of any number of GPUs has to hold."""
    if isinstance(way.holding, Plain):
        held = f"each holds all tables, {short(way.holding.tables, ' kMB')} weights of 16 bytes with gradient and AdamW"
    elif isinstance(way.holding, ByRows):
        held = f"each holds all tables, {short(way.holding.tables, ' kMB')} weights of 12 bytes with AdamW"
    else:
        held = "what is not sharded is on each of them"
    frozen = way.memory.get("frozen text vectors")
    if not frozen:
        return held
    return (
        f"{held}, and {short(frozen)}B of frozen text vectors, which an encoder of fewer dimensions makes smaller "
        """(--encoder 'minilm {"dimensions": 64}')"""
    )


def _pace(bill: Bill, measured: Utilisation | None) -> str:
    peak = f"{bill.cluster.gpu.tflops[bill.number]:g} TFLOP/s"
    if measured is None:
        return (
            f"Hours are a lower bound, at the data sheet's {peak}: --calibrate measures at which share of a matrix "
            "product's pace the model trains. Validation is not in them."
        )
    return (
        f"Hours are an estimate: {measured.share:.0%} of the data sheet's {peak}, as on this machine "
        f"({measured.device}), where steps of {measured.windows} windows reached {measured.reached / 1e9:.0f} GFLOP/s "
        f"and a matrix product {measured.possible / 1e9:.0f}. Nothing is taken to overlap; latency and validation are "
        "not in them."
    )


def _parts(title: str, ways: list[Way], parts: Callable[[Way], dict[str, float]], unit: str) -> Iterator[str]:
    """A block of rows and their sum."""
    found = [{name: value for name, value in parts(way).items() if value} for way in ways]
    yield f"  {title}"
    for name in dict.fromkeys(name for one in found for name in one):
        yield _row(f"  {name}", [_quantity(one.get(name), unit) for one in found])
    yield _row("  in all", [_quantity(sum(one.values()), unit) for one in found])


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "s":
        return f"{1e3 * value:.3g} ms"
    return f"{short(value)}{unit}"


def _row(name: str, cells: list[str]) -> str:
    return f"  {name:<{_NAME}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 100 else duration(3600 * hours)


def _short_name(way: Way) -> str:
    return "sharded" if isinstance(way.holding, Sharded) else "plain"
