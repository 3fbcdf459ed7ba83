"""How the loop is, as JSON on a port of this machine: for a supervisor, a container, a dashboard.

`GET /health` answers 200 while the loop makes progress, and 503 once it has made none for longer
than its watchdog allows.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from foundation.errors import InputError

LOOPBACK = "127.0.0.1"
STUCK = 180.0  # seconds without progress after which the loop is not well


class Health:
    """What the loop says of itself, and when it last made progress.

    clock: seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._progress_at = clock()

    def say(self, **facts: object) -> None:
        """Add facts to what is said; each is progress."""
        with self._lock:
            self._facts |= facts
            self._progress_at = self._clock()

    def answer(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether the loop is well, and what is said of it."""
        with self._lock:
            seconds = self._clock() - self._progress_at
            well = seconds <= STUCK
            facts = {"well": well, "seconds_since_progress": round(seconds, 1), **self._facts}
        return well, facts


@contextmanager
def served(health: Health, port: int | None) -> Iterator[int | None]:
    """Answer on a port of this machine within; none answers nowhere, 0 takes any that is free.

    Yields the port.

    Raises
    ------
    InputError
        for a port that is taken.
    """
    if port is None:
        yield None
        return
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), _handler_of(health))
    except OSError as error:
        raise InputError(
            f"health_port: {port} cannot be used: {error.strerror}; name another one, or null"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler_of(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers `GET /health`, and nothing else."""

        def do_GET(self) -> None:
            """Answer."""
            well, facts = health.answer()
            known = self.path == "/health"
            content = json.dumps(facts if known else {"try": "/health"}, default=str).encode()
            self.send_response((200 if well else 503) if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None:
            """Whoever asks is not logged."""

    return Handler
