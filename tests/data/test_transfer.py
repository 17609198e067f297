"""Whatever a server does on the way, what arrives is byte for byte the publisher's, or the message says why not.

Expected bytes are those that the server holds; expected requests follow from the faults that it is told to make.
"""

import gzip
import multiprocessing
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Answer, serving
from fetching import GOOD, OTHER, PACKED, PAGE, ROWS, bring, left, refused, sha256, zipped

from synergen.data import downloads, transfer
from synergen.data.downloads import fetch
from synergen.data.recipe import Download
from synergen.data.transfer import ATTEMPTS, LONGEST_PAUSE
from synergen.errors import UserError


def test_each_break_off_is_gone_on_from(tmp_path: Path) -> None:
    """Every answer brings 9,000 bytes: more answers than ATTEMPTS without progress would be allowed."""
    with serving(replace(GOOD, breaks_after=9000)) as server:
        pauses = bring(server, tmp_path)
    starts = range(9000, len(ROWS), 9000)
    assert len(starts) > ATTEMPTS
    assert server.ranges == [None, *(f"bytes={start}-" for start in starts), f"bytes={len(ROWS)}-"]
    assert {request.get("If-Range") for request in server.requests[1:-1]} == {'"1"'}
    assert pauses == [0.5] * len(starts)  # progress takes the pauses back to the shortest
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_answers_that_hold_less_than_was_asked_for(tmp_path: Path) -> None:
    with serving(replace(GOOD, breaks_after=9000), replace(GOOD, longest_range=9000)) as server:
        bring(server, tmp_path)
    assert server.ranges[:-1] == [None, *(f"bytes={start}-" for start in range(9000, len(ROWS), 9000))]
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    """One piece of 65,536 bytes is on disk when the process is killed; the next asks for what follows it."""
    with serving(replace(GOOD, breaks_after=70_000, stalls=30), GOOD) as server:
        child = multiprocessing.get_context("fork").Process(target=bring, args=(server, tmp_path))
        child.start()
        part = tmp_path / "rows.csv.part"
        limit = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < limit:
            time.sleep(0.002)
        child.kill()
        child.join()
        assert "rows.csv" not in left(tmp_path)
        bring(server, tmp_path)
    assert server.ranges[1] == "bytes=65536-"
    assert (tmp_path / "rows.csv").read_bytes() == ROWS
    assert left(tmp_path) == {"rows.csv"}  # the killed process's temporary folder is gone too


def test_what_had_all_arrived_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> str:
        raise KeyboardInterrupt

    with serving(Answer(PACKED)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(downloads.pooch, "file_hash", interrupt)
            with pytest.raises(KeyboardInterrupt):
                bring(server, tmp_path, "rows.csv.gz")
        assert left(tmp_path) == {"rows.csv.gz.part", "rows.csv.gz.part.json"}
        bring(server, tmp_path, "rows.csv.gz")
    assert len(server.requests) == 1
    assert (tmp_path / "rows.csv.gz").read_bytes() == PACKED


@pytest.mark.parametrize(
    ("second", "n_requests"),
    [
        (replace(GOOD, takes_ranges=False), 2),
        (Answer(OTHER, etag='"2"'), 2),  # If-Range makes the server send all of the new content
        (Answer(OTHER, etag='"2"', heeds_if_range=False), 3),  # the rest of other content is not appended
        (Answer(OTHER + b"more", etag=None, heeds_if_range=False), 3),
        (Answer(ROWS[:500], heeds_if_range=False), 3),  # 416
        (replace(GOOD, starts_ranges_at=0), 3),
    ],
    ids=["ignores ranges", "changed", "changed, If-Range ignored", "grown, no ETag", "shrunk", "another range"],
)
def test_what_cannot_be_gone_on_from_starts_anew(tmp_path: Path, second: Answer, n_requests: int) -> None:
    with serving(replace(GOOD, breaks_after=1000), second) as server:
        bring(server, tmp_path)
    assert server.ranges[:2] == [None, "bytes=1000-"]
    assert len(server.requests) == n_requests + 1  # and one that asks whether more follows
    assert (tmp_path / "rows.csv").read_bytes() == second.content


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}], ids=["no validator", "weak ETag"])
def test_nothing_is_gone_on_from_without_knowing_its_version(tmp_path: Path, headers: dict[str, str]) -> None:
    plain = Answer(PACKED, etag=None, headers=headers)
    with serving(replace(plain, breaks_after=50), plain) as server:
        bring(server, tmp_path, "rows.csv.gz")
    assert server.ranges == [None, None]
    assert (tmp_path / "rows.csv.gz").read_bytes() == PACKED


