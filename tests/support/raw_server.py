"""A server on loopback that answers raw connections."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, int], None]  # a connection, and the number of the request
HANG = 60.0  # seconds after which something hangs


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server on loopback that answers each connection once: its address, and what it was sent.

    What it was sent is whole once the block has ended.
    """
    requests_seen: list[bytes] = []
    number = itertools.count()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    ended = threading.Event()
    answers: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            requests_seen.append(connection.recv(65536))
            answer(connection, next(number))

    def serve() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                answers.append(threading.Thread(target=one, args=(connection,), daemon=True))
                answers[-1].start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests_seen
    finally:
        ended.set()
        for each in (thread, *answers):
            each.join(HANG)
            assert not each.is_alive(), "a client holds its connection"
        listener.close()
