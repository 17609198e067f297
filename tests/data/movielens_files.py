"""Miniature archives of MovieLens in the formats of GroupLens, with made-up films."""

import zipfile
from pathlib import Path

RATINGS_1M = b"2::20::5::978300760\n1::10::3::978302109\n1::20::1::978301968\n2::10::4::978300275\n"
FILMS_1M = (
    "10::Amélie: A Tale (1995)::Animation|Children's|Comedy\n"
    "20::Plain::Colons (1996)::Drama\n"
    "30::Never Rated (1997)::Horror\n"
).encode("latin-1")

RATINGS_20M = b"userId,movieId,rating,timestamp\n2,20,4.5,1112486027\n1,10,0.5,1112484676\n1,30,5.0,1112484819\n"
FILMS_20M = (
    "movieId,title,genres\r\n"
    '10,"Tale of ""Two"" Cities, A (1995)",Drama|Romance\r\n'
    "20,Amélie (2001),(no genres listed)\r\n"
    "30,Plain (1996),Drama\r\n"
    "40,Never Rated (1997),Horror\r\n"
).encode()

FILES = {
    "ml-1m": {"ratings.dat": RATINGS_1M, "movies.dat": FILMS_1M},
    "ml-20m": {"ratings.csv": RATINGS_20M, "movies.csv": FILMS_20M},
}


def write_unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, inner: str, files: dict[str, bytes]) -> Path:
    """The files in the folder `inner` of a zip, among others as archives have them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{inner}/", "")
        archive.writestr(f"{inner}/README", "about the data")
        for name, content in files.items():
            archive.writestr(f"__MACOSX/{inner}/._{name}", b"\0\5\26\7")
            archive.writestr(f"{inner}/{name}", content)
    return path
