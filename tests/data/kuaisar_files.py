"""A miniature KuaiSAR in the format of its publishers, with made-up clicks."""

from collections.abc import Iterable

FEED_HEADER = (
    "user_id,item_id,duration_ms,playing_time,timestamp,forward,like,follow,search_item_related,search,click,time\n"
)
SEARCH_HEADER = (
    "keyword,item_id,click_cnt,search_session_id,item_type,user_id,search_session_timestamp,search_source,"
    "search_session_time\n"
)
ITEMS_HEADER = (
    "item_id,caption,author_id,item_type,upload_time,upload_type,music_id,"
    + ",".join(
        f"{level}_level_category_{what}" for level in ("first", "second", "third", "fourth") for what in ("id", "name")
    )
    + "".join(f",{level}_level_category_name_en" for level in ("first", "second", "third", "fourth"))
    + "\n"
)


def feed_file(rows: Iterable[tuple[int, int, float, int]]) -> bytes:
    """rec_inter.csv from (user, item, milliseconds, click)."""
    lines = [f"{u},{i},45400.0,60792.0,{ms},0,0,0,0,0,{click},2023-05-22 15:53:20\n" for u, i, ms, click in rows]
    return "".join([FEED_HEADER, *lines]).encode()


def search_file(rows: Iterable[tuple[int, int, float, int, int, list[int]]]) -> bytes:
    """src_inter.csv from (user, item, milliseconds, clicks, session, words)."""
    lines = [
        f'"{words}",{i},{clicks},{session},VIDEO,{u},{ms},USER_INPUT,2023-05-22 21:58:52\n'
        for u, i, ms, clicks, session, words in rows
    ]
    return "".join([SEARCH_HEADER, *lines]).encode()


def items_file(rows: Iterable[tuple[int, list[int], list[str]]]) -> bytes:
    """item_features.csv from (item, words of the caption, English names of four levels)."""
    lines = []
    for item, caption, names in rows:
        known = ",".join(f'"{name}"' if "," in name else name for name in names)
        lines.append(f'{item},"{caption}",7,NORMAL,2023-04-22,LongImport,0,9,搞笑,136,搞笑段子,0,空,0,空,{known}\n')
    return "".join([ITEMS_HEADER, *lines]).encode()


MONDAY = 1_684_742_000_000
"""Milliseconds."""

FEED = [
    (2, 30, MONDAY + 9_000.0, 1),
    (1, 10, MONDAY + 5_001.0, 1),  # a later delivery in the second of the next two
    (1, 20, MONDAY + 5_000.0, 1),
    (1, 30, MONDAY + 5_000.0, 1),
    (1, 40, MONDAY + 5_000.0, 0),
]
SEARCH = [
    (1, 20, MONDAY + 5_000.0, 1, 8, [12, 3]),
    (1, 50, MONDAY + 5_000.0, 0, 8, [12, 3]),
    (1, 60, MONDAY + 5_000.0, 3, 8, [12, 3]),
    (2, 10, MONDAY + 60_000.0, 1, 8, [5]),  # the number of a session that another user has
    (2, 20, MONDAY + 70_000.0, 2, 9, []),
]
ITEMS = [
    (10, [12, 3, 4], ["Funny", "Funny joke", "empty", "empty"]),
    (20, [], ["Film, Television, and Short Dramas", "empty", "empty", "empty"]),
    (30, [5], ["empty", "empty", "empty", "empty"]),
    (99, [1], ["Food", "Noodles", "Soup", "Cold"]),
]
FILES = {"rec_inter.csv": feed_file(FEED), "src_inter.csv": search_file(SEARCH), "item_features.csv": items_file(ITEMS)}
