import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergen.data.queries import STOP_WORDS, QueryTable, category_queries, title_queries, words_of

LENS = ["Camera, Photo", "Digital Camera Lenses"]


def queries_of(table: QueryTable) -> list[list[str]]:
    """Of each item, padding included, its queries."""
    bounds = zip(table.offsets[:-1], table.offsets[1:], strict=True)
    return [[table.texts[query] for query in table.ids[start:end]] for start, end in bounds]


def category_query(*path: str, stem: bool = False, vocabulary: set[str] | None = None) -> list[str]:
    return queries_of(category_queries([[], [path]], stem=stem, vocabulary=vocabulary))[1]


def test_words_are_runs_of_letters_and_digits() -> None:
    """Anonymous words, as of KuaiSAR, are numbers."""
    assert words_of("Anti-Wrinkle crème, 16oz (8172)") == ["anti", "wrinkle", "crème", "16oz", "8172"]
    assert words_of(" _-. ") == []


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_a_title_has_every_word_of_its_queries(titles: list[str]) -> None:
    """So a model that reads words can tell which titles a query means."""
    table = title_queries(["", *titles], min_items=1)
    for item, queries in enumerate(queries_of(table)[1:], start=1):
        assert {word for query in queries for word in words_of(query)} <= set(words_of(titles[item - 1]))


def test_the_example_of_the_category_rule() -> None:
    # README of the original implementation; with stems, Krovetz makes "lens" of "lenses"
    assert category_query(*LENS) == ["photo digital camera lenses"]
    assert category_query(*LENS, stem=True) == ["photo digital camera lens"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (["Beauty"], []),  # a single level is skipped
        (["Beauty", "Hair Care"], ["beauty hair care"]),
        (
            ["Beauty", "Skin Care", "Sets", "Beauty Skin"],
            ["care sets beauty skin"],
        ),  # the last occurrence stays
        (["Health & Personal Care", "For the Bath"], ["health personal care bath"]),  # stop words go
        (
            ["Kids' 3D-Games", "Größe"],
            ["kids dgames größe"],
        ),  # all but letters and blanks is deleted, not replaced
        (["The", "123"], []),  # nothing is left
    ],
)
def test_steps_of_the_category_rule(path: list[str], expected: list[str]) -> None:
    assert category_query(*path) == expected


def test_stems_are_merged_and_the_vocabulary_is_applied_to_them() -> None:
    path = ["Cameras", "Camera Lenses"]  # Krovetz: camera, camera, lens
    assert category_query(*path, stem=True) == ["camera lens"]
    assert category_query(*path, stem=True, vocabulary={"lens"}) == ["lens"]
    assert category_query(*path, stem=True, vocabulary={"cameras"}) == []


def test_an_item_has_each_of_its_category_queries_once() -> None:
    paths = [
        [["Never", "Seen"]],
        [["A Book", "Love"], ["Book", "Love"], ["Book", "War"]],
        [],
        [["Book", "Love"]],
    ]
    table = category_queries(paths, stem=False)
    assert table.texts == ["", "book love", "book war"]
    assert queries_of(table) == [[], ["book love", "book war"], [], ["book love"]]
    assert table.offsets.tolist() == [0, 0, 2, 2, 3]
    assert table.offsets.dtype == np.int64
    assert table.ids.tolist() == [1, 2, 1]
    assert table.ids.dtype == np.int32


def test_deeper_paths_can_be_asked_for() -> None:
    paths = [[], [["Book", "War"], ["Book", "War", "Naval"]]]
    assert queries_of(category_queries(paths, min_levels=3))[1] == ["book war naval"]


