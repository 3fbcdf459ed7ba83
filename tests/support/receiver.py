"""A loopback server that receives the messages of apprise's json:// service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 60.0  # seconds until a test that waits for a thread gives up
SECRET = "hush-hush-token-4711"


class Receiver(ThreadingHTTPServer):
    """A loopback server that keeps the messages it receives; a path may be refused or held."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.refused: set[str] = set()
        self.held: dict[str, threading.Event] = {}

    def url(self, path: str = "a") -> str:
        return f"json://somebody:{SECRET}@127.0.0.1:{self.server_port}/{SECRET}/{path}"

    def texts(self, path: str = "a") -> list[str]:
        return [body["message"] for at, body in self.received if at.endswith(f"/{path}")]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.rpartition("/")[2]
        if path in self.server.held:
            self.server.held[path].wait(PATIENCE)
        self.server.received.append((self.path, body))
        self.send_response(500 if path in self.server.refused else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        for event in server.held.values():
            event.set()
        server.shutdown()
        thread.join(PATIENCE)