def test_bytes_from_elsewhere_are_not_gone_on_from(tmp_path: Path) -> None:
    """Two addresses may give the same ETag; bytes that say nothing of their version may be anyone's."""
    with serving(replace(GOOD, breaks_after=50_000), Answer(b"", 404)) as server:
        assert "404" in refused(server, tmp_path)
    with serving(replace(Answer(OTHER), breaks_after=0), replace(Answer(OTHER), breaks_after=9000)) as server:
        bring(server, tmp_path)
    assert server.ranges[:3] == [None, None, "bytes=9000-"]
    assert (tmp_path / "rows.csv").read_bytes() == OTHER

    (tmp_path / "again.csv.part").write_bytes(ROWS)
    with serving(replace(Answer(OTHER), breaks_after=9000)) as server:
        bring(server, tmp_path, "again.csv")  # what lay there is no measure of progress either
    assert server.ranges[:2] == [None, "bytes=9000-"]
    assert (tmp_path / "again.csv").read_bytes() == OTHER


def test_bytes_that_are_gone_are_not_gone_on_from(tmp_path: Path) -> None:
    with serving(replace(GOOD, breaks_after=1000), Answer(b"", 404), GOOD) as server:
        refused(server, tmp_path)
        (tmp_path / "rows.csv.part").unlink()
        bring(server, tmp_path)
    assert server.ranges[:3] == [None, "bytes=1000-", None]
    assert "If-Range" not in server.requests[2]  # it is an error without a Range
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_the_time_of_change_stands_in_for_an_etag(tmp_path: Path) -> None:
    plain = Answer(PACKED, etag=None, headers={"Last-Modified": "Tue, 05 May 2015 05:05:05 GMT"}, heeds_if_range=False)
    with serving(replace(plain, breaks_after=50), plain) as server:
        bring(server, tmp_path, "rows.csv.gz")
    assert server.requests[1]["If-Range"] == "Tue, 05 May 2015 05:05:05 GMT"
    assert server.ranges == [None, "bytes=50-"]
    assert (tmp_path / "rows.csv.gz").read_bytes() == PACKED


def test_a_server_that_breaks_off_at_the_same_place_is_given_up(tmp_path: Path) -> None:
    """One attempt brings 1,000 bytes, ATTEMPTS more the same ones again; pauses double from a second."""
    with serving(replace(GOOD, breaks_after=1000, takes_ranges=False)) as server:
        message = refused(server, tmp_path)
    assert len(server.requests) == 1 + ATTEMPTS
    assert "brought nothing new" in message
    assert "--raw DIR" in message


def test_a_server_whose_content_never_stays_is_given_up(tmp_path: Path) -> None:
    """The bytes of one version are dropped when the other answers, and do not count as new when they come again."""
    first, second = (Answer(ROWS, breaks_after=1000, heeds_if_range=False, etag=etag) for etag in ('"1"', '"2"'))
    with serving(*[first, second] * 20) as server:
        assert "brought nothing new" in refused(server, tmp_path)
    assert len(server.requests) == 1 + ATTEMPTS


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_length_stated_too_long(tmp_path: Path, takes_ranges: bool) -> None:
    with serving(replace(GOOD, stated_length=len(ROWS) + 9, takes_ranges=takes_ranges)) as server:
        assert "brought nothing new" in refused(server, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "pinned", "says"),
    [
        ("rows.csv", ROWS, None, "longer than the 1,000 bytes"),
        ("rows.csv", ROWS, sha256(ROWS), sha256(ROWS[:1000])),
        ("rows.csv.gz", PACKED, None, "cut short"),
        ("rows.zip", zipped(), None, "cut short"),
    ],
    ids=["text", "pinned text", "gz", "zip"],
)
def test_a_length_stated_too_short(tmp_path: Path, name: str, content: bytes, pinned: str | None, says: str) -> None:
    with serving(Answer(content, stated_length=1000)) as server:
        assert says in refused(server, tmp_path, name, pinned)
    assert left(tmp_path) == set()