def test_draw_divides_the_unit_interval_among_an_items_queries() -> None:
    table = category_queries([[], [["Book", "Love"], ["Book", "War"]], [], [["Book", "Sea"]]], stem=False)
    love, sea, war = (table.texts.index(text) for text in ("book love", "book sea", "book war"))
    items = np.array([[1, 1, 1, 1], [2, 0, 3, 3]])
    largest = np.nextafter(1, 0)
    uniform = np.array([[0.0, 0.49, 0.5, largest], [0.3, largest, 0.0, largest]])
    assert table.draw(items, uniform).tolist() == [[love, love, war, war], [0, 0, sea, sea]]
    single = np.full(2, np.nextafter(np.float32(1), np.float32(0)))
    assert table.draw(np.array([1, 3]), single).tolist() == [war, sea]


def test_draw_without_any_queries() -> None:
    assert title_queries(["", "a"]).draw(np.array([0, 1]), np.array([0.1, 0.9])).tolist() == [0, 0]


def test_a_word_that_is_everywhere_becomes_the_query() -> None:
    titles = ["", "The Art of War", "War, 1914", "war!", "On WAR", "Peace 1919"]
    table = title_queries(titles, min_items=4)
    assert queries_of(table) == [[], ["war"], ["war"], ["war"], ["war"], []]
    assert "at least 4 items" in table.rule


def test_padding_counts_for_nothing() -> None:
    assert title_queries(["war", "war", "war"], min_items=3).texts == [""]


def test_every_shared_set_of_words_is_a_query_of_all_who_share_it() -> None:
    titles = ["", *["red dwarf star"] * 3, *["star red"] * 3]
    for_six = queries_of(title_queries(titles, min_items=6))  # dwarf is in 3 titles only
    assert [sorted(queries) for queries in for_six[1:]] == [["red", "red star", "star"]] * 6
    for_three = queries_of(title_queries(titles, min_items=3))
    assert sorted(for_three[1]) == ["dwarf", "dwarf red", "dwarf red star", "dwarf star", "red", "red star", "star"]
    assert sorted(for_three[4]) == ["red", "red star", "star"]
    assert sorted(queries_of(title_queries(titles, min_items=3, max_words=1))[1]) == ["dwarf", "red", "star"]


def test_only_the_first_frequent_words_of_a_title_count() -> None:
    titles = ["", *["unique red dwarf star"] * 2, "red dwarf star"]  # unique is in two titles
    table = title_queries(titles, min_items=3, max_words=1, max_eligible=2)
    assert queries_of(table)[1:] == [["dwarf", "red"]] * 3


WORDS = ["red", "dwarf", "star", "Star", "ship", "the", "of", "42", "a", "x1", "été"]
TITLES = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
    min_size=1,
    max_size=25,
)


@given(TITLES, st.integers(1, 6), st.integers(1, 4), st.randoms())
@settings(max_examples=150, deadline=None)
def test_the_title_rule_against_its_definition(
    titles: list[str], min_items: int, max_words: int, random: object
) -> None:
    def make(titles: list[str]) -> list[list[str]]:
        return queries_of(title_queries(["", *titles], min_items=min_items, max_words=max_words))[1:]

    words = [{w for w in title.lower().split() if len(w) > 1 and w not in STOP_WORDS | {"42"}} for title in titles]
    result = make(titles)
    for title, queries in zip(words, result, strict=True):
        sets = (c for size in range(1, max_words + 1) for c in itertools.combinations(sorted(title), size))
        expected = [c for c in sets if sum(set(c) <= other for other in words) >= min_items]
        assert sorted(queries) == sorted(map(" ".join, expected))
    order = list(range(len(titles)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert make([titles[i] for i in order]) == [result[i] for i in order]


def test_the_title_rule_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    program = (
        "from synergen.data.queries import title_queries\n"
        "pairs = [(a, b) for a in ('red', 'blue') for b in ('tin', 'box')]\n"
        "titles = ['', *(f'{a} {b} {c} gift' for a, b in pairs for c in ('new', 'old'))]\n"
        "table = title_queries(titles, min_items=2, max_words=2)\n"
        "print(table.texts, table.ids.tolist())"
    )
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    outputs = {
        subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
        for env in environments
    }
    assert len(outputs) == 1
    assert "tin" in outputs.pop()
