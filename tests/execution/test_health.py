"""The loop's health is told on this machine alone, and a loop that is stuck is not well."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from typing import Any

import pytest

from execution.live.health import STUCK, Health, served
from foundation.errors import InputError


def asked(port: int | None, path: str = "/health") -> tuple[int, dict[str, Any]]:
    assert port is not None
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


def test_a_loop_without_progress_for_three_minutes_is_not_well(clock: Seconds) -> None:
    health = Health(clock)
    health.say(state="waiting", next="trade at 2024-03-05T15:30Z")
    with served(health, 0) as port:
        clock.now = STUCK
        status, facts = asked(port)
        assert (status, facts["well"], facts["state"]) == (200, True, "waiting")
        clock.now = STUCK + 1
        status, facts = asked(port)
        assert (status, facts["well"]) == (503, False)
        assert facts["seconds_since_progress"] == STUCK + 1
        health.say(state="deciding")
        assert asked(port)[0] == 200
        assert asked(port, "/etc/passwd")[0] == 404


def test_it_listens_on_this_machine_alone_and_a_taken_port_is_one_line() -> None:
    with served(Health(), 0) as port:
        assert port is not None
        # All of 127.0.0.0/8 is this machine: a server on every address would answer on this one.
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))
        told = pytest.raises(InputError, match=r"health_port: .* name another one, or null")
        with told, served(Health(), port):
            pytest.fail("two listen")
    with served(Health(), None) as nothing:
        assert nothing is None
