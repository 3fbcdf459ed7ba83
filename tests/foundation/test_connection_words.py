"""What became of a connection is said in words, by real connections that fail."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from foundation.connection_words import connection_words
from foundation.transport import Pace, Transport


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
    assert words_for(f"http://127.0.0.1:{port}/v2") == f"127.0.0.1:{port} refused the connection"


def test_a_name_that_nobody_knows_could_not_be_found() -> None:
    assert words_for("http://nobody.invalid/v2") == "nobody.invalid could not be found"


@pytest.mark.parametrize("times", [(0.2, 5.0), (5.0, 0.2)], ids=["deadline", "read"])
def test_a_silent_server_did_not_answer_in_so_many_seconds(times: tuple[float, float]) -> None:
    with listener() as server:
        port = server.getsockname()[1]
        words = words_for(f"http://127.0.0.1:{port}", *times)
    assert words == f"127.0.0.1:{port} did not answer in 0.2 s"


def test_a_server_that_hangs_up_closed_the_connection() -> None:
    def hang_up(server: socket.socket) -> None:
        connection, _ = server.accept()
        connection.recv(100)
        # The close is a reset: nothing that waits is sent.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with listener() as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        words = words_for(f"http://127.0.0.1:{port}")
        thread.join()
    assert words == f"127.0.0.1:{port} closed the connection"


def test_what_has_no_words_is_left_to_the_library() -> None:
    assert connection_words(requests.RequestException("something else")) == ""
