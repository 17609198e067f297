"""Whatever a file holds, it is the publisher's or it is refused, and the message says why.

Expected bytes are those that the server holds; expected requests follow from the faults that it is told to make.
"""

import multiprocessing
import os
import resource
import socket
from pathlib import Path

import pytest
from faulty_server import Answer, serving
from fetching import GOOD, OTHER, PACKED, PAGE, ROWS, bring, left, recorded, refused, sha256, zipped

from synergen.data.downloads import CHECKSUMS, fetch
from synergen.data.recipe import Download
from synergen.errors import UserError


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.csv", ROWS), ("rows.csv.gz", PACKED), ("rows.zip", zipped())],
    ids=["text", "gz", "zip"],
)
def test_a_file_comes_once_and_is_recorded(tmp_path: Path, name: str, content: bytes) -> None:
    with serving(Answer(content)) as server:
        assert bring(server, tmp_path, name) == []
        n_requests = len(server.requests)
        assert bring(server, tmp_path, name) == []
        assert len(server.requests) == n_requests
    assert (tmp_path / name).read_bytes() == content
    assert left(tmp_path) == {name}
    assert recorded(tmp_path)[name]["sha256"] == sha256(content)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGED = [
    ("rows.csv.gz", PACKED[:-1], "cut short or damaged"),
    ("rows.csv.gz", PACKED[:10] + b"\xff" * 99 + PACKED[109:], "cut short or damaged"),  # no valid code of deflate
    ("rows.csv.gz", flipped(PACKED, len(PACKED) // 2), "cut short or damaged"),
    ("rows.csv.gz", flipped(PACKED, len(PACKED) - 6), "cut short or damaged"),  # in the checksum of its end
    ("rows.csv.gz", ROWS, "is no .gz file"),
    ("rows.csv.gz", zipped(), "is no .gz file"),
    ("rows.zip", zipped()[:-30], "cut short or damaged"),
    ("rows.zip", flipped(zipped(), 5000), "damaged"),
    ("rows.csv", PACKED, "is a .gz file"),
    ("rows.csv", b"", "is empty"),
]


@pytest.mark.parametrize(("name", "content", "says"), DAMAGED)
def test_a_file_that_is_damaged_at_its_publisher_or_was_half_copied(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    with serving(Answer(content)) as server:
        assert says in refused(server, tmp_path, name)
        assert left(tmp_path) == set()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{says}.*delete the file to fetch it again"):
            bring(server, tmp_path, name)
    assert name not in recorded(tmp_path)


def test_a_pinned_sum(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        message = refused(server, tmp_path, pinned=sha256(OTHER))
        assert sha256(ROWS) in message
        assert sha256(OTHER) in message
        assert left(tmp_path) == set()
        bring(server, tmp_path, pinned=sha256(ROWS))
        with pytest.raises(UserError, match=f"{sha256(OTHER)} is expected; delete the file"):
            bring(server, tmp_path, pinned=sha256(OTHER))
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_a_file_altered_since_it_was_recorded(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        bring(server, tmp_path)
        (tmp_path / "rows.csv").write_bytes(OTHER)
        with pytest.raises(UserError, match=f"{sha256(OTHER)} where {sha256(ROWS)} is expected.*delete its entry"):
            bring(server, tmp_path)
        (tmp_path / CHECKSUMS).write_text("{}")
        bring(server, tmp_path)
    assert recorded(tmp_path)["rows.csv"]["sha256"] == sha256(OTHER)


def test_a_file_altered_by_its_publisher_since_it_was_recorded(tmp_path: Path) -> None:
    with serving(GOOD, GOOD, Answer(OTHER)) as server:
        bring(server, tmp_path)
        (tmp_path / "rows.csv").unlink()
        with pytest.raises(UserError, match=r"if the publisher changed the file, delete its entry in checksums\.json"):
            bring(server, tmp_path)
    assert left(tmp_path) == set()


def test_a_file_put_there_by_hand(tmp_path: Path) -> None:
    """It is read once: contents changed behind an unchanged size and time go unseen, others are looked into."""
    path = tmp_path / "rows.csv"
    path.write_bytes(ROWS)
    with serving(GOOD) as server:
        bring(server, tmp_path)
        assert recorded(tmp_path)["rows.csv"]["sha256"] == sha256(ROWS)
        stat = path.stat()
        path.write_bytes(OTHER)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        bring(server, tmp_path)
        path.write_bytes(ROWS)
        os.utime(path, ns=(1, 1))  # another time
        bring(server, tmp_path)
        assert recorded(tmp_path)["rows.csv"]["mtime_ns"] == 1
        path.write_bytes(ROWS + b"more")  # another size
        os.utime(path, ns=(1, 1))
        with pytest.raises(UserError, match=sha256(ROWS + b"more")):
            bring(server, tmp_path)
        assert server.requests == []


def test_a_page_put_there_by_hand(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(PAGE)
    with serving(GOOD) as server, pytest.raises(UserError, match=r"rows\.csv is an HTML page; delete the file"):
        bring(server, tmp_path)


def test_a_record_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS).write_text('{"rows.csv": }')
    with serving(GOOD) as server, pytest.raises(UserError, match=r"checksums.json is not JSON: .*delete it"):
        bring(server, tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    """The system lets files grow to 50,000 bytes; the pieces before that stay."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(GOOD) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            message = refused(server, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "free some space" in message
        arrived = (tmp_path / "rows.csv.part").stat().st_size
        assert 0 < arrived <= 50_000
        bring(server, tmp_path)
    assert server.ranges[1] == f"bytes={arrived}-"
    assert (tmp_path / "rows.csv").read_bytes() == ROWS


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    wanted = [Download(name, f"http://files.invalid/{name}") for name in ("rows.csv", "titles.json.gz")]
    pauses: list[float] = []
    with pytest.raises(UserError) as error:
        fetch(wanted, tmp_path, lambda *_: None, pause=pauses.append)
    assert pauses == [1, 2, 4, 8]
    assert "http://files.invalid/rows.csv: " in str(error.value)
    assert "Name or service not known" in str(error.value)
    assert "put rows.csv, titles.json.gz into a folder and name it with --raw DIR" in str(error.value)


def test_processes_that_fetch_at_once_fetch_once(tmp_path: Path) -> None:
    with serving(Answer(PACKED)) as server:
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=bring, args=(server, tmp_path, "rows.csv.gz")) for _ in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        assert [child.exitcode for child in children] == [0] * 4
    assert len(server.requests) == 1
    assert (tmp_path / "rows.csv.gz").read_bytes() == PACKED
