"""Files of counts, and what is no such file."""

import pytest

from benchmarks.campaign import dataset_name
from benchmarks.inputs import Known, known_of
from benchmarks.planning.counts import FOLDER, Counts, counts_of
from synergen.errors import UserError


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_begins_with_its_header(path) -> None:
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    for word in ("Expected metric", "Hardware", "duration", "Source:", "Command:"):
        assert word.lower() in header.lower()


def test_counts_by_name_and_by_file(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("items: 5000\nusers: 70\nwindows: 300\nevents_per_window: 12.5\n")
    assert counts_of(str(path)) == Counts(5000, 70, 300, 12.5)
    assert known_of(str(path), {}) == Known(5000, 70)
    assert dataset_name(str(path)) == "mine"
    assert known_of("session-us", {}) == Known(252_000_000)
    assert counts_of("nothing of that name") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("items: 1\nwindows: 3\nevents_per_window: 5", "items is 1; it must be 2 or more"),
        ("items: 9\nevents_per_window: 5", "windows is 0; it must be 1 or more"),
        ("items: 9\nwindows: 3\nevents_per_window: 5\nitms: 3", "unknown key 'itms'.*did you mean 'items'"),
        ("items: many", "key 'items' is 'many'"),
        ("- 3", "a mapping of counts is expected"),
        ("items: [", "is not YAML"),
    ],
)
def test_what_is_no_count(tmp_path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        counts_of(str(path))


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml does not exist"):
        counts_of(str(tmp_path / "none.yaml"))
