"""A file server on this machine that fails in the ways that servers do."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """How one request is answered."""

    content: bytes
    status: int = 200
    etag: str | None = '"1"'
    headers: Mapping[str, str] = field(default_factory=dict)
    takes_ranges: bool = True
    heeds_if_range: bool = True
    longest_range: int | None = None
    """Bytes that an answer to a Range holds at most."""
    starts_ranges_at: int | None = None
    """In place of the byte asked for."""
    breaks_after: int | None = None
    """Bytes of this answer that are sent before the connection is closed."""
    stated_length: int | None = None
    """In place of the length of what is sent."""
    framing: str = "length"
    """Or `chunked`, or `close`: nothing but the closed connection ends the content."""
    stalls: float = 0.0
    """Seconds before the connection is closed."""


class FaultyServer(ThreadingHTTPServer):
    """Gives its answers in turn, then the last one for ever."""

    daemon_threads = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.requests: list[Mapping[str, str]] = []
        """The headers of each."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [headers.get("Range") for headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers[min(len(self.server.requests), len(answers) - 1)]
        self.server.requests.append(self.headers)
        self.close_connection = True
        start, whole, body, status = 0, len(answer.content), answer.content, answer.status
        asked = self.headers.get("Range")
        same = not answer.heeds_if_range or self.headers.get("If-Range") in (None, answer.etag)
        if asked and answer.takes_ranges and same and status == 200:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if answer.starts_ranges_at is not None:
                start = answer.starts_ranges_at
            body = answer.content[start:][: answer.longest_range]
            status = 206 if body else 416
        self.send_response(status)
        if answer.etag is not None:
            self.send_header("ETag", answer.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{whole}")
        if answer.framing == "length":
            self.send_header("Content-Length", str(answer.stated_length or len(body)))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[: answer.breaks_after]
        if answer.framing == "chunked":
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) + (b"0\r\n\r\n" if sent == body else b""))
        else:
            self.wfile.write(sent)
        self.wfile.flush()
        if answer.stalls:
            threading.Event().wait(answer.stalls)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(*answers: Answer) -> Iterator[FaultyServer]:
    with FaultyServer(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
