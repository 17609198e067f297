"""Tables of a published archive, read from its zip or from the unpacked files, block of lines after block of lines."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO

import polars as pl

from synergen.data.recipe import Download, RawFiles, Report
from synergen.errors import UserError

BLOCK = 1 << 26
"""Bytes that are read and parsed at once."""


def find_archive(
    folder: Path, download: Download, inner: str, events: Sequence[str], about_items: Sequence[str]
) -> RawFiles:
    """The zip as it is downloaded, else its members, unpacked into `folder` or into `folder`/`inner`.

    Raises:
        UserError: neither the zip nor all of its members are there.
    """
    archive = folder / download.name
    if archive.is_file():
        return RawFiles((archive,), (archive,))
    for place in (folder, folder / inner):
        unpacked = RawFiles(tuple(place / name for name in events), tuple(place / name for name in about_items))
        if all(path.is_file() for path in unpacked.all):
            return unpacked
    raise UserError(
        f"{folder}: there is neither {download.name} nor all of {', '.join((*events, *about_items))}; "
        f"download {download.url} into this folder and leave it packed or unpack it there"
    )


def place_of(path: Path, member: str) -> str:
    """Where `read_lines` finds a member, for messages."""
    return f"{path}, {member}" if path.suffix == ".zip" else str(path.with_name(member))


def read_lines(path: Path, member: str, report: Report) -> Iterator[bytes]:
    """Blocks of whole lines of a member of the zip at `path`, or of the file of that name beside `path`.

    Raises:
        UserError: the file cannot be read or is empty, the zip is damaged or does not hold the member, or the last line
            has no end, as in a file that is cut short.
    """
    rest = b""
    for piece in _pieces(path, member, report):
        lines, end, rest = (rest + piece).rpartition(b"\n")
        if end:
            yield lines + end
    if rest:
        raise UserError(
            f"{place_of(path, member)}: the last line, '{_shown(rest)}', has no end, so the file may be cut short; "
            "download the archive again, or end the line if the file is whole"
        )


def _pieces(path: Path, member: str, report: Report) -> Iterator[bytes]:
    source = path if path.suffix == ".zip" else path.with_name(member)
    try:
        with ExitStack() as stack:
            file, size = _open_member(source, member, stack)
            done = 0
            while piece := file.read(BLOCK):
                done += len(piece)
                yield piece
                report(f"reading {member}", done, size)
            if not done:
                raise UserError(f"{place_of(path, member)} is empty; download the archive again")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zipfile and the decompressors raise a dozen kinds for a damaged file
        raise UserError(
            f"{source}: {member} cannot be read ({error or type(error).__name__}); the file may be cut short or may be "
            "a web page: delete it and download the archive again"
        ) from error


def _open_member(source: Path, member: str, stack: ExitStack) -> tuple[IO[bytes], int]:
    """The open file and its size in bytes."""
    if source.suffix != ".zip":
        return stack.enter_context(source.open("rb")), source.stat().st_size
    archive = stack.enter_context(zipfile.ZipFile(source))
    for entry in archive.infolist():
        if Path(entry.filename).name == member:
            return stack.enter_context(archive.open(entry)), entry.file_size
    raise UserError(f"{source}: there is no {member} in this zip; download the archive again")


def read_tables(
    path: Path,
    member: str,
    columns: Mapping[str, pl.DataType | type[pl.DataType]],
    report: Report,
    header: str | None = None,
    separator: str = ",",
) -> Iterator[pl.DataFrame]:
    """The named columns of a csv file that `read_lines` finds, one table a block; null where a line lacks the field.

    Args:
        columns: name and type of the columns wanted.
        header: names of all fields, where the first line does not hold them.

    Raises:
        UserError: as `read_lines`; a missing column; with its number, a line with too many fields or with a field of
            another type.
    """
    where = place_of(path, member)
    blocks = read_lines(path, member, report)
    line, rows = 1, b""
    if header is None:
        top, _, rows = next(blocks, b"").partition(b"\n")
        line, header = 2, top.decode("utf-8-sig", "replace").rstrip()
    names = header.split(",")
    missing = columns.keys() - names
    if missing:
        raise UserError(
            f"{where}, line 1: there is no column {', '.join(sorted(missing))} in '{header[:100]}'; this is another "
            "file, or a web page: download the archive again"
        )
    # names of our own for other columns, since polars takes some first bytes for those of a compressed file
    head = ",".join(name if name in columns else f"other {at}" for at, name in enumerate(names)).encode() + b"\n"

    def parse(lines: bytes) -> pl.DataFrame:
        if separator != ",":  # polars splits at single bytes only
            lines = lines.replace(separator.encode(), b",")
        return pl.read_csv(head + lines, schema_overrides=columns, infer_schema=False).select(*columns)

    for block in chain([rows], blocks):
        try:
            yield parse(block)
        except pl.exceptions.PolarsError as error:
            raise _refused_line(block, parse, error, where, line) from None
        line += block.count(b"\n")


def _refused_line(
    block: bytes, parse: Callable[[bytes], pl.DataFrame], reason: Exception, where: str, first: int
) -> UserError:
    """The error that names the first line that cannot be parsed, found by bisection."""
    lines = block.split(b"\n")
    start, stop = 0, len(lines)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            parse(b"\n".join(lines[start:middle]) + b"\n")
            start = middle
        except pl.exceptions.PolarsError as error:
            stop, reason = middle, error
    return UserError(
        f"{where}, line {first + start}, '{_shown(lines[start])}': {str(reason).splitlines()[0]}; repair or remove the "
        "line, or download the archive again"
    )


def _shown(line: bytes) -> str:
    return line[:100].decode("utf-8", "replace").rstrip()
