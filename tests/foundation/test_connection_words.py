"""What became of a connection is said with its host, by real connections that fail."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from foundation.transport import Pace, Transport, connection_words


def words_for(url: str, deadline: float = 5.0, read: float = 5.0) -> str:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Transport((5.0, read), deadline, 1, Pace(None)))
    with pytest.raises(requests.RequestException) as caught:
        session.get(url)
    return connection_words(caught.value)


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_port_where_nobody_listens_refused_the_connection() -> None:
    with listener() as server:
        port = server.getsockname()[1]
    words = words_for(f"http://ada:secret@127.0.0.1:{port}/v2")
    assert words.startswith(f"127.0.0.1:{port}: ")
    assert "refused" in words


@pytest.mark.parametrize("times", [(0.2, 5.0), (5.0, 0.2)], ids=["deadline", "read"])
def test_a_silent_server_did_not_answer_is_named(times: tuple[float, float]) -> None:
    with listener() as server:
        port = server.getsockname()[1]
        words = words_for(f"http://127.0.0.1:{port}", *times)
    assert words.startswith(f"127.0.0.1:{port}: ")
