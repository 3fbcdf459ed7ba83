"""Both practice servers take the same address and speed, and refuse the same ones."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from practice.serving import MAX_CLOCK_SPEED, ServerArgumentParser, ServerOptions, serve
from tests.support.messages import refused


def serving_of(*words: str) -> ServerOptions:
    return ServerArgumentParser("practice.alpaca_server", port=8000).parse(words)[1]


@given(st.text())
def test_speed_flag_accepts_wait_or_a_bounded_number(word: str) -> None:
    try:
        expected = float(word)
    except ValueError:
        expected = float("nan")
    if word == "wait" or 0 < expected <= MAX_CLOCK_SPEED:
        assert serving_of(f"--speed={word}").clock_speed == (None if word == "wait" else expected)
    else:
        with pytest.raises(InputError, match="--speed: "):
            serving_of(f"--speed={word}")


@given(st.integers())
def test_port_outside_0_to_65535_is_refused(port: int) -> None:
    if 0 <= port < 65_536:
        assert serving_of(f"--port={port}").url == f"http://127.0.0.1:{port}"
    else:
        with pytest.raises(InputError, match=f"--port: {port} is outside 1 … 65535"):
            serving_of(f"--port={port}")


@pytest.mark.parametrize("host", ["a" * 70, "2001:db8::1", ""])
def test_host_that_cannot_be_bound_is_refused(host: str) -> None:
    with refused(InputError, host, varies=r":\d+: .*\)\)"):
        ServerOptions(host, 8000).open_listener()


def test_occupied_port_is_refused_before_reading_bars() -> None:
    taken = ServerOptions("127.0.0.1", 8000)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = replace(taken, port=listening.getsockname()[1])
        unread: Any = None
        with refused(InputError, taken.port, varies=r":\d+: .*\)\)"):
            serve(taken, unread)
