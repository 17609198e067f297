"""From miniature raw files of every published data set to logs, by the commands that a person calls."""

import json

import numpy as np
import pytest
from amazon_files import review, write_metadata, write_ratings, write_reviews
from kuaisar_files import feed_file, items_file, search_file

from synergen.cli import main
from synergen.data.dataset import load_dataset
from synergen.data.recipes import RECIPES
from synergen.data.splits import PerTask

DAY = 86_400
NAMES = [
    ("Kindle eBooks", "Mystery", "Detectives"),
    ("Kindle eBooks", "Romance", "Historical"),
    ("Kindle eBooks", "Travel"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def kindle(tmp_path):
    """20 users who buy two books a day on four days, of a shop of 130 with three categories; one book has a category
    of one level and one is not in the metadata."""
    folder = tmp_path / "kindle"
    folder.mkdir()
    words = " ".join(name for path in NAMES for name in path)
    reviews = [
        review(f"A{user}", f"B{(user * 7 + step * 3) % 130:03}", 5.0, 1_300_000_000 + DAY * (step // 2), words)
        for user in range(20)
        for step in range(8)
    ]
    write_reviews(folder / "reviews_Kindle_Store_5.json.gz", reviews)
    described = [
        {"asin": f"B{item:03}", "title": f"Book {item} &amp; more", "categories": [list(NAMES[item % 3])]}
        for item in range(1, 130)
    ]
    described[2]["categories"] = [["Kindle eBooks"]]
    write_metadata(folder / "meta_Kindle_Store.json.gz", described)
    return folder


def test_kindle_purchases_are_events_of_one_kind_or_stand_twice(kindle, capsys):
    assert main(["data", "prepare", "ebook-search", "--raw", str(kindle)]) == 0
    printed = capsys.readouterr().out
    assert "20 users" in printed
    assert "users, published: 68,223, here 20 (-68,203)" in printed
    assert main(["data", "prepare", "ebook-search", "--variant", "faithful"]) == 0
    clean = load_dataset("ebook-search", search_share=0.5)
    twice = load_dataset("ebook-search-faithful", search_share=0.5, split="per-task")
    assert isinstance(twice.split, PerTask)
    assert clean.log.titles[1] in {"", "Book 1 & more"}
    assert set(clean.log.query_texts[1:]) <= {
        "kindle ebook mystery detective",
        "kindle ebook romance historical",
        "kindle ebook travel",
    }
    assert clean.log.n_events == 160
    # Every purchase whose item has a query stands twice.
    with_query = int((clean.log.queries > 0).sum())
    assert 100 < with_query < 160
    assert twice.log.n_events == 160 + with_query
    shares = {}
    for name in ("ebook-search", "ebook-search-faithful"):
        assert main(["data", "audit", name, "--json"]) == 0
        shares[name] = json.loads(capsys.readouterr().out.splitlines()[-1])
    leak = "search targets in own history on the same day (UTC)"
    assert shares["ebook-search"][leak] == 0
    # Two purchases a day: where the last search is of the second one its copy is removed, and of the first it is not.
    assert shares["ebook-search-faithful"][leak] > 0


def test_a_model_is_tested_on_both_constructions(kindle, tmp_path, capsys):
    assert main(["data", "prepare", "ebook-search", "--raw", str(kindle)]) == 0
    for name in ("ebook-search", "ebook-search-faithful"):
        asked = [
            "train",
            "--model",
            "BM25",
            "--task",
            "search",
            "--dataset",
            name,
            "--out",
            str(tmp_path / "out"),
            "--json",
        ]
        assert main([*asked, "--set", "protocol.negatives=20"]) == 0
        metrics = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
        assert 0 < metrics["search"]["pool"]["N@10"] <= 1


def test_books_from_ratings_and_later_ratings(tmp_path, capsys):
    folder = tmp_path / "books"
    folder.mkdir()
    rows = [(f"A{u}", f"{i:010}", 5.0, DAY * (i + 1)) for u in range(6) for i in range(6)]
    write_ratings(folder / "ratings_Books.csv", [*rows, ("AX", f"{1:010}", 4.0, DAY)])
    assert main(["data", "prepare", "book-review", "--raw", str(folder)]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert main(["data", "prepare", "book-review", "--raw", str(folder), "--any-checksum"]) == 0
    assert "not the published ones: ratings_Books.csv" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "path", "book-review"]) == 0
    assert main(["data", "verify", "book-review"]) == 0
    log = load_dataset("book-review", search_share=0.5).log
    assert (log.n_users, log.n_items, log.n_events) == (6, 6, 36)  # AX has one rating
    write_ratings(folder / "ratings_Books-2.csv", [("AX", f"{i:010}", 4.0, DAY * 9) for i in range(2, 6)])
    log = load_dataset("book-review", search_share=0.5).log
    assert (log.n_users, log.n_items, log.n_events) == (7, 6, 41)


def test_kuaisar_has_its_own_queries(tmp_path):
    folder = tmp_path / "kuaisar"
    folder.mkdir()
    start = 1_684_700_000_000
    feed = [(user, 10 + step, start + 1000 * step, 1) for user in range(4) for step in range(5)]
    search = [
        (user, 20 + step, start + 60_000 + 1000 * step, 1, step, [3, step]) for user in range(4) for step in range(3)
    ]
    (folder / "rec_inter.csv").write_bytes(feed_file(feed))
    (folder / "src_inter.csv").write_bytes(search_file(search))
    (folder / "item_features.csv").write_bytes(items_file([(item, [1, 2], ["Food"]) for item in range(10, 25)]))
    assert main(["data", "prepare", "kuaisar", "--raw", str(folder)]) == 0
    log = load_dataset("kuaisar", search_share=0.5).log
    assert log.n_events == 32
    assert log.query_texts == ["", "3 0", "3 1", "3 2"]
    assert log.searched.sum() == 12
    assert np.unique(log.times[log.searched]).tolist() == [1_684_700_060, 1_684_700_061, 1_684_700_062]


def test_missing_raw_files_are_named_with_the_remedy(tmp_path, capsys):
    for name, recipe in RECIPES.items():
        (tmp_path / name).mkdir()
        assert main(["data", "prepare", name, "--raw", str(tmp_path / name)]) == 2
        complaint = " ".join(capsys.readouterr().err.split())
        assert str(tmp_path / name) in complaint
        assert recipe.downloads[0].url in complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "ebook-search", "--variant", "clear"], "the variants of 'ebook-search' are clean, faithful"),
        (["prepare", "ml-100k", "--raw", "."], "--raw is for published data sets"),
        (["path", "ml-100k"], "run `synergen data prepare ml-100k`"),
        (["verify", "ml-100k"], "ml-100k is not prepared by these rules"),
        (["stats", "ml-100k", "--split", "last-0"], "split 'last-0'"),
        (["stats", "ml-100k", "--split", "time"], "there are no impressions"),
        (["stats", "ml-100k", "--max-users", "1", "--min-count", "5"], "no sample of 1 users"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_altered_prepared_files_are_told_of(capsys):
    assert main(["data", "prepare", "ml-100k"]) == 0
    assert main(["data", "path", "ml-100k"]) == 0
    path = capsys.readouterr().out.split()[-1]
    with open(f"{path}/items.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert main(["data", "verify", "ml-100k"]) == 2
    assert "items.npy: changed since it was written" in " ".join(capsys.readouterr().err.split())
    assert main(["data", "prepare", "ml-100k", "--force"]) == 0
    assert main(["data", "verify", "ml-100k"]) == 0
