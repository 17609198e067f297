import pytest

from benchmarks.progress import Pace, describe


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that tests set."""
    now = [100.0]
    monkeypatch.setattr("benchmarks.progress.time.monotonic", lambda: now[0])
    return now


def test_the_text_stage_says_how_fast_it_goes_and_what_is_left(clock: list[float]) -> None:
    pace = Pace()
    assert describe("text", {"done": 400, "total": 1000}, pace) == "400 of 1000 texts encoded"
    clock[0] += 10
    # 100 in 10 s, so that the other 500 take 50 s; the 400 that were there before it began count for nothing
    line = describe("text", {"done": 500, "total": 1000}, pace)
    assert line == "500 of 1000 texts encoded, 10 a second, 50 s left at most"


@pytest.mark.parametrize("second", [(0, 1000), (0, 50)])
def test_a_second_list_of_texts_has_a_pace_of_its_own(clock: list[float], second: tuple[int, int]) -> None:
    pace = Pace()
    pace.per_second(0, 1000)
    clock[0] += 10
    assert pace.per_second(1000, 1000) == 100
    clock[0] += 90
    done, total = second
    assert pace.per_second(done, total) is None
    clock[0] += 2
    assert pace.per_second(50, total) == 25
