"""One file over HTTP in as many attempts as it takes: each goes on where the last broke off."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import requests
import urllib3

from synergen.data.recipe import Report
from synergen.files import write_json

ATTEMPTS = 5
"""In a row that bring nothing new."""
LONGEST_PAUSE = 120.0
"""Seconds between attempts, whatever a server's Retry-After asks for."""
TIMEOUT = 60.0
"""Seconds without a byte."""

_PASSING = {408, 429, 500, 502, 503, 504}
_PIECE = 1 << 16


class Refused(Exception):
    """Why a file cannot be had."""


class _Interrupted(Exception):
    """An attempt ended early; another may do better after a number of seconds that the server named."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds or 0.0


@dataclass(frozen=True)
class _Version:
    """Which content a server offers at a URL."""

    url: str
    validator: str | None
    """What If-Range takes: a strong ETag, or else the time of change."""
    length: int | None
    """Of the whole content, in bytes."""

    @classmethod
    def offered(cls, url: str, response: requests.Response) -> "_Version":
        etag = response.headers.get("ETag", "W/")
        validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        if response.status_code == 200:
            length = response.headers.get("Content-Length", "")
        else:
            length = response.headers.get("Content-Range", "").rpartition("/")[2]
        return cls(url, validator, int(length) if length.isdecimal() else None)

    def goes_on_with(self, rest: "_Version") -> bool:
        """Whether a partial answer is of this version; a server may leave the validator out of one."""
        return rest.validator in (None, self.validator) and self.length in (None, rest.length)


@dataclass(frozen=True)
class Transfer:
    """The file at `url` on its way to `path`: its bytes in `part`, beside them which version they begin."""

    url: str
    path: Path
    shows_its_end: bool
    """Whether a file cut short can be told from a whole one by what it holds."""
    report: Report

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def _version_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part.json")

    def complete(self, pause: Callable[[float], None]) -> None:
        """Bring `part` to its full length.

        Raises:
            Refused: the server does not have the file, or several attempts in a row brought nothing.
        """
        if self._begun() is None:
            self.discard()  # bytes of another address, or of who knows which version
        furthest, failures = self._arrived(), 0
        while True:
            try:
                return self._attempt()
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason, seconds = _root(error), 0.0
            except _Interrupted as error:
                reason, seconds = str(error), error.seconds
            arrived = self._arrived()  # no progress where a server sends the same beginning again and again
            failures = 0 if arrived > furthest else failures + 1
            furthest = max(furthest, arrived)
            if failures == ATTEMPTS:
                raise Refused(f"{ATTEMPTS} attempts brought nothing new ({reason}); try again later: what came is kept")
            pause(min(max(seconds, 2.0 ** (failures - 1)), LONGEST_PAUSE))

    def discard(self) -> None:
        """Forget what has arrived."""
        self.part.unlink(missing_ok=True)
        self._version_file.unlink(missing_ok=True)

    def _attempt(self) -> None:
        version = self._begun()
        if version is None or version.length != self._arrived():
            self._receive(version)
        if not self.shows_its_end:
            self._refuse_if_longer()

    def _receive(self, version: _Version | None) -> None:
        arrived = self._arrived() if version else 0
        with self._get(arrived, version) as response:
            offered = _Version.offered(self.url, response)
            self._check(response)
            pieces = response.raw.stream(_PIECE, decode_content=False)
            first = next(pieces, b"")
            if response.status_code == 200:
                if is_page(first):  # before the bytes that it is no continuation of are given up
                    raise Refused("the server sends an HTML page instead of the file")
                self._begin(offered)
                arrived = 0
            elif not (version and version.goes_on_with(offered) and _starts_at(arrived, response)):
                self.discard()
                raise _Interrupted(f"the server cannot go on at byte {arrived:,}")
            with open(self.part, "ab") as file:
                for piece in chain([first], pieces):
                    arrived += file.write(piece)
                    self.report(self.path.name, arrived, offered.length or 0)
                file.flush()
                os.fsync(file.fileno())
        if offered.length not in (None, arrived):
            raise _Interrupted(f"{arrived:,} of {offered.length:,} bytes came")

    def _check(self, response: requests.Response) -> None:
        """Raise unless the answer brings bytes, or says that there are none where they were asked for."""
        status = f"the server answers {response.status_code} {response.reason}"
        if response.status_code in _PASSING:
            raise _Interrupted(status, urllib3.Retry().get_retry_after(response.raw))
        if response.status_code not in (200, 206, 416):
            raise Refused(status)
        if response.status_code == 200 and not (
            self.shows_its_end or response.raw.chunked or "Content-Length" in response.headers
        ):
            raise Refused("the server does not say how long the file is, so that no one can tell when it is whole")

    def _refuse_if_longer(self) -> None:
        arrived = self._arrived()
        with self._get(arrived, None) as response:
            length = _Version.offered(self.url, response).length
        if response.status_code == 206 and length is not None and length > arrived:
            self.discard()
            raise Refused(f"the file is longer than the {arrived:,} bytes that the server said; try again later")

    def _get(self, start: int, version: _Version | None) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if version and version.validator:
            headers["If-Range"] = version.validator
        return requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)

    def _begin(self, version: _Version) -> None:
        self.discard()  # first, so that no bytes ever lie beside a version that they are not of
        write_json(self._version_file, asdict(version))

    def _begun(self) -> _Version | None:
        """The version that the bytes in `part` begin, where it is known well enough to go on with them."""
        try:
            version = _Version(**json.loads(self._version_file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return version if version.url == self.url and version.validator and self._arrived() else None

    def _arrived(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def is_page(head: bytes) -> bool:
    """Whether bytes are the beginning of an HTML page."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _starts_at(start: int, response: requests.Response) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _root(error: BaseException) -> str:
    """What the operating system said; the layers above wrap it in their own words."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
