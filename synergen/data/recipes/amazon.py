"""What the recipes of the Amazon files of 2014 share: where the files are, and their lines.

Source: He and McAuley, "Ups and Downs" (WWW 2016); McAuley et al., "Image-Based Recommendations on Styles and
Substitutes" (SIGIR 2015).
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from synergen.data.recipe import Download, Report
from synergen.errors import UserError

LICENCE: Final = (
    "the publishers state none; they ask for a citation of He and McAuley (WWW 2016) or McAuley et al. (SIGIR 2015)"
)

RATINGS: Final = pl.Enum([f"rating {stars}" for stars in range(1, 6)])
"""The actions of events, by 0, 1, … for one star, two, …"""

FETCH: Final = "delete it and fetch it again"
"""What to do about a file that is cut or damaged."""

_FOLDER = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"


def download(name: str, sha256: str | None = None, needed: bool = True) -> Download:
    """A file of the data set by its published name."""
    return Download(name, f"{_FOLDER}/{name}", sha256, needed)


def find_file(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, or the same unpacked or packed."""
    unpacked = name.removesuffix(".gz")
    paths = (folder / candidate for candidate in (name, unpacked, f"{unpacked}.gz"))
    return next((path for path in paths if path.is_file()), None)


def need_file(folder: Path, name: str) -> Path:
    """As `find_file`.

    Raises:
        UserError: it is not there.
    """
    path = find_file(folder, name)
    if path is None:
        raise UserError(f"{folder}: there is no {name} in this folder; fetch it from {_FOLDER}/{name}")
    return path


def numbered_lines(path: Path, report: Report) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, which may be packed with gzip, from 1; progress is that of the bytes on disk.

    Raises:
        UserError: it cannot be read, or is cut or damaged.
    """
    doing = f"reading {path.name}"
    try:
        with open(path, "rb") as raw:
            size, packed = path.stat().st_size, path.suffix == ".gz"
            file = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20) if packed else raw
            for number, line in enumerate(file, 1):
                if number % 10_000 == 1:
                    report(doing, raw.tell(), size)
                yield number, line
            report(doing, size, size)
    except gzip.BadGzipFile as error:
        raise UserError(f"{path}: this is no gzip file ({error}), perhaps a page about an error; {FETCH}") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: the file is cut or damaged ({error}); {FETCH}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