def test_content_without_a_length(tmp_path: Path) -> None:
    """Chunks say where they end; a closed connection is an end only for content that shows its own."""
    with serving(replace(GOOD, framing="chunked", breaks_after=500), replace(GOOD, framing="chunked")) as server:
        bring(server, tmp_path)
        assert server.ranges[1] == "bytes=500-"
    with serving(Answer(PACKED, framing="close")) as server:
        bring(server, tmp_path, "rows.csv.gz")
    assert (tmp_path / "rows.csv").read_bytes() == ROWS
    assert (tmp_path / "rows.csv.gz").read_bytes() == PACKED
    with serving(Answer(PACKED, framing="close", breaks_after=2000)) as server:
        assert "cut short" in refused(server, tmp_path, "again.csv.gz")
    with serving(replace(GOOD, framing="close")) as server:
        assert "does not say how long" in refused(server, tmp_path, "again.csv")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_stops_at_once(tmp_path: Path, status: int) -> None:
    with serving(Answer(b"no", status)) as server:
        message = refused(server, tmp_path)
        assert message.startswith(f"cannot fetch {server.url}rows.csv: the server answers {status}")
    assert message.endswith("put rows.csv into a folder and name it with --raw DIR")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("retry_after", "pause"), [({}, 1.0), ({"Retry-After": "7"}, 7.0), ({"Retry-After": "86400"}, LONGEST_PAUSE)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(tmp_path: Path, status: int, retry_after: dict[str, str], pause: float) -> None:
    with serving(Answer(b"busy", status, headers=retry_after), GOOD) as server:
        assert bring(server, tmp_path) == [pause]
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_a_server_that_stays_busy_is_given_up(tmp_path: Path) -> None:
    with serving(Answer(b"busy", 503, headers={"Retry-After": "soon"}), Answer(b"busy", 503)) as server:
        assert "503 Service Unavailable" in refused(server, tmp_path)
    assert len(server.requests) == ATTEMPTS


def test_a_silent_server_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    with serving(replace(GOOD, breaks_after=70_000, stalls=1), GOOD) as server:
        bring(server, tmp_path)
    assert server.ranges[1] == "bytes=65536-"
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.zip"])
def test_a_page_is_no_file(tmp_path: Path, name: str) -> None:
    with serving(Answer(PAGE)) as server:
        assert "an HTML page instead of the file" in refused(server, tmp_path, name)
    assert len(server.requests) == 1


def test_a_page_in_place_of_the_rest_leaves_what_has_arrived(tmp_path: Path) -> None:
    with serving(replace(GOOD, breaks_after=1000), Answer(PAGE, etag=None), GOOD) as server:
        assert "an HTML page" in refused(server, tmp_path)
        bring(server, tmp_path)
    assert server.ranges[2] == "bytes=1000-"
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_progress_counts_what_had_arrived_before(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with serving(replace(GOOD, breaks_after=60_000), GOOD) as server:
        download = Download("rows.csv", server.url)
        fetch([download], tmp_path, lambda *step: seen.append(step), pause=lambda _: None)
    assert {(name, total) for name, _, total in seen} == {("rows.csv", len(ROWS))}
    done = [bytes_done for _, bytes_done, _ in seen]
    assert done == sorted(done)
    assert {60_000, len(ROWS)} <= set(done)


def random_answers(random: np.random.Generator) -> Sequence[Answer]:
    """A few faulty answers for content that changes half of the time, then one that is good for its version."""
    versions = [Answer(PACKED, etag='"1"'), Answer(gzip.compress(OTHER, mtime=0), etag='"2"')]
    answers = []
    for _ in range(random.integers(1, 7)):
        size = len(PACKED)
        fault = random.choice(["break", "long", "short", "page", "busy", "chunked", "close"])
        answer = replace(
            versions[random.integers(2)],
            takes_ranges=bool(random.integers(4)),
            heeds_if_range=bool(random.integers(3)),
        )
        answers.append(
            {
                "break": replace(answer, breaks_after=int(random.integers(size))),
                "long": replace(answer, stated_length=size + int(random.integers(1, 99))),
                "short": replace(answer, stated_length=int(random.integers(1, size))),
                "page": replace(answer, content=PAGE),
                "busy": replace(answer, status=503),
                "chunked": replace(answer, framing="chunked", breaks_after=int(random.integers(1, size))),
                "close": replace(answer, framing="close", breaks_after=int(random.integers(size))),
            }[str(fault)]
        )
    return [*answers, versions[random.integers(2)]]


@pytest.mark.parametrize("seed", range(30))
def test_no_sequence_of_faults_leaves_a_wrong_file(tmp_path: Path, seed: int) -> None:
    """After every call the file is absent or one of the two true contents; once the server is well it comes."""
    with serving(*random_answers(np.random.default_rng(seed))) as server:
        for _ in range(12):
            with suppress(UserError):
                bring(server, tmp_path, "rows.csv.gz")
            if (tmp_path / "rows.csv.gz").exists():
                break
        whole = (tmp_path / "rows.csv.gz").read_bytes()
    assert gzip.decompress(whole) in (ROWS, OTHER)
    assert left(tmp_path) == {"rows.csv.gz"}
