"""Prepared data on disk: equal to what is made in memory, whole or absent, made once, and never stale."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from toys import toy_requests, toy_tables

from synergen.data import parsed
from synergen.data.dataset import load_dataset, prepare, protocol_for
from synergen.data.filters import Filter
from synergen.data.folder import load_folder
from synergen.data.preparation import Rules, prepare_source, prepared_folder, source_hash
from synergen.data.prepared import altered_files, read_manifest, read_prepared
from synergen.data.recipe import Download, Published, RawEvents, RawFiles, Recipe
from synergen.data.sources import download, find_source, raw_folder, recipe_source, use_raw_folder
from synergen.errors import UserError
from synergen.events import EventLog


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_same(ours: EventLog, expected: EventLog) -> None:
    for field in fields(EventLog):
        found, wanted = getattr(ours, field.name), getattr(expected, field.name)
        if field.name == "impressions":
            assert (found is None) == (wanted is None)
            pairs = [(getattr(found, f.name), getattr(wanted, f.name)) for f in fields(wanted)] if wanted else []
        else:
            pairs = [(found, wanted)]
        for one, other in pairs:
            if isinstance(other, np.ndarray):
                assert one.dtype == other.dtype, field.name
                assert one.tolist() == other.tolist(), field.name
            else:
                assert one == other, field.name
    assert ours.data_hash == expected.data_hash


def test_a_log_is_read_as_it_was_written(toy_folder):
    expected = prepare(load_folder(toy_folder), 0.5)
    found = load_dataset(str(toy_folder), search_share=0.5)
    assert_same(found.log, expected.log)
    assert found.query_rule == expected.query_rule
    assert not found.log.items.flags.writeable  # mapped from the file


def test_a_log_with_impressions_is_read_as_it_was_written(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, table in zip(("interactions", "items", "impressions"), toy_requests(), strict=True):
        table.to_parquet(folder / f"{name}.parquet")
    assert_same(
        load_dataset(str(folder), search_share=0.0, split="time").log, prepare(load_folder(folder), 0.0, "time").log
    )


def test_it_is_made_once_for_all_processes(toy_folder, cache, tmp_path):
    """Three processes ask at the same time; each load appends a line to a file."""
    told = tmp_path / "loads"
    script = f"""
        import sys
        from dataclasses import replace
        from synergen.data import preparation
        from synergen.data.sources import find_source
        source = find_source({str(toy_folder)!r})
        def load(report):
            with open({str(told)!r}, "a") as file:
                file.write("loaded\\n")
            return source.load(report)
        print(preparation.prepare_source(replace(source, load=load), preparation.Rules()).manifest["data_hash"])
    """
    started = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    hashes = {process.communicate()[0] for process in started}
    assert len(hashes) == 1
    assert hashes != {""}
    assert told.read_text() == "loaded\n"


def never(report):
    raise AssertionError("it was prepared already")


def test_a_second_call_reads_the_manifest_only(toy_folder):
    source = find_source(str(toy_folder))
    first = prepare_source(source, Rules())
    again = prepare_source(replace(source, load=never), Rules())
    assert again.manifest == first.manifest
    # Other rules are another folder.
    assert prepared_folder(source, Rules(search_share=0.1)) != first.folder


def test_files_that_were_touched_are_compared_and_changed_ones_are_read_again(toy_folder):
    source = find_source(str(toy_folder))
    made = prepare_source(source, Rules())
    path = toy_folder / "interactions.parquet"
    os.utime(path, (0, 0))
    assert prepare_source(replace(source, load=never), Rules()).manifest["data_hash"] == made.manifest["data_hash"]
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    assert prepare_source(source, Rules()).manifest["counts"]["events"] == made.manifest["counts"]["events"] - 1
    assert source_hash(source) == source.source_hash()


def test_raw_files_that_are_gone_are_not_missed(toy_folder):
    source = find_source(str(toy_folder))
    made, told = prepare_source(source, Rules()), source.source_hash()
    (toy_folder / "interactions.parquet").unlink()
    assert prepare_source(source, Rules()).manifest["data_hash"] == made.manifest["data_hash"]
    assert source_hash(source) == told
    with pytest.raises(UserError, match="no interactions"):
        prepare_source(source, Rules(search_share=0.9))


@pytest.mark.parametrize("name", ["items.npy", "items.parquet", "searched.npy"])
def test_altered_files_are_found_before_they_are_used(toy_folder, name, caplog):
    expected = prepare(load_folder(toy_folder), 0.5).log
    made = prepare_source(find_source(str(toy_folder)), Rules())
    path = made.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the same size
    path.write_bytes(content)
    assert altered_files(made.folder, made.manifest) == [name]
    assert_same(load_dataset(str(toy_folder), search_share=0.5).log, expected)
    assert f"{name} changed since it was prepared" in caplog.text


def test_a_folder_that_lost_a_file_is_not_taken_for_whole(toy_folder):
    made = prepare_source(find_source(str(toy_folder)), Rules())
    (made.folder / "times.npy").unlink()
    assert read_manifest(made.folder) is None
    assert read_manifest(prepare_source(find_source(str(toy_folder)), Rules()).folder) is not None


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)


def test_a_full_disk_leaves_nothing(toy_folder, cache):
    """The limit on the size of files stands for a full disk: a write past it fails in the same way."""
    done = run(
        f"""
        import resource, signal
        from synergen.data import preparation
        from synergen.data.sources import find_source
        from synergen.errors import UserError
        source = find_source({str(toy_folder)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (100, 700, 1500, 2500):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                preparation.prepare_source(source, preparation.Rules())
                print("prepared")
            except UserError as error:
                print(error)
        """
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("cannot write" in line and "free some space" in line for line in lines), done.stdout
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_killed_process_leaves_nothing_that_counts(toy_folder, cache):
    """Killed while it writes; the next process makes it and removes what was left."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import time
                from synergen.data import preparation
                from synergen.data.sources import find_source
                def never_ends(folder, log, manifest):
                    print("writing", flush=True)
                    time.sleep(60)
                preparation.write_prepared = never_ends
                preparation.prepare_source(find_source({str(toy_folder)!r}), preparation.Rules())
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(cache.rglob("*.tmp"))
    source = find_source(str(toy_folder))
    assert read_manifest(prepared_folder(source, Rules())) is None
    made = prepare_source(source, Rules())
    assert not list(cache.rglob("*.tmp"))
    assert altered_files(made.folder, made.manifest) == []


def test_users_are_sampled_and_keep_their_core(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame({"user": rng.integers(0, 200, 6000), "item": rng.integers(0, 60, 6000), "ts": range(6000)})
    pairs.to_parquet(folder / "interactions.parquet")
    log = load_dataset(str(folder), search_share=0.0, max_users=50, min_count=5).log
    assert 30 < log.n_users <= 50
    assert np.diff(log.offsets).min() >= 5
    assert np.bincount(log.items)[1:].min() >= 5


# A recipe of a made-up data set: its raw files are csv with user, item and time.


def read_rows(path, report):
    report("reading", 1, 1)
    table = pl.read_csv(path, has_header=False, new_columns=["user", "item", "ts"])
    return RawEvents(table.with_columns(action=pl.lit("rating 5")), {"lines left out": 1})


RECIPE = Recipe(
    "made-up",
    "first",
    "a made-up data set",
    "anybody's",
    downloads=(),
    find=lambda folder: RawFiles(tuple(sorted(folder.glob("*.csv")))),
    read_events=read_rows,
    rule=Filter.ONE_PASS_THEN_USERS,
    min_count=3,
    published=Published(29, 138, None, "nobody"),
    makes_queries=False,
)


@pytest.fixture
def raw(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    toy_tables(users=200)[0].to_csv(folder / "rows.csv", header=False, index=False)
    return folder


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the raw files that are read; results are kept however small a file is."""
    names: list[str] = []

    def read(path, report):
        names.append(path.name)
        return read_rows(path, report)

    monkeypatch.setattr(parsed, "KEPT_FROM", 0)
    monkeypatch.setitem(globals(), "COUNTED", replace(RECIPE, read_events=read))
    return names


COUNTED = RECIPE


def test_a_recipe_filters_counts_and_says_how_counts_differ(raw):
    use_raw_folder(RECIPE, raw)
    made = prepare_source(recipe_source("made-up", RECIPE), Rules(filter=Filter.K_CORE, min_count=9))
    rows = pd.read_csv(raw / "rows.csv", names=["user", "item", "ts"])
    by_user, by_item = (rows.groupby(name)[name].transform("size") for name in ("user", "item"))
    kept = rows[(by_user >= 3) & (by_item >= 3)]
    kept = kept[kept.groupby("user")["user"].transform("size") >= 3]
    assert made.manifest["counts"] == {
        "users": kept["user"].nunique(),
        "items": kept["item"].nunique(),
        "events": len(kept),
    }
    about, users = made.manifest["about"], kept["user"].nunique()
    assert about["users, published"] == f"29, here {users} ({users - 29:+})"
    assert "why counts differ" in about
    assert made.manifest["licence"] == "anybody's"
    log = read_prepared(made.folder, made.manifest)
    assert log.query_texts == [""]
    assert log.dropped["lines left out"] == 1


def test_later_events_are_read_and_earlier_ones_are_not_read_again(raw, reads):
    use_raw_folder(COUNTED, raw)
    source = recipe_source("made-up", COUNTED)
    prepare_source(source, Rules())
    more = [("u3", 7, 2_000_000_000), ("new", 7, 2_000_000_001), ("new", 8, 2_000_000_002), ("new", 9, 2_000_000_003)]
    pd.DataFrame(more).to_csv(raw / "rows-2.csv", header=False, index=False)
    added = prepare_source(source, Rules())
    assert reads == ["rows.csv", "rows-2.csv"]
    both = (raw / "rows-2.csv").read_text()
    with (raw / "rows.csv").open("a") as file:  # the same rows in one file
        file.write(both)
    (raw / "rows-2.csv").unlink()
    whole = prepare_source(source, Rules())
    assert_same(
        read_prepared(added.folder, added.manifest | {"log": added.manifest["log"]}),
        replace(read_prepared(whole.folder, whole.manifest), dropped=added.manifest["log"]["dropped"]),
    )


def test_another_variant_reads_nothing_again(raw, reads):
    use_raw_folder(COUNTED, raw)
    prepare_source(recipe_source("made-up", COUNTED), Rules())
    other = replace(COUNTED, variant="second", rule=Filter.NONE)
    made = prepare_source(recipe_source("made-up-second", other), Rules())
    assert reads == ["rows.csv"]
    assert made.manifest["counts"]["users"] == 200


def test_what_was_kept_of_a_raw_file_and_is_damaged_is_read_again(raw, reads, cache, caplog):
    use_raw_folder(COUNTED, raw)
    source = recipe_source("made-up", COUNTED)
    made = prepare_source(source, Rules())
    (path,) = (cache / "parsed").rglob("times.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = prepare_source(source, Rules(), again=True)
    assert reads == ["rows.csv", "rows.csv"]
    assert "a file was altered" in caplog.text
    assert again.manifest["data_hash"] == made.manifest["data_hash"]


def test_every_other_recipe_names_its_own_raw_folder(raw):
    with pytest.raises(UserError, match="book-review"):
        find_source("book-review").files()
    with pytest.raises(UserError, match="ratings_Books"):
        use_raw_folder(find_source("book-review").recipe, raw)


def test_a_raw_folder_that_is_gone_is_forgotten(raw, tmp_path):
    use_raw_folder(RECIPE, raw)
    assert raw_folder(RECIPE) == raw
    raw.rename(tmp_path / "elsewhere")
    assert raw_folder(RECIPE) == tmp_path / "cache" / "raw" / "made-up"


def test_a_file_that_is_not_needed_may_be_missing(monkeypatch, caplog):
    wanted = (
        Download("rows.csv", "https://example.org/1"),
        Download("titles.csv", "https://example.org/2", needed=False),
    )
    asked = []

    def fetch(downloads, folder, report):
        asked.extend(one.name for one in downloads)
        if downloads[0].name == "titles.csv":
            raise UserError("404")

    monkeypatch.setattr("synergen.data.sources.fetch", fetch)
    download(replace(RECIPE, downloads=wanted), lambda *_: None)
    assert asked == ["rows.csv", "titles.csv"]
    assert "made-up is prepared without titles.csv: 404" in caplog.text


def test_a_protocol_says_what_a_data_set_brings_along():
    """book-review has a filter of its own; the others keep the count that a sample of users is to have."""
    asked = {"filter": "k-core", "min_count": 7, "split": "leave-one-out"}
    assert protocol_for(find_source("ml-100k"), asked) == asked
    effective = {"filter": "one-pass-then-users", "min_count": 5, "split": "leave-one-out"}
    assert protocol_for(find_source("book-review"), asked) == effective
    assert protocol_for(find_source("ebook-search"), asked) == asked | {"filter": "none"}
    faithful = protocol_for(find_source("ebook-search-faithful"), asked)
    assert faithful == asked | {"filter": "none", "split": "per-task"}
    assert Rules(max_users=9, min_count=7).for_source(find_source("ebook-search")).min_count == 7


def test_a_wrong_checksum_is_refused(raw):
    pinned = replace(RECIPE, downloads=(Download("rows.csv", "https://example.org/rows.csv", sha256="0" * 64),))
    with pytest.raises(UserError, match=r"rows\.csv: its SHA-256 is .* and not 000000000000"):
        use_raw_folder(pinned, raw)
    use_raw_folder(pinned, raw, any_checksum=True)
    about = prepare_source(recipe_source("made-up", pinned), Rules()).manifest["about"]
    assert about["raw files that are not the published ones"] == "rows.csv"


def test_what_is_prepared_is_what_it_always_was():
    """The hash stands in the records of results/, whose runs were made before there were prepared data. Whoever changes
    what is prepared raises `FORMAT`."""
    log = load_dataset("ml-100k", search_share=0.5).log
    assert log.data_hash == "3b7086f25a8e0abd6e2518cb664a3dd3f563dbd95d4bbb5396a6ab54a5cad6d8"
