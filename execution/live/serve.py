"""An account's page on a port of this machine: one file, which is only read."""

from __future__ import annotations

import os
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from execution.account_lock import PAGE
from execution.live.loop import print_line
from foundation.errors import InputError

LOOPBACK = "127.0.0.1"
PATIENCE = 10.0  # seconds for the bytes of a request
MOST = 32  # requests at a time
LARGEST = 16 * 2**20  # bytes of a page
# What a page says of its scripts and styles is in it; a browser is to keep and frame nothing.
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Show an account's page within; yields its address. Port 0 is any that is free."""
    try:
        server = _Server(folder / PAGE, port)
    except (OSError, OverflowError) as error:
        raise InputError(f"--port: {port} cannot be used: {error}; name another one") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def serve(folder: Path, port: int) -> None:
    """Show an account's page until the command is ended."""
    with served(folder, port) as address:
        print_line(f"The page is at {address} until this command is ended.")
        threading.Event().wait()


def is_host_of(header: str | None, port: int) -> bool:
    """Whether a request was meant for this server: no other name leads a browser here."""
    hosts = (LOOPBACK, "localhost", f"{LOOPBACK}:{port}", f"localhost:{port}")
    return header is not None and header.lower() in hosts


def _content(path: Path) -> bytes | None:
    """What a regular file holds; none where there is none, a link being none."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            return file.read(LARGEST) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError:
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST

    def __init__(self, page: Path, port: int) -> None:
        self.page = page
        self._room = threading.BoundedSemaphore(MOST)
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; whoever comes while `MOST` are answered is turned away."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away while it asks, or is answered, is none."""


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the page, and nothing else."""

    server: _Server
    timeout = PATIENCE
    server_version = "page"
    sys_version = ""

    def do_GET(self) -> None:
        if not is_host_of(self.headers.get("Host"), self.server.server_port):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"This page is for this machine alone.\n")
        elif self.path not in ("/", f"/{PAGE}"):
            self._answer(HTTPStatus.NOT_FOUND, b"The page is at /\n")
        elif (page := _content(self.server.page)) is None:
            self._answer(HTTPStatus.NOT_FOUND, b"No page was written yet: the loop does so.\n")
        else:
            self._answer(HTTPStatus.OK, page, "text/html")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Whoever asks is not logged."""
